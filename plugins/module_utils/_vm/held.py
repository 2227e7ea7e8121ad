# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition claims, with what lies below its images, whatever the names are. Read-only."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._inspect import occupied, opening
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition


class Held(t.NamedTuple):
    """A claim by what it is. C(shared): the definition agrees to a second VM that has it. C(named): by the header of an
    image, not by the definition; C(base): as a backing file.
    """

    claim: claims.Claim
    extents: t.Tuple[occupied.Extent, ...]
    shared: bool = False
    named: bool = False
    base: bool = False

    @property
    def which(self) -> occupied.Which:
        """What it is itself."""
        return self.extents[0].which

    def meets(self, other: Held) -> bool:
        """Whether both have the same bytes."""
        return any(one.meets(another) for one in self.extents for another in other.extents)

    def disturbs(self, other: Held) -> bool:
        """Whether one writes what the other has."""
        return (self.claim.writes or other.claim.writes) and self.meets(other)


def of_definition(made: definition.VmDefinition) -> t.List[Held]:
    """Each place once for each drive, as a writer where any part of the drive writes to it."""
    found: t.Dict[t.Tuple[str, bool, str], Held] = {}
    for claim in claims.of_spec(made.spec):
        shared = claim.sharable and claim.drive in made.shared
        for each in (Held(claim, (), shared), *_below(claim)):
            known = found.get(each.claim[:3])
            if known is None or (each.claim.writes, known.named) > (known.claim.writes, each.named):
                found[each.claim[:3]] = each
    extents = occupied.extents_of(each.claim.name for each in found.values() if each.claim.local)
    return [
        each._replace(extents=extents[each.claim.name] if each.claim.local else _on_server(each.claim))
        for each in found.values()
    ]


def _on_server(claim: claims.Claim) -> t.Tuple[occupied.Extent, ...]:
    """By what its driver is told; the socket of a server on this host whatever links lead there."""
    driver, _space, told = claim.name.partition(" ")
    options = json.loads(told)
    for name in options:
        if name.startswith("server.") and name.endswith(".path"):
            options[name] = os.path.realpath(str(options[name]))
    return (occupied.Extent(("place", driver, json.dumps(options, sort_keys=True))),)


def _below(claim: claims.Claim) -> t.Iterator[Held]:
    """Data files and extents are written to with their image, backing files are only read."""
    if not claim.local or not opening.names_others(claim.declared):
        return
    for each in opening.opened_with(claim.name, claim.declared, below=claim.chain):
        writes = claim.writes and each.own
        yield Held(
            claim._replace(name=each.path, writes=writes, format="", sharable=False), (), False, True, not each.own
        )


class Index:
    """Those of a definition by what they are, as a host can have thousands."""

    def __init__(self, held: t.Iterable[Held]) -> None:
        self._known: t.Dict[occupied.Which, t.List[Held]] = {}
        for each in held:
            for extent in each.extents:
                self._known.setdefault(extent.which, []).append(each)

    def disturbing(self, one: Held) -> t.Iterator[Held]:
        """Those that C(one) disturbs, or that disturb it."""
        near = (other for extent in one.extents for other in self._known.get(extent.which, ()))
        return (other for other in near if other.disturbs(one))
