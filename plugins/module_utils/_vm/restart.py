# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition says besides its drives, and a running VM was started without: only a new start changes it."""

from __future__ import annotations

import os
import shutil
import typing as t
from collections import Counter

from ansible_collections.platter.qemu.plugins.module_utils._drive import places
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveState
from ansible_collections.platter.qemu.plugins.module_utils._vm import running
from ansible_collections.platter.qemu.plugins.module_utils._vm.definition import VmDefinition

_WHY = "a VM keeps what it was started with"


def needed(state: LiveState, made: VmDefinition) -> t.Iterator[t.Tuple[str, str]]:
    """(what, why), of the whole VM. Where its command line cannot be read, only a machine of another kind is known."""
    words = running.own_words(state.words)
    if state.machine != made.spec.machine:
        yield "machine", "it runs as %s, and is defined as %s" % (state.machine, made.spec.machine)
    elif words and made.machine and made.machine not in _machines(words):
        yield "machine", "it was not started with -machine %s" % made.machine
    if words and _is_another(words[0], made.qemu):
        yield "qemu", "it is run by %s" % words[0]
    if words and not _has_arguments(words, state.general, made):
        yield "arguments", _WHY
    ways = _styles(words) - _styles(made.drive_words())
    if ways and _styles(made.drive_words()):
        yield "style", "it was started in the style %s" % " and ".join(sorted(ways))


def _machines(words: t.Sequence[str]) -> t.List[str]:
    names = ("-machine", "--machine", "-M", "--M")
    return [value for word, value in zip(words, words[1:]) if word in names]


def _is_another(program: str, qemu: str) -> bool:
    """Not told of a program that may start another one: a script has no name of its own while it runs."""
    if not os.path.isabs(program) or not os.path.isabs(qemu):
        return os.path.basename(program) != os.path.basename(qemu)
    return os.path.realpath(program) != os.path.realpath(qemu) and not _is_script(qemu)


def _is_script(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(2) == b"#!"
    except OSError:
        return False


def _has_arguments(words: t.Sequence[str], general: int, made: VmDefinition) -> bool:
    """In any order. C(general): with how many of the words a definition's program has started it, where it has."""
    if general < 0:
        return not Counter(_options(made.arguments)) - Counter(_options(words[1:]))
    # a script can put words of its own before those that it was given
    starts = range(1, len(words) - general + 1) if _is_script(shutil.which(made.qemu) or made.qemu) else (1,)
    return any(_are_declared(words[start : start + general], made) for start in starts)


def _are_declared(words: t.Sequence[str], made: VmDefinition) -> bool:
    has, declared = Counter(_options(words)), Counter(_options(made.general()))
    told_already = ("-name", "-machine") if made.machine else ("-name",)
    return all(each[0] in told_already for each in (has - declared) + (declared - has))


def _options(words: t.Sequence[str]) -> t.Iterator[t.Tuple[str, ...]]:
    """Each option with what follows it."""
    begun: t.List[str] = []
    for word in words:
        if word[:1] == "-" and begun:
            yield tuple(begun)
            begun = []
        begun.append(word)
    if begun:
        yield tuple(begun)


def _styles(words: t.Sequence[str]) -> t.Set[str]:
    """The ways in which arguments name drives."""
    found = set()
    for word, value in zip(words, words[1:]):
        name = word.lstrip("-") if word[:1] == "-" else ""
        if name == "drive":
            found.add("drive_device" if "if=none" in value.split(",") else "drive")
        elif name == "blockdev":
            found.add(name)
        elif name in places.SHORT:
            found.add("hda")
    return found
