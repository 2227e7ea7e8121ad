# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where exports keep what they need at run time: sockets, definitions, logs, and the program that supervises them."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export import qemu_nodes
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places

#: as refusals say it
_WHAT = "exports"


def export_directory(name: str, supervisor: str = "process") -> str:
    """Where the definition and the log of an export are; with systemd, which has both, the keys of its clients."""
    return os.path.join(own_places.top(supervisor), "nbd", name)


def host_name(daemon: str) -> str:
    """What a storage daemon is called where exports have names: no export has such a one."""
    return ":" + daemon


def declarations(daemon: str, supervisor: str) -> str:
    """The directory of what is declared of the exports of a storage daemon."""
    return os.path.join(export_directory(host_name(daemon), supervisor), "exports")


def monitor(daemon: str) -> str:
    """The QMP socket of a storage daemon; that of a VM of the same name is another one."""
    return os.path.join(own_places.socket_directory(), host_name(daemon) + ".qmp")


def any_hosts() -> bool:
    """Whether there may be storage daemons of ours."""
    return bool(hosts("process") or hosts("systemd"))


def hosts(supervisor: str) -> t.List[str]:
    """The storage daemons of which anything is declared."""
    try:
        return [
            name[1:] for name in os.listdir(os.path.join(own_places.top(supervisor), "nbd")) if name.startswith(":")
        ]
    except OSError:
        return []


def definition_file(name: str) -> str:
    """The file that declares an export."""
    return os.path.join(export_directory(name), "export.json")


def program_file(name: str = "supervise.py", supervisor: str = "process") -> str:
    """A program of ours, by default the supervisor; for all exports."""
    return os.path.join(own_places.top(supervisor), "nbd", name)


def make_top(supervisor: str = "process") -> None:
    """The directories that all exports share."""
    top = own_places.top(supervisor)
    own_places.make_directory(top, 0o711, _WHAT)
    own_places.make_directory(os.path.join(top, "nbd"), 0o700, _WHAT)


def make_directories(name: str, supervisor: str = "process") -> None:
    """The directory of an export, with all above it."""
    make_top(supervisor)
    own_places.make_directory(export_directory(name, supervisor), 0o700, _WHAT)


def link_keys(directory: str, psk_file: t.Optional[str]) -> None:
    """QEMU takes keys from a directory, under a name of its own; and what lets it start at once, if that lies there."""
    beside = os.path.join(os.path.dirname(psk_file or "/"), "dh-params.pem")
    for name, target in ((qemu_nodes.PSK_NAME, psk_file), ("dh-params.pem", beside)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
        if psk_file and target and os.path.exists(target):
            os.symlink(target, os.path.join(directory, name))


def refuse_unsafe_top() -> None:
    """What is declared of exports is believed, and run: nobody else may have put it there. Raises RefusedError."""
    if os.path.lexists(own_places.socket_directory()):
        own_places.refuse_unsafe(own_places.socket_directory(), _WHAT)
