# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What the first bytes of an image say, for every format alike. Values only: reading is done by C(_formats)."""

from __future__ import annotations

import typing as t


class ByteSource(t.Protocol):
    """Bounded random access to an image's own bytes (C(_tools/files.py) has the one for files)."""

    length: int

    def read(self, offset: int, size: int) -> bytes:
        """Exactly C(size) bytes, or fewer at the end of the file. Raises HeaderError beyond its budget."""


class Reference(t.NamedTuple):
    """Something outside the image's own bytes that opening the image would open."""

    kind: str  # backing_file, data_file, extent, parent
    target: str  # as it stands in the image


class Extent(t.NamedTuple):
    """One member file of a VMDK, as the descriptor has it. Sizes in bytes."""

    access: str  # RW, RDONLY, NOACCESS
    kind: str  # SPARSE, FLAT, ZERO, ...
    filename: str
    virtual_size: int
    offset: int = 0


class SplitExtent(t.NamedTuple):
    """What is said of a file that is no image by itself. C(descriptor): the path of the image, if it was found."""

    sentence: str
    way_out: str
    descriptor: str = ""


class InternalSnapshot(t.NamedTuple):
    """One entry of qcow2's snapshot table. Keys as in C(qemu-img info --output=json)."""

    id: str
    name: str
    vm_state_size: int
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    icount: t.Optional[int] = None
    virtual_size: t.Optional[int] = None


class Bitmap(t.NamedTuple):
    """One persistent dirty bitmap of a qcow2 image."""

    name: str
    granularity: int
    flags: t.Tuple[str, ...]  # in-use, auto


class Header(t.NamedTuple):
    """Facts that an image's header states about itself; C(None) where the format has no such thing."""

    format: str
    virtual_size: int
    cluster_size: t.Optional[int] = None
    backing_file: t.Optional[str] = None
    backing_format: t.Optional[str] = None
    data_file: t.Optional[str] = None
    #: bytes that the file must have at least: its tables, and its data as far as the header says where that ends. QEMU
    #: reads as zeros what is missing, and writes where it should be
    least_length: int = 0
    encrypted: bool = False
    compressed: bool = False
    dirty: bool = False
    corrupt: bool = False
    #: create options as far as the header tells them, by QEMU's names, values as Python bool, int (bytes) or str
    options: t.Mapping[str, t.Any] = {}
    snapshots: t.Tuple[InternalSnapshot, ...] = ()
    bitmaps: t.Tuple[Bitmap, ...] = ()
    extents: t.Tuple[Extent, ...] = ()
    references: t.Tuple[Reference, ...] = ()
    #: incompatible features that this reader does not know: a QEMU that knows them may open other files
    unknown_features: t.Tuple[str, ...] = ()
    #: C(format-specific) as in C(qemu-img info --output=json), or None where qemu-img prints none
    format_specific: t.Optional[t.Mapping[str, t.Any]] = None

    def shortage(self, length: int) -> str:
        """What a file of C(length) bytes lacks of this image, as a phrase; empty when nothing is known to be missing."""
        if length >= self.least_length:
            return ""
        return "the file has %d bytes, and by its header and tables it needs %d" % (length, self.least_length)

    @property
    def has_luks(self) -> bool:
        """Whether it takes a secret to read the image. (The old AES of qcow and qcow2 is no LUKS, and takes any secret.)"""
        return self.format == "luks" or self.options.get("encrypt_format") == "luks"

    @property
    def keyslots(self) -> t.Tuple[int, ...]:
        """The numbers of the LUKS key slots that are in use."""
        data = (self.format_specific or {}).get("data", {})
        slots = data.get("slots") or data.get("encrypt", {}).get("slots") or ()
        return tuple(number for number, slot in enumerate(slots) if slot.get("active"))
