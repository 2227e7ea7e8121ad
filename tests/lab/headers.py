"""The smallest well-formed images of every format, byte by byte: QEMU opens each of them.

With arguments for what an image can refer to. Data is never in them: they read as zeroes, or not at all.
"""

from __future__ import annotations

import functools
import struct
import uuid

MIB = 1 << 20
CLUSTER_BITS = 12
_CLUSTER = 1 << CLUSTER_BITS


def qcow2(
    size: int = MIB,
    *,
    version: int = 3,
    backing: str = "",
    backing_format: str = "",
    data_file: str | None = None,
    incompatible: int = 0,
    autoclear: int = 0,
    extensions: tuple[tuple[int, bytes], ...] = (),
    feature_names: tuple[tuple[int, int, str], ...] = (),
    cluster_bits: int = CLUSTER_BITS,
) -> bytes:
    """Cluster 0 is the header, 1 the refcount table, 2 a refcount block, 3 and on the L1 table."""
    cluster = 1 << cluster_bits
    l1_size = -(-size // (cluster * cluster // 8))
    l1_clusters = max(1, -(-l1_size * 8 // cluster))
    found = [*extensions, (0xE2792ACA, backing_format.encode())] if backing_format else list(extensions)
    found += [(0x44415441, data_file.encode())] if data_file is not None else []
    extra = _extensions([*found, (0x6803F857, _names(feature_names))])
    length = 104 if version == 3 else 72
    name = backing.encode("utf-8", "surrogateescape")
    name_at = length + len(extra) if backing else 0
    incompatible |= 4 if data_file is not None else 0
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, name_at, len(name), cluster_bits, size, 0, l1_size,
                       3 * cluster, cluster, 1, 0, 0)  # fmt: skip
    if version == 3:
        head += struct.pack(">QQQII", incompatible, 0, autoclear, 4, length)
    data = bytearray((3 + l1_clusters) * cluster)
    data[: len(head) + len(extra) + len(name)] = head + extra + name
    data[cluster : cluster + 8] = struct.pack(">Q", 2 * cluster)
    data[2 * cluster : 2 * cluster + 2 * (3 + l1_clusters)] = b"\0\1" * (3 + l1_clusters)
    return bytes(data)


def _extensions(found: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack(">II", m, len(d)) + d.ljust(-(-len(d) // 8) * 8, b"\0") for m, d in found) + bytes(8)


def _names(features: tuple[tuple[int, int, str], ...]) -> bytes:
    """The feature name table: (0 incompatible, 1 compatible, 2 autoclear; bit; name)."""
    return b"".join(bytes((kind, bit)) + name.encode().ljust(46, b"\0") for kind, bit, name in features)


def qcow(size: int = MIB, *, backing: str = "") -> bytes:
    name = backing.encode()
    head = struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 48 if backing else 0, len(name), 0, size, 12, 9, 0, 0, 2048)
    return (head + name).ljust(8192, b"\0")


def qed(size: int = MIB, *, backing: str = "", features: int = 0) -> bytes:
    name = backing.encode()
    features |= 1 if backing else 0
    head = struct.pack("<4sIIIQQQQQII", b"QED\0", 4096, 1 << 2, 1, features, 0, 0, 4096, size, 64, len(name))
    return (head + name).ljust(5 * 4096, b"\0")


def descriptor(
    extents: str, *, create_type: str = "monolithicSparse", parent: str = "", parent_cid: str = "ffffffff"
) -> bytes:
    hint = f'parentFileNameHint="{parent}"\n' if parent else ""
    text = f"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID={parent_cid}\n"
    text += f'createType="{create_type}"\n{hint}\n# Extent description\n{extents}\n'
    text += '# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = "4"\nddb.adapterType = "lsilogic"\n'
    return text.encode()


def vmdk(size: int = MIB, *, text: bytes | None = None, capacity: int | None = None, compressed: bool = False) -> bytes:
    """One sparse file. C(capacity) 0 makes QEMU follow the embedded descriptor."""
    sectors = size // 512
    text = descriptor(f'RW {sectors} SPARSE "image.vmdk"') if text is None else text
    head = struct.pack(
        "<4sIIQQQQIQQQB4sH", b"KDMV", 3 if compressed else 1, 0x30001 if compressed else 1,
        sectors if capacity is None else capacity, 128, 1, 20, 512, 0, 30, 128, 0, b"\n \r\n", int(compressed),
    )  # fmt: skip
    return (head.ljust(512, b"\0") + text).ljust(128 * 512, b"\0")


def vmdk_esx(size: int = MIB) -> bytes:
    """The sparse extents of ESX 3 (COWD)."""
    head = struct.pack("<4sIIIIII", b"COWD", 1, 3, size // 512, 128, 30, 1)
    text = descriptor(f'RW {size // 512} VMFSSPARSE "image.vmdk"', create_type="vmfsSparse")
    return (head.ljust(512, b"\0") + text).ljust(128 * 512, b"\0")


def vdi(size: int = MIB, *, parent: bytes = bytes(16)) -> bytes:
    blocks = -(-size // MIB)
    head = b"<<< QEMU VM Virtual Disk Image >>>\n".ljust(64, b"\0")
    head += struct.pack("<IIIII256sIIIIIIIQIIII", 0xBEDA107F, 0x10001, 0x180, 1, 0, b"", 512, 1024, 0, 0, 0, 512, 0,
                        size, MIB, 0, blocks, 0)  # fmt: skip
    head += uuid.UUID(int=1).bytes + uuid.UUID(int=2).bytes + bytes(16) + parent
    return head.ljust(512, b"\0") + b"\xff\xff\xff\xff" * blocks + bytes(512)


def parallels(size: int = MIB, *, magic: bytes = b"WithouFreSpacExt") -> bytes:
    entries = -(-size // MIB)
    return struct.pack("<16sIIIIIQIIIQ", magic, 2, 16, 2, 2048, entries, size // 512, 0, 2048, 0, 0).ljust(MIB, b"\0")


def _footer(size: int, kind: int, application: bytes, geometry: tuple[int, int, int]) -> bytes:
    dynamic_at = 0xFFFFFFFFFFFFFFFF if kind == 2 else 512
    data = struct.pack(">8sIIQI4sII", b"conectix", 2, 0x10000, dynamic_at, 0, application, 0x50003, 0x5769326B)
    data += struct.pack(">QQHBBI", size, size, *geometry, kind)
    data = data + bytes(4) + uuid.UUID(int=3).bytes
    data = data.ljust(512, b"\0")
    return data[:64] + struct.pack(">I", ~sum(data) & 0xFFFFFFFF) + data[68:]


def vpc(
    size: int = MIB,
    *,
    kind: int = 3,
    application: bytes = b"qem2",
    geometry: tuple[int, int, int] = (65535, 16, 255),
    parent: str = "",
    locator: str = "",
) -> bytes:
    """Type 2 is fixed, 3 dynamic, 4 differencing. The full geometry says no size."""
    footer = _footer(size, kind, application, geometry)
    if kind == 2:
        return bytes(size) + footer
    blocks = -(-size // (2 * MIB))
    head = struct.pack(">8sQQIIII16sII", b"cxsparse", 2**64 - 1, 1536, 0x10000, blocks, 2 * MIB, 0, bytes(16), 0, 0)
    head += parent.encode("utf-16-be").ljust(512, b"\0")
    raw = locator.encode("utf-16-le")
    head += struct.pack(">4sIIIQ", b"W2ku", 1, len(raw), 0, 2048) if locator else b""
    table = (b"\xff\xff\xff\xff" * blocks).ljust(512, b"\xff")
    return footer + head.ljust(1024, b"\0") + table + raw.ljust(512, b"\0") + footer


@functools.lru_cache(maxsize=1)
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _bit in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def _crc32c(data: bytes) -> int:
    table, value = _crc_table(), 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _sealed(data: bytes, size: int) -> bytes:
    """With the checksum of VHDX at offset 4."""
    data = data.ljust(size, b"\0")
    return data[:4] + struct.pack("<I", _crc32c(data)) + data[8:]


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


@functools.lru_cache(maxsize=None)
def vhdx(size: int = MIB, *, parent: str = "", sector: int = 512) -> bytes:
    """64 KiB steps: identifier, two headers, two region tables; log at 1 MiB, block table at 2, metadata at 3."""
    bat, metadata = "2dc27766-f623-4200-9d64-115e9bfd4a08", "8b7ca206-4790-4b9a-b8fe-575f050f886e"
    heads = [
        struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, n, b"a" * 16, b"b" * 16, bytes(16), 0, 1, MIB, MIB)
        for n in (1, 2)
    ]
    regions = struct.pack("<4sIII", b"regi", 0, 2, 0)
    regions += struct.pack("<16sQII", _guid(bat), 2 * MIB, MIB, 1) + struct.pack(
        "<16sQII", _guid(metadata), 3 * MIB, MIB, 1
    )
    table = _sealed(regions, 65536)
    parts = [
        b"vhdxfile".ljust(65536, b"\0"),
        *(_sealed(head, 4096).ljust(65536, b"\0") for head in heads),
        table,
        table,
    ]
    return b"".join(parts).ljust(3 * MIB, b"\0") + _vhdx_metadata(size, parent, sector).ljust(MIB, b"\0")


def _vhdx_metadata(size: int, parent: str, sector: int) -> bytes:
    items = [
        ("caa16737-fa36-4d43-b3b6-33f0aa44e76b", struct.pack("<II", MIB, 2 if parent else 0)),
        ("2fa54224-cd1b-4876-b211-5dbed83bf4b8", struct.pack("<Q", size)),
        ("beca12ab-b2e6-4523-93ef-c309e000c746", b"p" * 16),
        ("8141bf1d-a96f-4709-ba47-f233a8faab5f", struct.pack("<I", sector)),
        ("cda348c7-445d-4471-9cc9-e9885251c556", struct.pack("<I", sector)),
    ]
    items += [("a8d35f2d-b30b-454d-abf7-d3d84834ab0c", _vhdx_locator(parent))] if parent else []
    table, data = struct.pack("<8sHH20x", b"metadata", 0, len(items)), b""
    for guid, value in items:
        table += struct.pack("<16sIIII", _guid(guid), 65536 + len(data), len(value), 4, 0)
        data += value
    return table.ljust(65536, b"\0") + data


def _vhdx_locator(parent: str) -> bytes:
    pairs = [("parent_linkage", f"{{{uuid.UUID(int=4)}}}"), ("absolute_win32_path", parent)]
    head, data = _guid("b04aefb7-d19e-4a81-b789-25b8e9445913") + struct.pack("<HH", 0, len(pairs)), b""
    at = 20 + 12 * len(pairs)
    for key, value in ((k.encode("utf-16-le"), v.encode("utf-16-le")) for k, v in pairs):
        head += struct.pack("<IIHH", at + len(data), at + len(data) + len(key), len(key), len(value))
        data += key + value
    return head + data


def luks(size: int = MIB) -> bytes:
    """A header with one active slot that no password opens."""
    slots = [
        struct.pack(">II32sII", 0xAC71F3 if n == 0 else 0xDEAD, 1000, bytes(32), 8 + 504 * n, 4000) for n in range(8)
    ]
    head = struct.pack(">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, b"aes", b"xts-plain64", b"sha256", 4040, 64,
                       bytes(20), bytes(32), 1000, str(uuid.UUID(int=5)).encode())  # fmt: skip
    return (head + b"".join(slots)).ljust(4040 * 512 + size, b"\0")


def every_format() -> dict[str, tuple[str, bytes]]:
    """Name: (format, bytes). One of each kind that a reader has a branch for."""
    return {
        "qcow2": ("qcow2", qcow2()),
        "qcow2 version 2": ("qcow2", qcow2(version=2)),
        "qcow2 with backing": ("qcow2", qcow2(backing="base.raw", backing_format="raw")),
        "qcow2 with data file": ("qcow2", qcow2(data_file="data.raw")),
        "qcow": ("qcow", qcow()),
        "qcow with backing": ("qcow", qcow(backing="base.raw")),
        "qed": ("qed", qed()),
        "qed with backing": ("qed", qed(backing="base.raw")),
        "vmdk": ("vmdk", vmdk()),
        "vmdk with parent": ("vmdk", vmdk(text=descriptor('RW 2048 SPARSE "image.vmdk"', parent="base.vmdk"))),
        "vmdk of ESX": ("vmdk", vmdk_esx()),
        "vdi": ("vdi", vdi()),
        "vhdx": ("vhdx", vhdx()),
        "vpc": ("vpc", vpc()),
        "vpc fixed": ("vpc", vpc(kind=2)),
        "parallels": ("parallels", parallels()),
        "parallels, old": ("parallels", parallels(magic=b"WithoutFreeSpace")),
        "luks": ("luks", luks()),
        "raw": ("raw", bytes(4096)),
    }
