# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the certificates and shared keys in a directory (KeysState), and what was read beside them (KeysReading)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._keys import spec


@dataclass(frozen=True)
class Part:
    """A certificate with its key, in a directory of its own. C(names): what it is for, sorted. C(lasting): it holds for
    30 days and more, and what lies beside it is the CA's certificate of now.
    """

    names: t.Tuple[str, ...] = ()
    lasting: bool = True


@dataclass(frozen=True)
class KeysState:
    """The managed part. C(parts): by their place in the directory. C(users): clients whose shared keys the server has."""

    directory: str
    parts: t.Mapping[str, Part] = field(default_factory=dict)
    users: t.Tuple[str, ...] = ()

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it. C(x509_dir), C(authorized), C(psk_file): as C(nbd_export) takes them."""
        facts: t.Dict[str, t.Any] = {"directory": self.directory}
        if spec.SERVER in self.parts:
            facts.update(x509_dir="%s/%s" % (self.directory, spec.SERVER), server=list(self.parts[spec.SERVER].names))
        certified = sorted(each for each in self.parts if each not in (spec.CA, spec.SERVER))
        if certified:
            facts["authorized"] = [name for each in certified for name in self.parts[each].names]
        if self.users:
            facts["psk_file"] = self.directory + "/keys.psk"
        places = sorted({*certified, *map(spec.client_part, self.users)})
        facts["clients"] = {each.rpartition("/")[2]: "%s/%s" % (self.directory, each) for each in places}
        ending = sorted(each for each, part in self.parts.items() if not part.lasting)
        return dict(facts, ending=ending) if ending else facts


@dataclass(frozen=True)
class KeysReading:
    """Facts that decide but are not managed. C(problems): of parts that are not as this module makes them, as (reason, fact).
    C(directory_problem): the same of the directory, with a way out. C(ended): parts whose certificate holds no more.
    """

    problems: t.Mapping[str, t.Tuple[str, str]] = field(default_factory=dict)
    directory_problem: t.Optional[t.Tuple[str, str, str]] = None
    ended: t.FrozenSet[str] = frozenset()
