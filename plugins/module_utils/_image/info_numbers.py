# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What qemu-img prints, as facts. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image import info_facts

Told = t.Mapping[str, t.Any]
_CHECK = {
    "check_errors": "check-errors",
    "corruptions": "corruptions",
    "leaks": "leaks",
    "image_end_offset": "image-end-offset",
    "total_clusters": "total-clusters",
    "allocated_clusters": "allocated-clusters",
    "fragmented_clusters": "fragmented-clusters",
    "compressed_clusters": "compressed-clusters",
}
#: Their compressed clusters are data without an offset; QEMU says so itself since 8.2.
_COMPRESSIBLE = ("qcow", "qcow2", "vmdk")


def check_facts(told: Told) -> info_facts.Facts:
    """A check report; QEMU leaves out what is zero."""
    return {ours: told.get(qemus, 0) for ours, qemus in _CHECK.items()}


def measure_facts(format: str, told: Told) -> info_facts.Facts:
    """Bytes that a file of C(format) with this content needs."""
    return {"format": format, "required": told["required"], "fully_allocated": told["fully-allocated"]}


def map_facts(header: Header, extents: t.Iterable[Told]) -> info_facts.Facts:
    """Bytes of the guest's disk by where they are; all of them together are the virtual size."""
    facts = dict.fromkeys(("data", "compressed", "zero", "unallocated"), 0)
    for extent in extents:
        facts[_kind(header, extent)] += extent["length"]
    return facts


def _kind(header: Header, extent: Told) -> str:
    if not extent.get("present", True):  # QEMU 6.1 and later
        return "unallocated"
    if extent["zero"]:
        return "zero"
    hidden = "offset" not in extent and not header.encrypted and header.format in _COMPRESSIBLE
    return "compressed" if extent.get("compressed", hidden) else "data"


def place_facts(path: str, told: Told, *, certain: bool) -> info_facts.Facts:
    """C(qemu-img info) of a place, with the keys that a file has."""
    data = (told.get("format-specific") or {}).get("data") or {}
    facts = {
        "path": path,
        "exists": True,
        "format": told["format"],
        "format_is_certain": certain or told["format"] != "raw",
        "virtual_size": told["virtual-size"],
        "actual_size": told.get("actual-size"),
        "cluster_size": told.get("cluster-size"),
        "backing": _backing(told),
        "data_file": data.get("data-file"),
        "encrypted": bool(told.get("encrypted")),
        "compressed": bool(told.get("compressed")),
        "dirty": bool(told.get("dirty-flag")),
        "corrupt": bool(data.get("corrupt")),
        "options": {name.replace("-", "_"): data[name] for name in _OPTIONS if name in data},
        "snapshots": [_snapshot(each) for each in told.get("snapshots") or ()],
        "bitmaps": [dict(each) for each in data.get("bitmaps") or ()],
    }
    specific = info_facts.format_specific(told.get("format-specific"))
    return dict(facts, format_specific=specific) if specific else facts


_OPTIONS = ("compat", "compression-type", "refcount-bits", "lazy-refcounts", "extended-l2", "data-file-raw")


def _backing(told: Told) -> info_facts.Facts | None:
    name = told.get("backing-filename")
    if not name:
        return None
    return {
        "path": told.get("full-backing-filename", name),
        "format": told.get("backing-filename-format"),
        "name": name,
    }


def _snapshot(told: Told) -> info_facts.Facts:
    facts = {name.replace("-", "_"): value for name, value in told.items()}
    facts["vm_clock_nsec"] += facts.pop("vm_clock_sec") * 10**9
    return facts
