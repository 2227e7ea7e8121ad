# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is wrong with a description of drives, or of what a VM starts with besides. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors


class Finding(t.NamedTuple):
    """C(drive): what it is about, by its id; C(kind) says what that is. C(reason) is a code of docs/reasons.md."""

    drive: str
    reason: str
    fact: str
    way_out: str
    kind: str = "drive"

    def error(self) -> errors.SpecError:
        """As what stops a task."""
        return errors.SpecError(self.kind, self.drive, self.fact, reason=self.reason, way_out=self.way_out, joined="")
