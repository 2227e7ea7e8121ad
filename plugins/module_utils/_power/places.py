# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where the processes of VMs have what they need at run time: definitions for the supervisor, logs, programs of ours."""

from __future__ import annotations

import os

from ansible_collections.platter.qemu.plugins.module_utils._power import definition
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places

#: as refusals say it
_WHAT = "what VMs are started by"


def directory_of(vm: str) -> str:
    """Where a supervisor of ours has what it runs, and the log."""
    return os.path.join(_shared("process"), vm)


def _shared(supervisor: str) -> str:
    return os.path.join(own_places.top(supervisor), "power")


def definition_file(vm: str) -> str:
    """The file that says how a VM is started."""
    return os.path.join(directory_of(vm), definition.FILE)


def program_file(name: str = "supervise.py", supervisor: str = "process") -> str:
    """A program of ours, by default the supervisor; for all VMs."""
    # no VM has a name like that of its directory
    return os.path.join(_shared(supervisor), ".programs", name)


def make_programs(supervisor: str) -> None:
    """The directory of our programs, with those above it."""
    _make_shared(supervisor)
    own_places.make_directory(os.path.dirname(program_file(supervisor=supervisor)), 0o700, _WHAT)


def _make_shared(supervisor: str) -> None:
    own_places.make_directory(own_places.top(supervisor), 0o711, _WHAT)
    own_places.make_directory(_shared(supervisor), 0o700, _WHAT)


def make_directory(vm: str) -> None:
    """Where a supervisor of ours finds what it runs."""
    _make_shared("process")
    own_places.make_directory(directory_of(vm), 0o700, _WHAT)


def make_socket_directory(path: str) -> None:
    """Where sockets lie that no task names; others have to be there."""
    if os.path.dirname(path) == own_places.socket_directory():
        own_places.make_directory(own_places.socket_directory(), 0o711, _WHAT)


def refuse_unsafe_top() -> None:
    """What is declared of VMs is believed, and run: nobody else may have put it there. Raises RefusedError."""
    if os.path.lexists(own_places.socket_directory()):
        own_places.refuse_unsafe(own_places.socket_directory(), _WHAT)
