# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The definition of a VM's drives: a value, the files it is written down in, and what they say. Pure."""

from __future__ import annotations

import functools
import json
import shlex
import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import facts, keyval, read_spec, styles
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._live.state import GENERAL_ARGUMENTS

#: the files of a definition: what it says, and what is made of that
DEFINITION, ARGS, START = "definition.json", "args", "start"
#: what C(start) asks before it starts QEMU, beside it
PROGRAM = "before_start.pyz"
_START = """\
#!/bin/sh
# Made by platter.qemu.qemu_drive, which writes it anew when the drives of VM %s change.
# Starts the VM with them. Arguments of QEMU about other things can follow: start -m 2G -daemonize
export %s
exec %s \\
%s  "$@"%s
"""


@dataclass(frozen=True)
class VmDefinition:
    """C(told): the drives as tasks have described them, and C(controllers), C(objects), C(nodes); C(spec): the same with
    all that was added, such as places. C(shared): ids of drives that other VMs may have too.

    C(qemu): the program, C(machine): QEMU's machine type, empty where neither is said. C(arguments): of QEMU, about
    other things.
    """

    vm: str
    spec: DrivesSpec
    told: t.Mapping[str, t.Any] = field(default_factory=dict, compare=False)
    style: str = "blockdev"
    lossy: bool = False
    qemu: str = ""
    machine: str = ""
    arguments: t.Tuple[str, ...] = ()
    shared: t.FrozenSet[str] = frozenset()

    def general(self) -> t.List[str]:
        """The arguments that are not about drives."""
        named = [] if {"-name", "--name"} & set(self.arguments) else ["-name", self.vm]
        machine = ["-machine", self.machine] if self.machine else []
        return [*named, *machine, *self.arguments]

    def drive_words(self) -> t.List[str]:
        """The arguments about drives. Raises SpecError."""
        return list(_rendered(self.spec, self.style, self.lossy).words)

    def lost(self) -> t.List[str]:
        """What the style has no words for, and the arguments are without. Raises SpecError."""
        return list(_rendered(self.spec, self.style, self.lossy).lost)

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results and diffs show it."""
        shown = facts.of_spec(self.spec)
        for each in shown["drives"]:
            each.update({"share": True} if each["id"] in self.shared else {})
        shown.update(style=self.style, machine=self.machine or shown["machine"], qemu=self.qemu)
        shown["args"] = [*self.general(), *self.drive_words()]
        shown.update({"lossy": True} if self.lossy else {})
        shown.update({"lost": self.lost()} if self.lost() else {})
        return shown


@functools.lru_cache(maxsize=8)
def _rendered(spec: DrivesSpec, style: str, lossy: bool) -> styles.Rendered:
    """It is asked for again and again."""
    return styles.render(spec, style, lossy=lossy)


def devices_in(arguments: t.Sequence[str]) -> t.Dict[str, t.Tuple[str, str]]:
    """The devices with ids that arguments make: what is said of each, and its bus."""
    found = {}
    for word, value in zip(arguments, arguments[1:]):
        options = keyval.mapping(value, "driver") if word in ("-device", "--device") else {}
        if options.get("id"):
            found[str(options["id"])] = (value, str(options.get("bus", "")))
    return found


def to_text(made: VmDefinition) -> str:
    """All of it, as JSON."""
    written = {
        "vm": made.vm,
        "style": made.style,
        "lossy": made.lossy,
        "qemu": made.qemu,
        "machine": made.machine,
        "arguments": list(made.arguments),
        "shared": sorted(made.shared),
        "told": made.told,
        "drives": facts.of_spec(made.spec),
        "args": made.drive_words(),
    }
    return json.dumps(written, indent=1, sort_keys=True) + "\n"


def parse(text: str) -> t.Optional[VmDefinition]:
    """What a file says; None where it was not written by us."""
    try:
        written = json.loads(text)
        return VmDefinition(
            str(written["vm"]),
            read_spec.read(written["drives"]),
            dict(written["told"]),
            str(written["style"]),
            bool(written["lossy"]),
            str(written["qemu"]),
            str(written["machine"]),
            tuple(map(str, written["arguments"])),
            frozenset(map(str, written["shared"])),
        )
    except (errors.EngineError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def texts(made: VmDefinition) -> t.Dict[str, str]:
    """The content of each file of a definition. Raises SpecError.

    C(args) has a zero byte after each argument, as C(xargs -0) reads them: nothing has to be quoted.
    """
    words = [*made.general(), *made.drive_words()]
    return {DEFINITION: to_text(made), ARGS: "".join(word + "\0" for word in words), START: _start(made)}


def _start(made: VmDefinition) -> str:
    """A line for each option of the drives; quoted words can have lines of their own in them."""
    general = "".join("  %s \\\n" % line for line in _lines(made.general()))
    drives = "".join(" \\\n  " + line for line in _lines(made.drive_words()))
    count = "%s=%d" % (GENERAL_ARGUMENTS, len(made.general()))
    return _START % (made.vm, count, shlex.quote(made.qemu), general, drives)


def _lines(words: t.Sequence[str]) -> t.List[str]:
    lines: t.List[t.List[str]] = []
    for word in words:
        if word[:1] == "-" or not lines:
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return [" ".join(line) for line in lines]
