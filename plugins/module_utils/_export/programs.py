# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Programs of ours that outlive the play: what the play was made of is gone when the play is over."""

from __future__ import annotations

import typing as t
from types import ModuleType

from ansible_collections.platter.qemu.plugins.module_utils._export import places
from ansible_collections.platter.qemu.plugins.module_utils._export.state import ExportState
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_programs


def words(name: str, supervisor: str) -> t.Tuple[str, ...]:
    """What runs the program of that name, without the modules of whoever runs it."""
    return own_programs.words(places.program_file(name, supervisor))


def write(supervisor: str, states: t.Sequence[ExportState]) -> None:
    """Those that these exports, which are started under C(supervisor), need."""
    if states and supervisor == "process":
        from ansible_collections.platter.qemu.plugins.module_utils._tools import supervise

        _write(supervise, supervisor)
    if any(state.definition and state.definition.launcher for state in states):
        from ansible_collections.platter.qemu.plugins.module_utils._tools import hold_image

        _write(hold_image, supervisor)
    if any(state.definition and state.definition.daemon for state in states):
        from ansible_collections.platter.qemu.plugins.module_utils._tools import load_exports

        _write(load_exports, supervisor)


def _write(module: ModuleType, supervisor: str) -> None:
    places.make_top(supervisor)
    own_programs.write(module, places.program_file(own_programs.file_name(module), supervisor))
