# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so of a directory. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class DirectoryState:
    """C(attributes): those of its owner, group, mode and the like that the task names."""

    path: str
    exists: bool = False
    attributes: t.Tuple[t.Tuple[str, t.Any], ...] = ()

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it."""
        state = "present" if self.exists else "absent"
        return {"path": self.path, "state": state, **dict(self.attributes)}
