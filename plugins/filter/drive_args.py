# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""drive_args: drives as arguments of QEMU. Documented in drive_args.yml."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, plain
from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec, styles

_OUTPUTS = ("args", "line", "report")


def drive_args(
    drives: t.Any,
    style: str = "blockdev",
    machine: str = "",
    form: str = "json",
    lossy: bool = False,
    output: str = "args",
) -> t.Any:
    """The drives in one of QEMU's styles."""
    for name, value, known in (
        ("style", style, styles.STYLES),
        ("form", form, ("json", "keys")),
        ("output", output, _OUTPUTS),
    ):
        if value not in known:
            raise AnsibleFilterError(f"platter.qemu.drive_args: {name} is {value!r}, not one of {', '.join(known)}")
    try:
        spec = read_spec.read(plain.value(drives), plain.value(machine))
        rendered = styles.render(spec, plain.value(style), form=form, lossy=bool(lossy))
        return _put(rendered, output)
    except (errors.EngineError, ValueError) as exc:
        raise AnsibleFilterError(f"platter.qemu.drive_args: {exc}") from None


def _put(rendered: styles.Rendered, output: str) -> t.Any:
    if output == "args":
        return rendered.words
    return rendered.line if output == "line" else {"args": rendered.words, "line": rendered.line, "lost": rendered.lost}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"drive_args": drive_args}
