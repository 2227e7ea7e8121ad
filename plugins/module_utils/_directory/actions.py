# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for a directory is made of. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._directory.state import DirectoryState

Pairs = t.Tuple[t.Tuple[str, t.Any], ...]


@dataclass(frozen=True)
class MakeDirectory(Action[DirectoryState]):
    """Make it, and those above it that are missing, all as the task says."""

    path: str
    attributes: Pairs

    def apply(self, state: DirectoryState) -> DirectoryState:
        return replace(state, exists=True, attributes=self.attributes)

    def __str__(self) -> str:
        return "Make directory %s." % self.path


@dataclass(frozen=True)
class SetAttributes(Action[DirectoryState]):
    """Owner, group, mode and the like of one that is there."""

    path: str
    attributes: Pairs

    def apply(self, state: DirectoryState) -> DirectoryState:
        return replace(state, attributes=self.attributes)

    def __str__(self) -> str:
        return "Set %s of directory %s." % (", ".join("%s %s" % pair for pair in self.attributes), self.path)
