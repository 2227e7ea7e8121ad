# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is wrong with a description of drives, or of what a VM starts with besides. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

#: kinds that there are many of
_NAMED = ("drive", "share")


class Finding(t.NamedTuple):
    """C(drive): what it is about, by its id; C(kind) says what that is. C(reason) is a code of docs/reasons.md. C(more): further
    evidence.
    """

    drive: str
    reason: str
    fact: str
    way_out: str
    kind: str = "drive"
    more: t.Mapping[str, t.Any] = {}

    def error(self) -> errors.SpecError:
        """As what stops a task."""
        named = {self.kind: self.drive} if self.kind in _NAMED else {}
        return errors.SpecError(
            self.kind,
            self.drive,
            self.fact,
            reason=self.reason,
            way_out=self.way_out,
            evidence=dict(named, **self.more),
            joined="",
        )
