# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for keys is made of."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._keys import spec
from ansible_collections.platter.qemu.plugins.module_utils._keys.state import KeysState, Part


def _with(state: KeysState, part: str, names: t.Tuple[str, ...]) -> KeysState:
    return replace(state, parts={**state.parts, part: Part(names)})


@dataclass(frozen=True)
class MakeCertificate(Action[KeysState]):
    """A key and its certificate, in a new directory."""

    part: str
    names: t.Tuple[str, ...]
    days: int

    def apply(self, state: KeysState) -> KeysState:
        return _with(state, self.part, self.names)

    def __str__(self) -> str:
        if self.part == spec.CA:
            return "Make a CA in %s, for %d days." % (self.part, self.days)
        return "Make a key and a certificate in %s, for %s, for %d days." % (
            self.part,
            ", ".join(self.names),
            self.days,
        )


@dataclass(frozen=True)
class RenewCertificate(Action[KeysState]):
    """Another certificate for the key that is there."""

    part: str
    names: t.Tuple[str, ...]
    days: int

    def apply(self, state: KeysState) -> KeysState:
        if self.part != spec.CA:
            return _with(state, self.part, self.names)
        # what the others have of it is the old one
        parts = {name: replace(part, lasting=False) for name, part in state.parts.items()}
        return replace(state, parts={**parts, spec.CA: Part()})

    def __str__(self) -> str:
        named = ", for " + ", ".join(self.names) if self.names else ""
        return "Renew the certificate in %s%s, for %d days; its key stays." % (self.part, named, self.days)


@dataclass(frozen=True)
class ShareKey(Action[KeysState]):
    """A key that the server and one client have."""

    user: str

    def apply(self, state: KeysState) -> KeysState:
        return replace(state, users=tuple(sorted({*state.users, self.user})))

    def __str__(self) -> str:
        return "Share a key with client %s." % self.user
