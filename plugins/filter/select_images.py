# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""select_images: a JMESPath expression over the facts of images. Documented in select_images.yml."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError


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
    images = _plain(_images(data))
    try:
        return jmespath.search(_plain(expression), images)
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


def _plain(value: t.Any) -> t.Any:
    """Without Ansible's own types: JMESPath's functions look at the exact type of a string, and know only Python's."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, t.Mapping):
        return {_plain(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, bool) or value is None:
        return value
    return _plain_number(value)


def _plain_number(value: t.Any) -> t.Any:
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else value


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"select_images": select_images}
