"""What the readers make of single fields, where no qemu-img is needed to know."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, Reference
from ansible_collections.platter.qemu.plugins.module_utils._formats import vmdk as vmdk_reader
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import beside, has_protocol
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import read_header
from ansible_collections.platter.qemu.tests.lab.headers import (
    descriptor,
    luks,
    parallels,
    qed,
    vdi,
    vhdx,
    vmdk,
    vmdk_esx,
    vpc,
)
from ansible_collections.platter.qemu.tests.lab.sources import MemorySource

MIB = 1 << 20
PARALLELS_MAGICS = (b"WithoutFreeSpace", b"WithouFreSpacExt")


def read(format: str, data: bytes) -> Header:
    return read_header(format, MemorySource(data))


def put(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_raw_is_counted_in_whole_sectors() -> None:
    assert [read("raw", bytes(n)).virtual_size for n in (0, 1, 512, 513)] == [0, 512, 512, 1024]


def test_vmdk_extents_add_up_and_are_references() -> None:
    text = 'RW 2 FLAT "a.vmdk" 0\nRW 3 FLAT "b.vmdk" 7\nRDONLY 5 FLAT "c.vmdk" 0\nRW 9 ZERO\n'
    header = read("vmdk", descriptor(text, create_type="twoGbMaxExtentFlat"))
    assert header.virtual_size == 5 * 512
    assert [reference.target for reference in header.references] == ["a.vmdk", "b.vmdk", "c.vmdk"]
    assert [extent.offset for extent in header.extents] == [0, 7 * 512, 0, 0]


def test_vmdk_sparse_members_have_their_own_size() -> None:
    header = read("vmdk", descriptor('RW 2048 SPARSE "s.vmdk"', create_type="twoGbMaxExtentSparse"))
    full = vmdk_reader.complete(header, {"s.vmdk": MemorySource(vmdk(2 * MIB))})
    assert (header.virtual_size, header.cluster_size) == (MIB, None)
    assert (full.virtual_size, full.cluster_size) == (2 * MIB, 65536)


def test_a_vmdk_member_that_is_a_descriptor_itself_is_an_error() -> None:
    header = read("vmdk", descriptor('RW 2048 SPARSE "s.vmdk"', create_type="twoGbMaxExtentSparse"))
    with pytest.raises(HeaderError):
        vmdk_reader.complete(header, {"s.vmdk": MemorySource(vmdk(capacity=0))})


@pytest.mark.parametrize(
    ("text", "create_type"),
    [
        ('RW 1 FLAT "a.vmdk"', "monolithicFlat"),
        ('RW 1 FLAT "a.vmdk" -1', "monolithicFlat"),
        ('RW 1 SPARSE "a.vmdk" 0', "twoGbMaxExtentSparse"),
        ('RW 1 FLAT "a.vmdk" 0', "fullDevice"),
        ('RW 1 FLAT "a.vmdk" 0', "x" * 200),
    ],
)
def test_descriptors_that_qemu_refuses_are_errors(text: str, create_type: str) -> None:
    with pytest.raises(HeaderError):
        read("vmdk", descriptor(text, create_type=create_type))


def test_a_renamed_vmdk_does_not_refer_to_its_old_name() -> None:
    assert read("vmdk", vmdk(text=descriptor('RW 2048 SPARSE "old-name.vmdk"'))).references == ()


def test_a_sparse_file_without_capacity_is_its_descriptor() -> None:
    text = descriptor('RW 7 FLAT "flat.vmdk" 0', create_type="monolithicFlat")
    header = read("vmdk", vmdk(text=text, capacity=0))
    assert (header.virtual_size, header.options["subformat"]) == (7 * 512, "monolithicFlat")


def test_an_esx_extent_is_read() -> None:
    header = read("vmdk", vmdk_esx(2 * MIB))
    assert (header.virtual_size, header.cluster_size, header.references) == (2 * MIB, 65536, ())


def test_the_parent_of_a_vmdk_without_a_name_is_noticed() -> None:
    lonely = read("vmdk", vmdk(text=descriptor('RW 2048 SPARSE "x.vmdk"', parent_cid="12345678")))
    assert [vmdk_reader.has_parent_without_name(header) for header in (lonely, read("vmdk", vmdk()))] == [True, False]


def test_a_stream_is_compressed() -> None:
    header = read("vmdk", vmdk(compressed=True))
    assert (header.compressed, header.options["subformat"]) == (True, "streamOptimized")


def test_the_final_header_of_a_stream_is_at_its_end() -> None:
    first = bytearray(vmdk(compressed=True))
    final = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0") + vmdk(4 * MIB, compressed=True)[:512] + bytes(512)
    first[56:64] = b"\xff" * 8
    assert read("vmdk", bytes(first) + final).virtual_size == 4 * MIB


@pytest.mark.parametrize(("kind", "application", "size"), [(3, b"qem2", MIB), (3, b"vpc ", MIB), (2, b"win ", MIB)])
def test_a_full_geometry_says_no_size(kind: int, application: bytes, size: int) -> None:
    assert read("vpc", vpc(size, kind=kind, application=application)).virtual_size == size


@pytest.mark.parametrize("application", [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0"])
def test_these_programs_mean_the_size_and_not_the_geometry(application: bytes) -> None:
    assert read("vpc", vpc(application=application, geometry=(20, 4, 17))).virtual_size == MIB


@pytest.mark.parametrize("application", [b"vpc ", b"qemu", b"vbox", b"\0\0\0\0"])
def test_all_other_programs_mean_the_geometry(application: bytes) -> None:
    assert read("vpc", vpc(application=application, geometry=(20, 4, 17))).virtual_size == 20 * 4 * 17 * 512


def test_all_names_of_a_vhd_parent_are_references() -> None:
    header = read("vpc", vpc(kind=4, parent="base.vhd", locator="D:\\base.vhd"))
    assert header.references == (Reference("parent", "base.vhd"), Reference("parent", "D:\\base.vhd"))


def test_a_vhdx_parent_is_a_reference() -> None:
    assert read("vhdx", vhdx(parent="C:\\base.vhdx")).references == (Reference("parent", "C:\\base.vhdx"),)


def test_a_vhdx_parent_without_a_locator_is_a_reference_to_nowhere() -> None:
    data = put(vhdx(parent="x"), 3 * MIB + 10, struct.pack("<H", 5))
    assert read("vhdx", data).references == (Reference("parent", ""),)


def test_unknown_vhdx_items_that_are_required_are_unknown_features() -> None:
    data = put(vhdx(), 3 * MIB + 32 + 5 * 32, b"u" * 16 + struct.pack("<IIII", 0, 0, 4, 0))
    header = read("vhdx", put(data, 3 * MIB + 10, struct.pack("<H", 6)))
    assert header.unknown_features == ("metadata item 75757575-7575-7575-7575-757575757575",)


def test_a_vhdx_log_that_is_not_replayed_is_dirty() -> None:
    assert read("vhdx", put(vhdx(), 2 * 65536 + 48, b"l")).dirty


def test_an_odd_vdi_is_counted_in_whole_sectors() -> None:
    assert read("vdi", vdi(MIB - 100)).virtual_size == MIB


def test_a_vdi_parent_is_a_reference() -> None:
    assert [reference.kind for reference in read("vdi", vdi(parent=b"p" * 16)).references] == ["parent"]


def test_qed_names_its_raw_base() -> None:
    header = read("qed", qed(backing="base.raw", features=4))
    assert (header.backing_file, header.backing_format) == ("base.raw", "raw")


def test_unknown_qed_features_are_listed() -> None:
    assert read("qed", qed(features=8 | 1 << 40)).unknown_features == ("bit 3", "bit 40")


def test_old_parallels_images_count_in_32_bits() -> None:
    sectors = struct.pack("<Q", (1 << 32) + (1 << 20))
    sizes = [read("parallels", put(parallels(magic=magic), 36, sectors)).virtual_size for magic in PARALLELS_MAGICS]
    assert sizes == [512 << 20, (512 << 32) + (512 << 20)]


def test_parallels_in_use_is_dirty() -> None:
    assert read("parallels", put(parallels(), 44, struct.pack("<I", 0x746F6E59))).dirty


def test_luks_tells_its_slots_and_no_salt() -> None:
    header = read("luks", luks())
    assert header.format_specific is not None
    slots = header.format_specific["data"]["slots"]
    assert slots[0] == {"active": True, "iters": 1000, "key-offset": 4096, "stripes": 4000}
    assert slots[1] == {"active": False, "key-offset": 262144}


@pytest.mark.parametrize(
    ("name", "there"), [("nbd:x", True), ("json:{}", True), ("a:b/c", True), ("/a:b", False), ("./a:b", False)]
)
def test_a_colon_before_the_first_slash_is_a_protocol(name: str, there: bool) -> None:
    assert has_protocol(name) == there


@pytest.mark.parametrize(
    ("image", "target", "path"),
    [
        ("/a/b/image", "base", "/a/b/base"),
        ("/a/b/image", "../base", "/a/b/../base"),
        ("/a/b/image", "/base", "/base"),
        ("/a/b/image", "nbd:base", "nbd:base"),
        ("image", "base", "base"),
        ("./image", "base", "./base"),
    ],
)
def test_files_beside_an_image_are_found_as_qemu_finds_them(image: str, target: str, path: str) -> None:
    assert beside(image, target) == path
