# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of a directory. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._directory import actions
from ansible_collections.platter.qemu.plugins.module_utils._directory.state import DirectoryState


def plan_directory(state: DirectoryState, wanted: actions.Pairs) -> t.List[Action[DirectoryState]]:
    """The steps that make C(state) what is asked. C(wanted): its attributes, comparable with those of the state."""
    if not state.exists:
        return [actions.MakeDirectory(state.path, wanted)]
    differing = tuple(pair for pair in wanted if pair not in state.attributes)
    return [actions.SetAttributes(state.path, wanted)] if differing else []
