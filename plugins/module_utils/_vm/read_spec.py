# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of a task about a VM's drives into a value. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    contradictions,
    parse_arguments,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm.spec import VmSpec

Params = t.Mapping[str, t.Any]

#: of a VM: as a name of a file, of a unit of systemd, and in -name it stands for itself
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}\Z")
#: where definitions are, unless the task says otherwise
DIRECTORY = "/etc/platter/vm"
_LISTS = ("controllers", "objects", "nodes")


def read_spec(params: Params) -> VmSpec:
    """Raises SpecError."""
    vm = str(params["vm"])
    if not _NAME.match(vm):
        raise _refused(vm, "%r is no name for it" % vm, "bad_name", "Use 1 to 48 letters, digits, dots and the like.")
    config = str(params.get("config") or "%s/%s" % (DIRECTORY, vm)).rstrip("/")
    if not config.startswith("/") or "\0" in config or "/../" in config + "/":
        raise _refused(vm, "config %s is not an absolute path" % config, "bad_path", "Write one from / on.")
    drives = [_without_nothing(each) for each in params.get("drives") or ()]
    _refuse_twice(vm, drives, "id")
    present = [each for each in drives if _state(vm, each, "id") == "present"]
    shares = [_without_nothing(each) for each in params.get("shares") or ()]
    _refuse_twice(vm, shares, "tag")
    shared = [each for each in shares if _state(vm, each, "tag") == "present"]
    arguments = params.get("arguments")
    return VmSpec(
        vm,
        config,
        params.get("state") or "present",
        tuple(_without(each, ("state", "share")) for each in present),
        tuple(str(each["id"]) for each in drives if each not in present),
        frozenset(str(each["id"]) for each in present if each.get("share")),
        {name: tuple(map(_without_nothing, params[name])) for name in _LISTS if params.get(name) is not None},
        params.get("style"),
        params.get("lossy"),
        _named(vm, params, "qemu"),
        _named(vm, params, "machine"),
        None if arguments is None else _arguments(vm, arguments),
        bool(params.get("purge")),
        params.get("validate") or "device",
        _seconds(vm, params, "timeout", 1),
        _named(vm, params, "qmp_socket"),
        _seconds(vm, params, "unplug_timeout", 0),
        bool(params.get("config")),
        tuple(_without(each, ("state",)) for each in shared),
        tuple(str(each["tag"]) for each in shares if each not in shared),
        _without_nothing(params.get("boot")),
        params.get("shared_memory"),
    )


def _refused(vm: str, fact: str, reason: str, way_out: str, **evidence: t.Any) -> errors.SpecError:
    return errors.SpecError(
        "the drives", "VM " + vm, fact, reason=reason, way_out=way_out, evidence=evidence, joined="of"
    )


def _without_nothing(told: t.Any) -> t.Any:
    """As Ansible has options that are not set among the others. But C(backing: null) is a chain that is cut, in QEMU's words."""
    if isinstance(told, (list, tuple)):
        return [_without_nothing(each) for each in told]
    if not isinstance(told, t.Mapping):
        return told
    said = {key: value for key, value in told.items() if value is not None or block_options.is_backing(str(key))}
    return {key: _without_nothing(value) for key, value in said.items()}


def _seconds(vm: str, params: Params, name: str, least: int) -> float:
    seconds = 30.0 if params.get(name) is None else float(params[name])
    if seconds < least:
        raise _refused(vm, "%s is %g" % (name, seconds), "bad_option", "Write %d or more seconds." % least)
    return seconds


def _named(vm: str, params: Params, name: str) -> t.Optional[str]:
    """A program, a machine, a socket: what is a word among QEMU's arguments, or a path."""
    told = params.get(name)
    if told is not None and "\0" in str(told):
        raise _refused(vm, "%s has a zero byte" % name, "bad_option", "Leave it out.")
    return told


def _without(told: Params, names: t.Sequence[str]) -> t.Dict[str, t.Any]:
    return {key: value for key, value in told.items() if key not in names}


def _refuse_twice(vm: str, told: t.Sequence[Params], key: str) -> None:
    """C(key): what tells them apart, C(id) of drives, C(tag) of shares."""
    what = "drive" if key == "id" else "share"
    seen: t.Set[str] = set()
    for each in told:
        name = str(each.get(key) or "")
        if not name:
            raise _refused(vm, "a %s has no %s" % (what, key), "bad_option", "Give every %s one." % what)
        if name in seen:
            raise _refused(vm, "%s is listed twice" % name, "duplicate_name", "Give each %s its own %s." % (what, key))
        seen.add(name)


def _state(vm: str, told: Params, key: str) -> str:
    state = told.get("state", "present")
    if state not in ("present", "absent"):
        fact = "the state of %s is %r" % (told[key], state)
        raise _refused(vm, fact, "bad_option", "Write present or absent.")
    return str(state)


def _refuse_run_together(vm: str, words: t.Sequence[str]) -> None:
    """As a line of a shell is written, which nothing here takes apart; or what QEMU would take for a disk."""
    for option, value in parse_arguments.options(words):
        if re.search(r"\s", option):
            fact = "%r in arguments is one word, and no option of QEMU has a blank" % option
            way_out = "Write a list, in which each option and each value is a word of its own: [%s]."
            raise _refused_word(vm, fact, way_out % ", ".join(option.split()), option)
        if not option:
            way_out = "Leave out the program, which qemu names; describe disks in drives; write values behind options."
            fact = "%r in arguments is neither an option nor the value of one, and QEMU takes it for a disk" % value
            raise _refused_word(vm, fact, way_out, str(value))


def _refused_word(vm: str, fact: str, way_out: str, word: str) -> errors.SpecError:
    evidence = {"option": "arguments", "word": word}
    return errors.SpecError(
        "the arguments", "VM " + vm, fact, reason="bad_option", way_out=way_out, joined="of", evidence=evidence
    )


def _arguments(vm: str, told: t.Sequence[t.Any]) -> t.Tuple[str, ...]:
    """What has to do with drives belongs into C(drives), where it is looked at; so with shares and kernels. Memory of one's
    own may be here, as there is more to say of it.
    """
    words = tuple(map(str, told))
    _refuse_run_together(vm, words)
    try:
        found = parse_arguments.parse(["qemu-kvm", *words]).spec  # so that no later word is taken for the program
    except (errors.EngineError, ValueError) as exc:
        raise _refused(vm, "arguments cannot be read: %s" % exc, "bad_option", "Correct them.") from exc
    named = [each.id for each in found.drives] + [each.name for each in found.nodes]
    if named:
        fact = "arguments have a drive (%s)" % ", ".join(named)
        raise _refused(
            vm, fact, "bad_option", "Describe it in drives; platter.qemu.drive_parse shows how.", drives=named
        )
    named = [each.tag for each in found.shares] + (["boot"] if found.boot is not None else [])
    if named:
        fact = "arguments have what belongs into shares and boot (%s)" % ", ".join(named)
        raise _refused(vm, fact, "bad_option", "Describe it there; platter.qemu.drive_parse shows how.")
    for finding in contradictions.found(DrivesSpec(objects=found.objects)):
        raise finding.error()
    if any("\0" in word for word in words):
        raise _refused(vm, "a zero byte cannot stand in an argument", "bad_option", "Leave it out.")
    return words
