# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The feature matrix: what QEMU can do with each format, as data. The tests try each of it on the installed QEMU."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core.size import LARGEST, SECTOR, round_up
from ansible_collections.platter.qemu.plugins.module_utils._formats import geometry, registry
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import OPTIONS, CreateOption, with_defaults

_GIB, _TIB = 1 << 30, 1 << 40
_QCOW2_L1_ENTRIES = (32 << 20) // 8


@dataclass(frozen=True)
class Features:
    """What QEMU 7.2 and later do with one format."""

    name: str
    title: str
    create: bool = True
    backing: tuple[str, ...] = ()  # formats that a backing file may have
    encryption: tuple[str, ...] = ()
    compression: bool = False  # convert -c
    compression_subformats: tuple[str, ...] = ()  # where it is not for all
    preallocation: tuple[str, ...] = ("off",)
    sparse: bool = True  # unwritten parts take no space, independently of holes in the file
    split: tuple[str, ...] = ()  # subformats whose image is several files
    internal_snapshots: bool = False
    check: bool = False
    repair: tuple[str, ...] = ()
    grow: bool = False
    shrink: bool = False
    bitmaps: bool = False
    external_data_file: bool = False
    grow_preallocation: tuple[str, ...] = ()  # resize --preallocation
    smallest: int = 0
    legacy: str = ""  # why not to make new ones

    @property
    def options(self) -> tuple[CreateOption, ...]:
        return OPTIONS[self.name]

    @property
    def amend(self) -> tuple[str, ...]:
        """The options that C(qemu-img amend) can change."""
        return tuple(option.name for option in self.options if option.amendable)


_OLD = "an old format of QEMU that is kept for old images; make qcow2 images instead"

FEATURES: t.Mapping[str, Features] = {
    features.name: features
    for features in (
        Features(
            "raw",
            "raw: the file is the disk",
            preallocation=("off", "falloc", "full"),
            sparse=False,
            grow=True,
            grow_preallocation=("off", "falloc", "full"),
            shrink=True,
        ),
        Features(
            "qcow",
            "qcow: QEMU copy-on-write, version 1",
            backing=registry.FORMAT_NAMES,
            encryption=("aes",),
            # Not compression: convert -c writes all of it and then ends with exit status 1, without a word (7.2).
            smallest=SECTOR,
            legacy=_OLD,
        ),
        Features(
            "qcow2",
            "qcow2: QEMU copy-on-write, versions 2 and 3",
            backing=registry.FORMAT_NAMES,
            encryption=("aes", "luks"),
            compression=True,
            preallocation=("off", "metadata", "falloc", "full"),
            internal_snapshots=True,
            check=True,
            repair=("leaks", "all"),
            grow=True,
            grow_preallocation=("off", "metadata", "falloc", "full"),
            shrink=True,
            bitmaps=True,
            external_data_file=True,
        ),
        Features(
            "qed",
            "qed: QEMU enhanced disk",
            backing=registry.FORMAT_NAMES,
            check=True,
            repair=("leaks", "all"),
            grow=True,
            grow_preallocation=("off",),
            legacy=_OLD,
        ),
        Features("vdi", "vdi: VirtualBox", check=True),
        Features(
            "vmdk",
            "vmdk: VMware",
            backing=("vmdk",),
            compression=True,
            compression_subformats=("streamOptimized",),
            split=("monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"),
            check=True,
            smallest=SECTOR,
        ),
        Features("vhdx", "vhdx: Hyper-V", check=True, repair=("leaks", "all")),
        Features("vpc", "vpc: Virtual PC and Azure (VHD)"),
        Features("parallels", "parallels: Parallels Desktop", check=True, repair=("leaks", "all")),
        Features(
            "luks",
            "luks: Linux Unified Key Setup, version 1, over raw",
            encryption=("luks",),
            preallocation=("off", "falloc", "full"),
            sparse=False,
            grow=True,
            grow_preallocation=("off", "falloc", "full"),
            shrink=True,
        ),
    )
}


def rounded_size(format: str, size: int, options: t.Mapping[str, t.Any] | None = None) -> int:
    """The virtual size QEMU really makes of C(size): whole sectors, and for vpc the next CHS geometry."""
    size = round_up(size, SECTOR)
    if format == "vpc" and not (options or {}).get("force_size"):
        return geometry.vpc_size(size)
    return size


def largest_size(format: str, options: t.Mapping[str, t.Any] | None = None) -> int:
    """The largest virtual size QEMU makes in that format (a file system may have less room for raw and luks)."""
    by_options = _LARGEST_BY_OPTIONS.get(format)
    if by_options is None:
        return _LARGEST.get(format, LARGEST)
    return min(LARGEST, by_options(with_defaults(format, options or {})))


_LARGEST = {"vdi": 0x1FFFFF8000000, "vhdx": 64 * _TIB, "vpc": 2040 * _GIB}


def _largest_qcow2(options: t.Mapping[str, t.Any]) -> int:
    cluster, entry = int(options["cluster_size"]), 16 if options["extended_l2"] else 8
    return _QCOW2_L1_ENTRIES * (cluster // entry) * cluster


def _largest_qed(options: t.Mapping[str, t.Any]) -> int:
    cluster = int(options["cluster_size"])
    entries = int(options["table_size"]) * cluster // 8
    return entries * entries * cluster


def _largest_parallels(options: t.Mapping[str, t.Any]) -> int:
    """The catalog has 4 bytes for each cluster, and less than 2 GiB. QEMU 7.2 and 10.0 make larger ones, and cannot open them."""
    return int(options["cluster_size"]) * ((2**31 - 1) // 4)


_LARGEST_BY_OPTIONS: t.Mapping[str, t.Callable[[t.Mapping[str, t.Any]], int]] = {
    "qcow2": _largest_qcow2,
    "qed": _largest_qed,
    "parallels": _largest_parallels,
}
