"""What our readers say of an image is what qemu-img info says, field by field."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import vmdk
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import to_qemu_info
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import FORMAT_NAMES, detect, read_header
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img, require_qemu
from ansible_collections.platter.qemu.tests.lab.sources import MemorySource

pytestmark = pytest.mark.usefixtures("qemu")


@pytest.fixture(scope="module")
def qemu() -> None:
    require_qemu()


@dataclass(frozen=True)
class Case:
    """An image to make: C(options) is what goes to -o, C(observed) what the header must then tell back."""

    format: str
    options: str = ""
    size: str = "10M"
    observed: tuple[tuple[str, Any], ...] = ()
    after: Callable[[Path], None] | None = None
    base: str = ""
    secret: bool = False

    def __str__(self) -> str:
        parts = (self.format, self.options, self.size, self.base and f"on-{self.base}")
        return "-".join(part for part in (*parts, self.after.__name__ if self.after else "") if part)


def snapshots(path: Path) -> None:
    for name in ("one", "zwei ü", "three"):
        qemu_img("snapshot", "-c", name, path)
    qemu_img("snapshot", "-d", "one", path)


def snapshot_then_grown(path: Path) -> None:
    qemu_img("snapshot", "-c", "before", path)
    qemu_img("resize", "-q", "-f", "qcow2", path, "20M")


def bitmaps(path: Path) -> None:
    qemu_img("bitmap", "--add", path, "recording")
    qemu_img("bitmap", "--add", "--disable", "-g", "512k", path, "a longer name")


def many_snapshots(path: Path) -> None:
    for index in range(40):
        qemu_img("snapshot", "-c", f"snapshot number {index}", path)


def downgraded(path: Path) -> None:
    qemu_img("amend", "-f", "qcow2", "-o", "compat=0.10", path)


def marked_dirty(path: Path) -> None:
    _set_byte(path, 79, 1)


def marked_corrupt(path: Path) -> None:
    _set_byte(path, 79, 2)


def bitmaps_void(path: Path) -> None:
    """As after a write by a QEMU that does not know bitmaps."""
    bitmaps(path)
    _set_byte(path, 95, 0)


def in_use_bitmaps(path: Path) -> None:
    """As after a crash while the bitmap was recording."""
    bitmaps(path)
    data = path.read_bytes()
    directory = data.index(b"recording") - 24
    _set_byte(path, directory + 15, data[directory + 15] | 1)


def needs_check(path: Path) -> None:
    _set_byte(path, 16, path.read_bytes()[16] | 2)


def _set_byte(path: Path, offset: int, value: int) -> None:
    with path.open("r+b") as image:
        image.seek(offset)
        image.write(bytes([value]))


QCOW2 = [
    Case("qcow2", observed=(("compat", "1.1"), ("cluster_size", 65536), ("refcount_bits", 16))),
    Case("qcow2", "compat=0.10", observed=(("compat", "0.10"),)),
    Case("qcow2", "compat=v3,lazy_refcounts=on", observed=(("lazy_refcounts", True), ("compat", "1.1"))),
    *(
        Case("qcow2", f"cluster_size={size}", observed=(("cluster_size", size),))
        for size in (512, 4096, 1 << 20, 2 << 20)
    ),
    *(Case("qcow2", f"refcount_bits={bits}", observed=(("refcount_bits", bits),)) for bits in (1, 2, 8, 32, 64)),
    Case("qcow2", "extended_l2=on", observed=(("extended_l2", True),)),
    Case("qcow2", "extended_l2=on,cluster_size=16k,compression_type=zstd", observed=(("compression_type", "zstd"),)),
    *(Case("qcow2", f"preallocation={mode}") for mode in ("metadata", "falloc", "full")),
    Case("qcow2", "data_file=data.raw", observed=(("data_file", "data.raw"), ("data_file_raw", False))),
    Case("qcow2", "data_file=data.raw,data_file_raw=on", observed=(("data_file_raw", True),)),
    Case("qcow2", "encrypt.format=aes,encrypt.key-secret=key", secret=True, observed=(("encrypt_format", "aes"),)),
    Case(
        "qcow2",
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        secret=True,
        observed=(("encrypt_format", "luks"), ("encrypt_cipher_alg", "aes-256"), ("encrypt_hash_alg", "sha256")),
    ),
    Case("qcow2", after=snapshots),
    Case("qcow2", "compat=0.10", after=snapshots),
    Case("qcow2", after=snapshot_then_grown),
    Case("qcow2", "cluster_size=4k", after=many_snapshots),
    Case("qcow2", after=bitmaps),
    Case("qcow2", after=bitmaps_void),
    Case("qcow2", after=in_use_bitmaps),
    Case("qcow2", "lazy_refcounts=on", after=downgraded, observed=(("lazy_refcounts", False), ("compat", "0.10"))),
    Case("qcow2", after=marked_dirty),
    Case("qcow2", after=marked_corrupt),
    *(Case("qcow2", size="", base=base) for base in ("raw", "qcow2", "vmdk", "vdi", "qed")),
    Case("qcow2", "cluster_size=512", size="", base="raw"),
    Case("qcow2", "compat=0.10", size="", base="qcow2"),
    *(Case("qcow2", size=size) for size in ("0", "512", "1G", "63T")),
]
OLD = [
    *(Case(format, size=size) for format in ("raw", "qcow", "qed") for size in ("512", "10000001", "1G")),
    Case("raw", size="0"),
    Case("qcow", size="", base="raw"),
    Case("qcow", "encrypt.format=aes,encrypt.key-secret=key", secret=True, observed=(("encrypt_format", "aes"),)),
    Case("qed", size="", base="raw"),
    Case("qed", size="", base="qcow2"),
    Case("qed", "cluster_size=4k,table_size=2", observed=(("cluster_size", 4096), ("table_size", 2))),
    Case("qed", after=needs_check),
]
VMDK = [
    *(
        Case("vmdk", f"subformat={subformat}", size=size, observed=(("subformat", subformat),))
        for subformat in (
            "monolithicSparse",
            "monolithicFlat",
            "twoGbMaxExtentSparse",
            "twoGbMaxExtentFlat",
            "streamOptimized",
        )
        for size in ("10M", "5G")
    ),
    *(
        Case("vmdk", f"adapter_type={adapter}", observed=(("adapter_type", adapter),))
        for adapter in ("ide", "lsilogic", "buslogic", "legacyESX")
    ),
    Case("vmdk", "hwversion=14,toolsversion=11", observed=(("hwversion", "14"), ("toolsversion", "11"))),
    Case("vmdk", "compat6=on", observed=(("compat6", True), ("hwversion", "6"))),
    Case("vmdk", "zeroed_grain=on", observed=(("zeroed_grain", True),)),
    Case("vmdk", "zeroed_grain=on,subformat=twoGbMaxExtentSparse", size="3G", observed=(("zeroed_grain", True),)),
    Case("vmdk", size="", base="vmdk"),
    Case("vmdk", "subformat=twoGbMaxExtentSparse", size="", base="vmdk"),
    Case("vmdk", "subformat=streamOptimized", size="", base="vmdk"),
]
OTHERS = [
    *(Case(format, size=size) for format in ("vdi", "vhdx", "vpc", "parallels") for size in ("512", "10000001", "3G")),
    Case("vdi", "static=on", observed=(("static", True),)),
    Case("vhdx", "subformat=fixed", observed=(("subformat", "fixed"),)),
    Case("vhdx", "block_size=1M,log_size=3M", observed=(("block_size", 1 << 20), ("log_size", 3 << 20))),
    Case("vhdx", "block_size=256M"),
    Case("vpc", "force_size=on", observed=(("force_size", True), ("subformat", "dynamic"))),
    Case("vpc", "subformat=fixed", observed=(("force_size", False), ("subformat", "fixed"))),
    Case("vpc", "subformat=fixed,force_size=on", observed=(("force_size", True), ("subformat", "fixed"))),
    Case("vpc", size="200G"),
    *(Case("parallels", f"cluster_size={size}", observed=(("cluster_size", size),)) for size in (4096, 65536, 2 << 20)),
    Case("luks", "key-secret=key,iter-time=10", secret=True, observed=(("cipher_alg", "aes-256"),)),
    Case(
        "luks",
        "key-secret=key,iter-time=10,cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=md5,hash-alg=sha512",
        secret=True,
        observed=(("ivgen_hash_alg", "md5"), ("cipher_mode", "cbc"), ("hash_alg", "sha512"), ("ivgen_alg", "essiv")),
    ),
    Case("luks", "key-secret=key,iter-time=10,cipher-alg=aes-192", size="1000001", secret=True),
]
CASES = QCOW2 + OLD + VMDK + OTHERS


def _make(case: Case, directory: Path) -> Path:
    more: list[object] = []
    if case.secret:
        (directory / "secret").write_text("a password")
        more += ["--object", "secret,id=key,file=secret"]
    if case.base:
        create(directory / "base", case.base, "7M")
        more += ["-b", "base", "-F", case.base]
    path = create(directory / "image", case.format, case.size, case.options, *more)
    if case.after:
        case.after(path)
    return path


class File(MemorySource):
    """A file of any length: read where it is asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(b"", path.stat().st_size)
        self.path = path

    def read(self, offset: int, size: int) -> bytes:
        super().read(offset, size)
        with self.path.open("rb") as image:
            return os.pread(image.fileno(), size, offset)


def _read(path: Path, format: str) -> Header:
    header = read_header(format, File(path))
    members = {extent.filename: path.parent / extent.filename for extent in header.extents if extent.filename}
    if format == "vmdk" and members:
        return vmdk.complete(header, {name: File(member) for name, member in members.items()})
    return header


def _actual_size(path: Path, header: Header) -> int:
    """QEMU counts the members of a VMDK with the image, but not the data file of a qcow2."""
    members = {extent.filename for extent in header.extents if extent.filename}
    return sum((path.parent / name).stat().st_blocks * 512 for name in {path.name, *members})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_field_is_as_qemu_img_says_and_options_are_read_back(case: Case, tmp_path: Path) -> None:
    path = _make(case, tmp_path)
    header = _read(path, case.format)
    told = info(path, case.format)
    told.pop("children", None)  # since QEMU 8.0: the tree below the image, which is not in its header
    assert to_qemu_info(header, filename=str(path), actual_size=_actual_size(path, header)) == told
    assert {name: header.options.get(name) for name, _value in case.observed} == dict(case.observed)


@pytest.mark.parametrize("name", ["./image", "../images/image", "image"])
def test_relative_names_are_joined_as_qemu_joins_them(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "images"
    directory.mkdir()
    create(directory / "base", "raw", "1M")
    path = create(directory / "image", "qcow2", "", "", "-b", "base", "-F", "raw")
    actual = _actual_size(path, _read(path, "qcow2"))
    ours = to_qemu_info(_read(path, "qcow2"), filename=name, actual_size=actual)
    theirs = info(path, "qcow2", name)
    assert ours["full-backing-filename"] == theirs["full-backing-filename"]


@pytest.mark.parametrize("format", [name for name in FORMAT_NAMES if name not in ("raw", "luks")])
def test_a_new_image_is_recognised_as_its_own_format_only(format: str, tmp_path: Path) -> None:
    data = create(tmp_path / "image", format, "10M").read_bytes()
    assert detect(data[:4096], data[-512:]) == (format,)


def test_a_fixed_vhd_is_recognised_by_its_end_only(tmp_path: Path) -> None:
    data = create(tmp_path / "image", "vpc", "10M", "subformat=fixed").read_bytes()
    assert (detect(data[:4096]), detect(data[:4096], data[-512:])) == ((), ("vpc",))
