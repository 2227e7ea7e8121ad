# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""A header as C(qemu-img info --output=json) prints it: the oracle's words, and the base of the facts."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, InternalSnapshot

#: QEMU 7.2 has no block driver info for these: no cluster size, no dirty flag.
_WITHOUT_DRIVER_INFO = ("parallels",)
_NANO = 10**9


def to_qemu_info(header: Header, *, filename: str, actual_size: int) -> dict[str, t.Any]:
    """The dict of C(qemu-img info) for that file name, without the backing chain."""
    info: dict[str, t.Any] = {
        "filename": filename,
        "format": header.format,
        "virtual-size": header.virtual_size,
        "actual-size": actual_size,
    }
    if header.format not in _WITHOUT_DRIVER_INFO:
        # Of the formats with such a mark qcow2's is the only one that is printed: QEMU looks into a qed by itself.
        info["dirty-flag"] = header.dirty and header.format == "qcow2"
        if header.cluster_size:
            info["cluster-size"] = header.cluster_size
    if header.encrypted:
        info["encrypted"] = True
    if header.snapshots:
        info["snapshots"] = [_snapshot(snapshot) for snapshot in header.snapshots]
    if header.backing_file is not None:
        info.update(_backing(header, filename))
    if header.format_specific is not None:
        info["format-specific"] = _specific(header, filename)
    return info


def _snapshot(snapshot: InternalSnapshot) -> dict[str, t.Any]:
    """C(virtual_size) is not among the keys: C(qemu-img) does not print it."""
    data: dict[str, t.Any] = {
        "id": snapshot.id,
        "name": snapshot.name,
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date_sec,
        "date-nsec": snapshot.date_nsec,
        "vm-clock-sec": snapshot.vm_clock_nsec // _NANO,
        "vm-clock-nsec": snapshot.vm_clock_nsec % _NANO,
    }
    if snapshot.icount is not None:
        data["icount"] = snapshot.icount
    return data


def _backing(header: Header, filename: str) -> dict[str, t.Any]:
    data: dict[str, t.Any] = {
        "backing-filename": header.backing_file,
        "full-backing-filename": beside(filename, str(header.backing_file)),
    }
    if header.backing_format is not None:
        data["backing-filename-format"] = header.backing_format
    return data


def beside(filename: str, target: str) -> str:
    """Where QEMU looks for a file that an image names: relative to the image's own directory."""
    if target.startswith("/") or has_protocol(target):
        return target
    return filename[: filename.rfind("/") + 1] + target


def has_protocol(target: str) -> bool:
    """C(nbd:...), C(json:...), C(a:b): a colon before the first slash is a protocol for QEMU."""
    return ":" in target.split("/", 1)[0]


def _specific(header: Header, filename: str) -> dict[str, t.Any]:
    """With the paths of VMDK's extents as QEMU prints them."""
    specific = dict(header.format_specific or {})
    if header.format == "vmdk":
        extents = [dict(extent, filename=_extent_path(filename, extent)) for extent in specific["data"]["extents"]]
        specific["data"] = dict(specific["data"], extents=extents)
    return specific


def _extent_path(filename: str, extent: t.Mapping[str, t.Any]) -> str:
    name = extent["filename"]
    if not name or name.startswith("/"):
        return name or filename
    return filename[: filename.rfind("/") + 1] + str(name)
