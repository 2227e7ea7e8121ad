# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of the snapshots and bitmaps of one image."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

#: bytes; qcow2 keeps a name in 16 bits of length, but QEMU (7.2) cuts it here without a word
LONGEST_NAME = 255


@dataclass(frozen=True)
class Retention:
    """Which snapshots a pruned image keeps. C(max_age) in seconds; None: no such rule."""

    keep_last: t.Optional[int] = None
    keep_hourly: t.Optional[int] = None
    keep_daily: t.Optional[int] = None
    keep_weekly: t.Optional[int] = None
    keep_monthly: t.Optional[int] = None
    max_age: t.Optional[float] = None
    max_depth: t.Optional[int] = None


@dataclass(frozen=True)
class BitmapSpec:
    """One persistent dirty bitmap. C(enabled) None: as it is. C(granularity) in bytes, None: QEMU's choice.

    C(sources): bitmaps of the same image that it is merged from when it is not there yet.
    """

    name: str
    present: bool = True
    enabled: t.Optional[bool] = None
    granularity: t.Optional[int] = None
    sources: t.Tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotSpec:
    """One image with what is asked of its snapshots. C(image): an absolute path, as the VM opens it.

    C(switch) None: as the layers of the image were made until now.
    """

    image: str
    format: str
    name: t.Optional[str] = None
    kind: str = "internal"
    state: str = "present"
    qmp_socket: t.Optional[str] = None
    agent_socket: t.Optional[str] = None
    quiesce: str = "no"
    memory: bool = False
    overlay: t.Optional[str] = None
    relative: bool = False
    switch: t.Optional[str] = None
    save: bool = True
    save_as: t.Optional[str] = None
    allow_altered: bool = False
    match: str = "*"
    retention: t.Optional[Retention] = None
    bitmaps: t.Tuple[BitmapSpec, ...] = ()
    overlay_directories: t.Tuple[str, ...] = ()
    secret_file: t.Optional[str] = None
    on_in_use: str = "fail"
    wait_timeout: float = 60.0
    job_timeout: float = 3600.0

    @property
    def secrets(self) -> t.List[t.Tuple[str, str]]:
        """The secret objects that open the image: (id, file)."""
        return [("sec0", self.secret_file)] if self.secret_file else []

    @property
    def external(self) -> bool:
        """Whether the points are files of their own."""
        return self.kind == "external"
