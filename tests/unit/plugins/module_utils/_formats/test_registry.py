"""Signatures: what bytes claim to be."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import (
    FORMAT_NAMES,
    detect,
    foreign_signatures,
    read_header,
)
from ansible_collections.platter.qemu.tests.lab import headers
from ansible_collections.platter.qemu.tests.lab.sources import MemorySource

IMAGES = headers.every_format()


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_recognised_as_itself_and_nothing_else(name: str) -> None:
    format, data = IMAGES[name]
    assert detect(data[:512], data[-512:]) == (() if format == "raw" else (format,))


def test_every_format_has_a_reader() -> None:
    assert {read_header(format, MemorySource(data)).format for format, data in IMAGES.values()} == set(FORMAT_NAMES)


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(HeaderError):
        read_header("dmg", MemorySource(b""))


@pytest.mark.parametrize("format", [name for name in FORMAT_NAMES if name != "raw"])
def test_another_formats_bytes_are_an_error(format: str) -> None:
    for other, data in IMAGES.values():
        if other != format:
            with pytest.raises(HeaderError):
                read_header(format, MemorySource(data))


@pytest.mark.parametrize(
    "text",
    [
        b"# Disk DescriptorFile\nversion=1\n",
        b"# Disk DescriptorFile\r\nversion=1\r\nCID=1\r\n",
        b"# other words\n# and more\nversion=2\n",
        b"# c\n  \nversion=3\n",
        b"version=1\n",
    ],
)
def test_texts_that_qemu_takes_for_a_descriptor(text: bytes) -> None:
    assert detect(text) == ("vmdk",)


@pytest.mark.parametrize(
    "text", [b"version=4\n", b"version=1", b"#!/bin/sh\necho version=1\n", b"", b"QFI", b"\n" * 512]
)
def test_texts_that_are_no_descriptor(text: bytes) -> None:
    assert detect(text) == ()


@pytest.mark.parametrize(
    ("name", "at", "magic"),
    [
        ("mbr", 510, b"\x55\xaa"),
        ("gpt", 512, b"EFI PART"),
        ("gpt", 4096, b"EFI PART"),
        ("iso9660", 32769, b"CD001"),
        ("bochs", 0, b"Bochs Virtual HD Image"),
        ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
        ("luks2", 0, b"LUKS\xba\xbe\0\2"),
    ],
)
def test_foreign_signatures(name: str, at: int, magic: bytes) -> None:
    data = bytes(at) + magic
    assert foreign_signatures(data.ljust(40_000, b"\0")) == (name,)
    assert foreign_signatures(bytes(at + 1) + magic) == ()


def test_an_apple_image_is_known_by_its_end() -> None:
    assert foreign_signatures(bytes(512), b"koly".ljust(512, b"\0")) == ("dmg",)


def test_two_formats_at_once_are_both_named() -> None:
    data = bytearray(headers.qcow2(version=2))
    data[64:68] = b"\x7f\x10\xda\xbe"
    assert detect(bytes(data), headers.vpc(kind=2)[-512:]) == ("qcow2", "vdi", "vpc")
