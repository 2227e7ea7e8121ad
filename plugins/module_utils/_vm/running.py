# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The QEMUs that run on this host, by what they are called (C(-name))."""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import processes

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import definition

#: words in which the name of the program is
_MOST_BEFORE = 6
#: the program file of a QEMU that runs a VM, whatever a build is called; not those of its tools, or of user emulation
_SYSTEM = re.compile(r"qemu-(system-|kvm)")
#: that of a program which is started by its loader, ld.so(8)
_LOADER = re.compile(r"ld-.*\.so|ld(-linux.*)?\.so")


def names_of(defined: definition.VmDefinition) -> t.FrozenSet[str]:
    """What a QEMU that was started with it may be called (C(-name))."""
    return frozenset((defined.vm, name_of(["qemu", *defined.arguments]))) - {""}


def processes_of(names: t.Collection[str]) -> t.Set[int]:
    """The QEMUs of that name, of this user or root; another user can call a QEMU as he likes."""
    return {pid for pid in _called(names) if _owner(pid) in (0, os.geteuid())}


def started(names: t.Collection[str], files: t.Callable[[], t.Iterable[str]]) -> t.Set[int]:
    """The QEMUs of that name, of anybody, that have one of C(files()) open: others can be called so too."""
    found = _called(names)
    return using(found, files()) if found else found


def using(pids: t.Collection[int], files: t.Iterable[str]) -> t.Set[int]:
    """Those of C(pids) that have one of C(files) open."""
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import holders

    users = {each.pid for found in holders.find_holders(list(files)).values() for each in found}
    return {pid for pid in pids if pid in users}


def _called(names: t.Collection[str]) -> t.Set[int]:
    return {pid for pid, words in _command_lines() if name_of(words) in names and is_vm(pid)}


def _owner(pid: int) -> int:
    """Root also of one that was started by root and has become another user (C(-runas)), as the kernel has it."""
    try:
        return os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return -1


def _command_lines() -> t.Iterator[t.Tuple[int, t.Tuple[str, ...]]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), processes.command_line(int(name))
            except OSError:  # ended meanwhile, or another user's
                continue


def is_vm(pid: int) -> bool:
    """Whether the process is a QEMU that runs a VM, by the file that it executes: words anybody can write."""
    try:
        program = os.path.basename(os.readlink("/proc/%d/exe" % pid))
        if _LOADER.match(program):
            words = own_words(processes.command_line(pid))[:_MOST_BEFORE]
            return any(_SYSTEM.search(os.path.basename(word)) for word in words)
        return bool(_SYSTEM.search(program))
    except OSError:
        return False


def is_qemu(words: t.Sequence[str]) -> bool:
    """Whether that looks like the command line of a QEMU, which may come after a loader with options of its own."""
    return any("qemu" in os.path.basename(word) for word in words[:_MOST_BEFORE])


def own_words(words: t.Sequence[str]) -> t.Sequence[str]:
    """Without those of a loader that has started it (ld.so(8), C(--argv0)); its own name is the first."""
    before = words[: _MOST_BEFORE - 1]
    return words[before.index("--argv0") + 2 :] if "--argv0" in before else words


def name_of(words: t.Sequence[str]) -> str:
    """What a VM is called on its command line, the last time; empty for what is none, or has no name."""
    if not is_qemu(words):
        return ""
    found = ""
    for word, value in zip(words, words[1:]):
        if word in ("-name", "--name"):
            found = _guest(value) or found
    return found


def _guest(value: str) -> str:
    """Of what C(-name) says, where other options can stand beside it, or alone."""
    parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
    named = [part[len("guest=") :] for part in parts if part.startswith("guest=")]
    return named[-1] if named else parts[0] if "=" not in parts[0] else ""
