# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives from QEMU's arguments, from C(/proc/PID/cmdline), from QMP commands. Pure."""

from __future__ import annotations

import re
import shlex
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    devices,
    formats,
    keyval,
    link,
    nodes,
    parse_drive,
    places,
    start_arguments,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec, Object, sorted_options

#: options of QEMU that take no argument; what follows one of them and has no minus sign is a disk (C(-hda))
_FLAGS_TEXT = (
    "enable-kvm enable-hax nographic S s no-reboot no-shutdown daemonize nodefaults no-user-config nodefconfig "
    "full-screen no-acpi no-hpet no-fd-bootchk mem-prealloc only-migratable preconfig win2k-hack usb curses "
    "singlestep one-insn-per-tb async-teardown no-quit no-frame alt-grab ctrl-grab portrait xen-attach xen-domid-restrict "
    "old-param semihosting h help version no-kvm no-kvm-irqchip sdl std-vga localtime enable-sync-profile audio-help"
)
_FLAGS = frozenset(_FLAGS_TEXT.split())
_OBJECTS_TEXT = (
    "iothread secret secret_keyring throttle-group tls-creds-x509 tls-creds-psk tls-creds-anon pr-manager-helper "
    "tls-cipher-suites"
)
_OBJECTS = frozenset(_OBJECTS_TEXT.split())
#: as the last part of a path; with other names only where nothing comes before it
_PROGRAM = re.compile(r"^([^=,]*/)?(qemu-system-[a-z0-9_]+|qemu-kvm)\Z")
_FIRST_WORD = re.compile(r"^([^=,]*/)?[^/=,.]*(qemu|kvm)[^/=,.]*\Z")
#: what is quoted, and what an escape stands before; lines that go on, and comments in lines of their own
_AROUND_WORDS = re.compile(
    r"""'[^']*'|"(?:\\.|[^"\\])*"|(\\(?!\r?\n).)|\\\r?\n|^[ \t]*\#[^\n]*""", re.MULTILINE | re.DOTALL
)
#: between double quotes
_GOES_ON = re.compile(r"\\\r?\n|(\\.)", re.DOTALL)
_QMP = {"object-add": "object", "blockdev-add": "blockdev", "device_add": "device"}


@dataclass
class Parsed:
    """The drives, the arguments that are about something else, and what is worth knowing of the reading. C(program): the words
    up to the name of QEMU, which are no arguments.
    """

    spec: DrivesSpec
    rest: t.List[str] = field(default_factory=list)
    notes: t.List[str] = field(default_factory=list)
    program: t.List[str] = field(default_factory=list)


def words(text: str) -> t.List[str]:
    """The arguments in what a file of C(/proc) holds (zero bytes between them) or in a line as one types it."""
    if "\0" in text:
        return text.rstrip("\0").split("\0")
    return shlex.split(_AROUND_WORDS.sub(_kept, text))


def _kept(found: t.Match[str]) -> str:
    """What is quoted stays as it is, be it like a comment or a line that goes on; of the others nothing is a word."""
    text = found[0]
    if text[:1] == '"':
        return _GOES_ON.sub(lambda each: each[1] or "", text)
    return text if text[:1] == "'" or found[1] else " "


def options(arguments: t.Iterable[str]) -> t.Iterator[t.Tuple[str, t.Optional[str]]]:
    """Each option with its value, None where it has none. What QEMU takes for a disk is the value of an option without a name."""
    todo = iter(arguments)
    for word in todo:
        name = word.lstrip("-") if word[:1] == "-" and len(word) > 1 else ""
        if not name:
            yield "", word
        else:
            yield word, None if name in _FLAGS or name == "snapshot" else next(todo, None)


def parse(
    arguments: t.Sequence[t.Any], machine: str = "", known_formats: t.Optional[t.Mapping[str, str]] = None
) -> Parsed:
    """From a list of arguments, or of QMP commands (dicts). Raises ValueError (a sentence).

    C(machine): its type, where the arguments do not say it; C(known_formats): by the path, formats that they do not say.
    """
    reader = _Reader(machine)
    if any(isinstance(each, t.Mapping) for each in arguments):
        reader.commands(arguments)
    else:
        reader.arguments([str(each) for each in arguments])
    formats.fill_in(reader.found, known_formats or {})
    besides = start_arguments.taken(reader.rest)
    spec = replace(
        link.linked(reader.found), shares=besides.shares, boot=besides.boot, shared_memory=besides.shared_memory
    )
    return Parsed(spec, [word for entry in besides.rest for word in entry], reader.found.notes, reader.program)


class _Reader:
    def __init__(self, machine: str) -> None:
        self.found = link.Found(machine=devices.family(machine) if machine else "")
        self.rest: t.List[start_arguments.Entry] = []
        self.program: t.List[str] = []
        self._told = bool(machine)

    def arguments(self, arguments: t.Sequence[str]) -> None:
        todo = list(arguments)
        named = (
            number
            for number, word in enumerate(todo)
            if _PROGRAM.match(word) and todo[number - 1 : number] != ["-name"]
        )
        program = next(named, 0 if todo and _FIRST_WORD.match(todo[0]) and todo[0][:1] != "-" else -1)
        if program >= 0:
            self.program = todo[: program + 1]
            self._program(todo[program])
            todo = todo[program + 1 :]
        self._find_machine(todo)
        for word, value in options(todo):
            name = word.lstrip("-")
            if not name:
                self._short("hda", str(value))
            elif name == "snapshot":
                self.found.snapshot = True
            elif value is None:
                self.rest.append((word,))
            else:
                self._option(word, name, value)

    def _program(self, word: str) -> None:
        """C(qemu-system-aarch64) has no machine of its own; what comes before is the shell's."""
        if "qemu-system-" in word and not word.endswith(("x86_64", "i386")) and not self.found.machine:
            self.found.machine = word.rsplit("qemu-system-", 1)[-1]

    def _find_machine(self, arguments: t.Sequence[str]) -> None:
        """Before the rest, as what C(-hda) means depends on it."""
        for word, value in zip(arguments, arguments[1:]):
            if word.lstrip("-") in ("machine", "M") and word[:1] == "-" and not self._told:
                options = dict(keyval.split(value, "type"))
                if "type" in options:
                    self.found.machine = devices.family(options["type"])
        self.found.machine = self.found.machine or "pc"

    def _option(self, word: str, name: str, value: str) -> None:
        if name == "drive":
            self._drive(parse_drive.read(value))
        elif name in places.SHORT:
            self._short(name, value)
        elif name in ("blockdev", "device", "object"):
            first = {"blockdev": "driver", "device": "driver", "object": "qom-type"}[name]
            if not self.take(name, keyval.mapping(value, first)):
                self.rest.append((word, value))
        elif name in ("machine", "M"):
            self._machine(word, value)
        else:
            self.rest.append((word, value))

    def _short(self, name: str, value: str) -> None:
        interface, index = places.SHORT[name]
        line = parse_drive.read(keyval.join([("file", value)] + ([("media", "cdrom")] if name == "cdrom" else [])))
        line.place["if"] = interface or places.default_interface(self.found.machine)
        if index is not None:
            line.place["index"] = str(index)
        self._drive(line)

    def _drive(self, line: parse_drive.DriveLine) -> None:
        self.found.notes += line.notes
        self.found.add_drive(line)

    def _machine(self, word: str, value: str) -> None:
        """C(pflash0=NODE) is a drive; the rest is the machine's."""
        rest = []
        for key, each in keyval.split(value, "type"):
            if key.startswith("pflash") and key[6:].isdigit():
                self.found.add_device({"driver": "pflash", "drive": each, "index": int(key[6:])})
            else:
                rest.append((key, each))
        if rest:
            self.rest.append((word, keyval.join(rest) if len(rest) < len(keyval.split(value, "type")) else value))

    def commands(self, commands: t.Sequence[t.Any]) -> None:
        """QMP commands; others than those that add something are passed over."""
        self.found.machine = self.found.machine or "pc"
        for command in commands:
            name = _QMP.get(str(command.get("execute")))
            if name is None or not self.take(name, command.get("arguments", {})):
                self.found.notes.append("the QMP command %s is not about drives" % command.get("execute"))

    def take(self, name: str, told: t.Mapping[str, t.Any]) -> bool:
        """A block node, a device or an object; false where it is none that drives need."""
        if name == "blockdev":
            node = nodes.from_tree(keyval.nest(keyval.flatten(told)))
            if not node.name:
                raise ValueError("-blockdev without node-name")
            self.found.add_node(node)
            return True
        flat = dict(keyval.flatten(told))
        if name == "device":
            device = devices.full_name(str(flat.get("driver", "")))
            known = device in devices.DRIVES or device in devices.CONTROLLERS or "drive" in flat
            if known:
                self.found.add_device(flat)
            return known
        if flat.get("qom-type") not in _OBJECTS:
            return False
        self.found.objects.append(_object(flat))
        return True


def _object(told: t.Mapping[str, t.Any]) -> Object:
    rest = {name: value for name, value in told.items() if name not in ("qom-type", "id")}
    return Object(str(told["qom-type"]), str(told.get("id", "")), sorted_options(link.object_properties(rest)))
