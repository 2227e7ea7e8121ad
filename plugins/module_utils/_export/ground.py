# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition is made from beside the task, and what each server says of itself. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec


class Ground(t.NamedTuple):
    """C(target): the file behind the image's name; C(device): it is a block device; C(program): the server's absolute
    path; C(directory): that of the export, for the keys of clients; C(supervisor): what starts the server again,
    C(process) or C(systemd); C(server): its name, as the option has it. C(holder): the words that
    have a program started with the lock of an image (C(_tools/hold_image.py)). C(certificates): a digest of those that the
    server has from its start on. C(monitor): the QMP socket of the storage
    daemon; C(loader): what gives it its exports after a start (C(_tools/load_exports.py)).
    """

    target: str
    device: bool
    program: str
    directory: str = ""
    supervisor: str = "process"
    server: str = "qemu_nbd"
    holder: t.Tuple[str, ...] = ()
    certificates: str = ""
    monitor: str = ""
    loader: t.Tuple[str, ...] = ()


class Server(t.Protocol):
    """What each module C(server_*) has. C(NAME): as the option has it; C(PROGRAM): its file."""

    NAME: str
    PROGRAM: str

    def cannot(self, spec: ExportSpec) -> str:
        """The first of the things asked that this server cannot do, as the end of a sentence; empty when it can."""

    def command(self, spec: ExportSpec, ground: Ground) -> t.List[str]:
        """Its command line, in the foreground."""

    def launcher(self, spec: ExportSpec, ground: Ground) -> t.List[str]:
        """What stands before that when it is started, and becomes it."""

    def scratch(self, options: t.Mapping[str, t.Any]) -> t.Sequence[str]:
        """Directories that it writes to beside those of the image and the socket."""
