# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which modules of a kernel have to be loaded, in which order: what C(depmod) has written, read without running it. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class Tables:
    """The texts of C(modules.dep), C(modules.builtin), C(modules.softdep) and C(modules.alias) of one kernel."""

    dep: str
    builtin: str = ""
    softdep: str = ""
    alias: str = ""


class Chosen(t.NamedTuple):
    """C(files): of modules, by name, in the order to load them in, relative to the kernel's directory. C(missing): names
    that the kernel does not have at all.
    """

    files: t.Dict[str, str]
    missing: t.List[str]


def name_of(path: str) -> str:
    """What a module's file is the module of."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def choose(tables: Tables, needed: t.Sequence[str], usual: t.Sequence[str] = ()) -> Chosen:
    """The modules of these names and all that those need. C(usual): taken where the kernel has them.

    What is wanted softly (C(softdep) of modules, such as a checksum) comes before who wants it, where it is there.
    """
    reader = _Reader(tables)
    for name in usual:
        reader.add(name)
    missing = [name for name in dict.fromkeys(needed) if not reader.add(name)]
    return Chosen(reader.files, missing)


class _Reader:
    def __init__(self, tables: Tables) -> None:
        self.files: t.Dict[str, str] = {}
        self._begun: t.Set[str] = set()
        lines = (line.partition(":") for line in tables.dep.splitlines())
        self._needs = {name_of(path): [path, *needs.split()] for path, colon, needs in lines if colon}
        self._builtin = {name_of(line) for line in tables.builtin.split()}
        self._soft = _softdeps(tables.softdep)
        self._alias = _aliases(tables.alias)

    def add(self, name: str) -> bool:
        """Whether the kernel has it. C(name): of a module, or another name for one or more."""
        if name in self._needs:
            # depmod lists what is needed first at the end
            for path in reversed(self._needs[name]):
                self._load(name_of(path), path)
            return True
        behind = [other for other in self._alias.get(name, ()) if other != name and other in self._needs]
        added = [self.add(other) for other in behind]
        return name in self._builtin or any(added)

    def _load(self, name: str, path: str) -> None:
        if name in self._begun:
            return
        self._begun.add(name)
        for wanted in self._soft.get(name, ()):
            self.add(wanted)
        self.files[name] = path


def _softdeps(text: str) -> t.Dict[str, t.List[str]]:
    """What each module wants before it."""
    found: t.Dict[str, t.List[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] != ["softdep"] or "pre:" not in words:
            continue
        wanted = words[words.index("pre:") + 1 :]
        if "post:" in wanted:
            wanted = wanted[: wanted.index("post:")]
        found.setdefault(words[1].replace("-", "_"), []).extend(each.replace("-", "_") for each in wanted)
    return found


def _aliases(text: str) -> t.Dict[str, t.List[str]]:
    """Names without patterns, and the modules behind them."""
    found: t.Dict[str, t.List[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and "*" not in words[1]:
            found.setdefault(words[1].replace("-", "_"), []).append(words[2])
    return found
