# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Whither an image leads whoever opens it: the files that its header names, and those that lie below. Read-only.

Who can write to an image chooses what QEMU, started by root, opens with it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._tools import access


class Step(t.NamedTuple):
    """One file that is opened with an image: C(image), that one or one below it, names it as its C(kind)
    (backing_file, data_file, extent). C(who) chooses it: others than root who can write to that image, or to one above.
    """

    image: str
    kind: str
    path: str
    who: t.FrozenSet[access.Writer] = frozenset()

    def closed_to(self, *, write: bool) -> t.Optional[Closed]:
        """That somebody who chooses the file could not open it; None when all could."""
        for one in sorted(self.who, key=str):
            if not access.may(one, self.path, write=write):
                return Closed(self, str(one), "write to" if write else "read")
        return None


class Closed(t.NamedTuple):
    """A step to a file that is closed to somebody (C(who)) who chooses it; C(verb): what that user cannot do with it."""

    step: Step
    who: str
    verb: str

    def fact(self, path: str, called: str = "it") -> str:
        """As a sentence about the image at C(path); C(called): what the sentence calls that."""
        own = self.step.image == path
        return "%s names %s as its %s, and %s, who can write to %s, cannot %s that file" % (
            called if own else self.step.image,
            self.step.path,
            self.step.kind.replace("_", " "),
            self.who,
            "the image" if own else "that or to an image above it",
            self.verb,
        )

    @property
    def way_out(self) -> str:
        """A sentence."""
        return "If that is the right file, let %s %s it; if not, the image is not to be used." % (self.who, self.verb)

    @property
    def evidence(self) -> t.Dict[str, str]:
        """As results show it."""
        return {"image": self.step.image, "kind": self.step.kind, "file": self.step.path, "writer": self.who}


def steps(path: str, header: Header, *, below: bool) -> t.Iterator[Step]:
    """What the image at C(path) with that header leads to: its data file and extents; with C(below) its chain too, as
    far as it can be followed.
    """
    who = access.other_writers(path)
    yield from (Step(path, kind, beside, who) for kind, beside in chain.beside(path, header))
    if not below or not header.backing_file:
        return
    top = path

    def read(at: str, format: t.Optional[str]) -> Header:
        return header if at == top else image.chain_header(at, format)

    for link in chain.walk_chain(path, header.format, read).links[1:]:
        if link.kind != "file" or link.header is None:  # refused for itself
            return
        yield Step(path, "backing_file", link.path, who)
        path, who = link.path, who | access.other_writers(link.path)
        yield from (Step(path, kind, beside, who) for kind, beside in chain.beside(path, link.header))


def first_closed(path: str, header: Header, *, writes: bool) -> t.Optional[Closed]:
    """The first file that is opened with the image at C(path) and closed to somebody who chooses it. C(writes): what is
    not a backing file is written to.
    """
    for step in steps(path, header, below=True):
        closed = step.closed_to(write=writes and step.image == path and step.kind != "backing_file")
        if closed:
            return closed
    return None
