# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""select_images: a JMESPath expression over the facts of images. Documented in select_images.yml."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.module_utils._core import plain


def select_images(data: t.Any, expression: str) -> t.Any:
    """What the expression finds in a list of image facts, or in a result that has one."""
    try:
        import jmespath
    except ImportError as exc:
        raise AnsibleFilterError(
            "The filter platter.qemu.select_images needs the Python package jmespath on the controller. "
            "Install it with: pip install jmespath"
        ) from exc
    if not isinstance(expression, str):
        raise AnsibleFilterError(
            f"platter.qemu.select_images: the expression must be text, not {_described(expression)}"
        )
    images = plain.value(_images(data))
    try:
        return jmespath.search(plain.value(expression), images)
    except jmespath.exceptions.JMESPathError as exc:
        raise AnsibleFilterError(f"platter.qemu.select_images: {expression!r} cannot be evaluated: {exc}") from exc


def _images(data: t.Any) -> t.List[t.Any]:
    """From the list itself, the result of a task, or of a task with a loop."""
    if isinstance(data, t.Mapping) and "results" in data:
        return [image for result in data["results"] if not result.get("skipped") for image in _images(result)]
    if isinstance(data, t.Mapping) and "images" in data:
        return list(data["images"])
    if isinstance(data, (list, tuple)):
        return list(data)
    raise AnsibleFilterError(
        "platter.qemu.select_images takes the result of platter.qemu.disk_image_info, or its list images, "
        f"not {_described(data)}"
    )


def _described(data: t.Any) -> str:
    if isinstance(data, t.Mapping):
        return f"a dictionary with the keys {', '.join(sorted(map(str, data)))}"
    return f"a value of type {type(data).__name__}"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"select_images": select_images}
