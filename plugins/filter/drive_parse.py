# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""drive_parse: what a command line of QEMU says of drives. Documented in drive_parse.yml."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, plain
from ansible_collections.platter.qemu.plugins.module_utils._drive import facts, libvirt_style, parse_arguments


def drive_parse(line: t.Any, machine: str = "", formats: t.Optional[t.Mapping[str, str]] = None) -> t.Dict[str, t.Any]:
    """The drives in a line, in a list of arguments, in what /proc/PID/cmdline holds, in QMP commands, or in libvirt's XML."""
    given = line.decode("utf-8", "surrogateescape") if isinstance(line, bytes) else plain.value(line)
    try:
        xml = _xml(given)
        if not isinstance(formats or {}, t.Mapping):
            raise ValueError("formats is no dictionary of paths and their formats")
        if xml and formats:
            raise ValueError("formats is for lines; XML says which format each disk has")
        if xml:
            spec, notes = libvirt_style.read(xml, plain.value(machine))
            return dict(facts.of_spec(spec), program=[], rest=[], notes=notes)
        words = parse_arguments.words(given) if isinstance(given, str) else given
        if not isinstance(words, list):
            raise ValueError(f"{type(line).__name__} is neither a line nor a list of arguments or QMP commands")
        parsed = parse_arguments.parse(words, plain.value(machine), plain.value(formats or {}))
    except (errors.EngineError, ValueError) as exc:
        raise AnsibleFilterError(f"platter.qemu.drive_parse: this cannot be: {exc}") from None
    return dict(facts.of_spec(parsed.spec), program=parsed.program, rest=parsed.rest, notes=parsed.notes)


def _xml(given: t.Any) -> str:
    """libvirt's XML, one text or what C(libvirt_disk) returns, a list of them; empty for all else."""
    texts = given if isinstance(given, list) else [given]
    if texts and all(isinstance(each, str) for each in texts) and texts[0].lstrip().startswith("<"):
        return "".join(texts)
    return ""


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"drive_parse": drive_parse}
