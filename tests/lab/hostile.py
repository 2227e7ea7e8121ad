"""Images that somebody made to hurt: each with the reason for which it must be refused.

Nothing in them is a real secret, and no server is where they point to. The files are small, whatever they claim.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Iterator, NamedTuple

from ansible_collections.platter.qemu.tests.lab.headers import (
    descriptor,
    parallels,
    qcow,
    qcow2,
    qed,
    vdi,
    vhdx,
    vmdk,
    vpc,
)

REFERENCE, PROTOCOL, FEATURES = "image_references_file", "backing_protocol_refused", "unknown_features"
MISMATCH, SIZE, SPACE = "format_mismatch", "bad_size", "would_exceed_space"
DAMAGED, LOOP = "source_damaged", "backing_loop"
TIB = 1 << 40

#: A file that every host has, and nobody means to publish.
VICTIM = "/etc/hostname"


class Hostile(NamedTuple):
    """One image, the format that somebody declares it to be, and the reason why not."""

    name: str
    format: str
    path: Path
    reason: str


#: Where a backing file or a data file can point to beside plain paths.
PROTOCOLS = {
    "json of a file": "json:" + json.dumps({"driver": "raw", "file": {"driver": "file", "filename": VICTIM}}),
    "json of a name": "json:" + json.dumps({"file.driver": "file", "file.filename": VICTIM}),
    "json of nbd": "json:"
    + json.dumps({"driver": "nbd", "server": {"type": "inet", "host": "127.0.0.1", "port": "1"}}),
    "json of http": "json:" + json.dumps({"driver": "raw", "file": {"driver": "http", "url": "http://127.0.0.1:1/"}}),
    "json of blkdebug": "json:" + json.dumps({"driver": "blkdebug", "image": {"driver": "file", "filename": VICTIM}}),
    "nbd": "nbd:127.0.0.1:1",
    "nbd URI": "nbd://127.0.0.1:1/export",
    "nbd socket": "nbd+unix:///export?socket=/run/nothing.sock",
    "http": "http://127.0.0.1:1/disk.raw",
    "https": "https://127.0.0.1:1/disk.raw",
    "ftp": "ftp://127.0.0.1:1/disk.raw",
    "file": f"file:{VICTIM}",
    "fat": "fat:/etc",
    "writable fat": "fat:rw:/etc",
    "blkdebug": f"blkdebug::{VICTIM}",
    "blkverify": f"blkverify:{VICTIM}:{VICTIM}",
    "ssh": "ssh://root@127.0.0.1:1/etc/shadow",
    "iscsi": "iscsi://127.0.0.1:1/iqn.2000-01.test:disk/0",
    "rbd": "rbd:pool/disk",
    "nfs": "nfs://127.0.0.1/export/disk",
    "gluster": "gluster://127.0.0.1/volume/disk",
    "host device": "host_device:/dev/sda",
}


def hostile_images(directory: Path) -> list[Hostile]:
    """Writes all of them below C(directory)."""
    found = []
    for name, format, data, reason in _all(directory):
        path = directory / (name.replace(" ", "-").replace("/", "-") + ".img")
        path.write_bytes(data)
        found.append(Hostile(name, format, path, reason))
    return found


def _all(directory: Path) -> Iterator[tuple[str, str, bytes, str]]:
    yield from _backing_files()
    yield from _data_files()
    yield from _features()
    yield from _vmdk_members()
    yield from _parents()
    yield from _disguises()
    yield from _sizes()
    yield from _loops(directory)
    yield from _damaged()


def _backing_files() -> Iterator[tuple[str, str, bytes, str]]:
    paths = {"absolute": VICTIM, "relative": "../secret.raw", "beside": "secret.raw", "device": "/dev/sda"}
    for name, target in paths.items():
        yield f"qcow2 backing {name}", "qcow2", qcow2(backing=target, backing_format="raw"), REFERENCE
    yield "qcow2 backing unnamed format", "qcow2", qcow2(backing=VICTIM), REFERENCE
    yield "qcow2 version 2 backing", "qcow2", qcow2(version=2, backing=VICTIM), REFERENCE
    yield "qcow2 backing of 1023 bytes", "qcow2", qcow2(backing="/" * 1014 + "etc/hosts"), REFERENCE
    yield "qcow backing", "qcow", qcow(backing=VICTIM), REFERENCE
    yield "qed backing", "qed", qed(backing=VICTIM), REFERENCE
    for name, target in PROTOCOLS.items():
        yield f"qcow2 backing {name}", "qcow2", qcow2(backing=target, backing_format="raw"), PROTOCOL
    yield "qed backing nbd", "qed", qed(backing=PROTOCOLS["nbd"]), PROTOCOL
    yield "qcow backing json", "qcow", qcow(backing=PROTOCOLS["json of a file"]), PROTOCOL


def _data_files() -> Iterator[tuple[str, str, bytes, str]]:
    """CVE-2024-32498, and with C(json:) CVE-2024-4467: merely asking for information opened it."""
    for name, target in {"absolute": VICTIM, "relative": "../secret.raw", **PROTOCOLS}.items():
        yield f"qcow2 data file {name}", "qcow2", qcow2(data_file=target), REFERENCE
    yield "qcow2 data file raw", "qcow2", qcow2(data_file=VICTIM, autoclear=2), REFERENCE
    yield "qcow2 data file without its bit", "qcow2", _without_bit(qcow2(data_file=VICTIM)), REFERENCE
    yield "qcow2 data file without a name", "qcow2", qcow2(incompatible=4), REFERENCE


def _without_bit(data: bytes) -> bytes:
    return data[:79] + bytes([data[79] & ~4]) + data[80:]


def _features() -> Iterator[tuple[str, str, bytes, str]]:
    for bit in (5, 6, 7, 31, 32, 62, 63):
        yield f"qcow2 feature {bit}", "qcow2", qcow2(incompatible=1 << bit), FEATURES
    named = ((0, 5, "opens another file"),)
    yield "qcow2 named feature", "qcow2", qcow2(incompatible=1 << 5, feature_names=named), FEATURES
    yield "qed feature", "qed", qed(features=8), FEATURES


def _vmdk_members() -> Iterator[tuple[str, str, bytes, str]]:
    """CVE-2022-47951."""
    flat, flats = "monolithicFlat", "twoGbMaxExtentFlat"
    extents = {
        "flat absolute": (f'RW 1 FLAT "{VICTIM}" 0', flat),
        "flat relative": ('RW 1 FLAT "../secret.raw" 0', flat),
        "flat beside": ('RW 1 FLAT "secret.raw" 0', flat),
        "flat of a protocol": ('RW 1 FLAT "nbd:127.0.0.1:1" 0', flat),
        "flat after others": (f'RW 1 ZERO\nRW 1 FLAT "{VICTIM}" 0', flats),
        "flat over lines": (f'RW\n1\nFLAT\n"{VICTIM}"\n0', flat),
        "vmfs": (f'RW 1 VMFS "{VICTIM}"', "vmfs"),
        "sparse": (f'RW 1 SPARSE "{VICTIM}"', "twoGbMaxExtentSparse"),
        "device": ('RW 1 FLAT "/dev/sda" 0', flat),
    }
    for name, (text, create_type) in extents.items():
        yield f"vmdk {name}", "vmdk", descriptor(text, create_type=create_type), REFERENCE
    embedded = descriptor(f'RW 1 FLAT "{VICTIM}" 0', create_type=flat)
    yield "vmdk sparse that is a descriptor", "vmdk", vmdk(text=embedded, capacity=0), REFERENCE
    yield "vmdk sparse with a flat extent", "vmdk", vmdk(text=embedded), REFERENCE
    yield "vmdk stream with a flat extent", "vmdk", vmdk(text=embedded, compressed=True), REFERENCE


def _parents() -> Iterator[tuple[str, str, bytes, str]]:
    own = 'RW 2048 SPARSE "image.vmdk"'
    yield "vmdk parent", "vmdk", vmdk(text=descriptor(own, parent=VICTIM, parent_cid="12345678")), REFERENCE
    yield "vmdk parent nbd", "vmdk", vmdk(text=descriptor(own, parent=PROTOCOLS["nbd"])), PROTOCOL
    yield "vhdx parent", "vhdx", vhdx(parent="C:\\base.vhdx"), REFERENCE
    yield "vpc parent", "vpc", vpc(kind=4, parent="base.vhd", locator="C:\\base.vhd"), REFERENCE
    yield "vpc parent without a name", "vpc", vpc(kind=4), REFERENCE
    yield "vdi parent", "vdi", vdi(parent=b"p" * 16), REFERENCE


def _disguises() -> Iterator[tuple[str, str, bytes, str]]:
    """Declared as one thing, and (also) another."""
    for name, data in {
        "qcow2": qcow2(backing=VICTIM),
        "qed": qed(),
        "vmdk": vmdk(),
        "vdi": vdi(),
        "vpc": vpc(),
    }.items():
        yield f"raw that begins with {name}", "raw", data.ljust(1 << 20, b"\0"), MISMATCH
    yield (
        "raw that is a descriptor",
        "raw",
        descriptor(f'RW 1 FLAT "{VICTIM}" 0', create_type="monolithicFlat"),
        MISMATCH,
    )
    yield "raw that ends as a VHD", "raw", vpc(kind=2), MISMATCH
    yield "qcow2 that is qcow", "qcow2", qcow(), MISMATCH
    yield "qcow2 that is a CD too", "qcow2", _with(qcow2(), 32769, b"CD001"), MISMATCH
    yield "qcow2 that is a VHD too", "qcow2", qcow2() + vpc(kind=2)[-512:], MISMATCH
    yield "qcow2 that is a VDI too", "qcow2", _with(qcow2(version=2), 64, b"\x7f\x10\xda\xbe"), MISMATCH
    yield "vmdk that is a GPT disk too", "vmdk", _with(vmdk(), 4096, b"EFI PART"), MISMATCH
    yield "vpc that is a qcow2", "vpc", qcow2(), MISMATCH


def _with(data: bytes, at: int, put: bytes) -> bytes:
    data = data.ljust(at + len(put), b"\0")
    return data[:at] + put + data[at + len(put) :]


def _sizes() -> Iterator[tuple[str, str, bytes, str]]:
    yield "qcow2 of 2^63", "qcow2", _with(qcow2(), 24, struct.pack(">Q", 1 << 63)), SIZE
    yield "qcow2 of 2^64 - 1", "qcow2", _with(qcow2(), 24, struct.pack(">Q", 2**64 - 1)), SIZE
    yield "qcow of 2^63", "qcow", _with(qcow(), 24, struct.pack(">Q", 1 << 63)), SIZE
    yield "qed of 2^63", "qed", _with(qed(), 48, struct.pack("<Q", 1 << 63)), SIZE
    yield "parallels of 2^63", "parallels", _with(parallels(), 36, struct.pack("<Q", 1 << 54)), SIZE
    yield "vmdk of 2^63", "vmdk", vmdk(capacity=1 << 54), SIZE
    yield "vhdx of 2^63", "vhdx", vhdx(1 << 63), SIZE
    yield "qcow2 bomb of 64 TiB", "qcow2", qcow2(64 * TIB, cluster_bits=21), SPACE
    yield "vmdk bomb of 64 TiB", "vmdk", vmdk(1 << 20, capacity=64 * TIB // 512), SPACE


def _loops(directory: Path) -> Iterator[tuple[str, str, bytes, str]]:
    """To be read as trusted: else the reference alone is the reason."""
    chain = ("loop of one", "loop a", "loop b")
    following = {"loop of one": "loop-of-one.img", "loop a": "loop-b.img", "loop b": str(directory / "loop-a.img")}
    for name in chain:
        yield name, "qcow2", qcow2(backing=following[name], backing_format="qcow2"), LOOP


def _damaged() -> Iterator[tuple[str, str, bytes, str]]:
    yield "qcow2 cut in its header", "qcow2", qcow2()[:100], DAMAGED
    yield "qcow2 cut in its tables", "qcow2", _with(qcow2(), 3 * 4096, struct.pack(">Q", 1 << 63 | 1 << 30)), DAMAGED
    yield "qcow2 with an endless extension", "qcow2", _with(qcow2(), 104, struct.pack(">II", 1, 2**32 - 1)), DAMAGED
    yield "qcow2 with 2^32 - 1 snapshots", "qcow2", _with(qcow2(), 60, struct.pack(">IQ", 2**32 - 1, 4096)), DAMAGED
    yield "vmdk cut", "vmdk", vmdk()[:1024], DAMAGED
    yield "vhdx without tables", "vhdx", b"vhdxfile".ljust(1 << 20, b"\0"), DAMAGED
    yield "vpc with a wrong checksum", "vpc", _with(vpc(), 64, b"\0\0\0\0"), DAMAGED
    yield "empty qcow2", "qcow2", b"", DAMAGED
