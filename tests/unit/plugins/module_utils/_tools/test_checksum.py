"""Checksums and checksum files as they are found in the world."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.checksum import (
    ALGORITHMS,
    Checksum,
    checksum_from_file,
    parse_checksum,
)

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_value_is_read(algorithm: str) -> None:
    value = "0aB" * 50
    value = value[: ALGORITHMS[algorithm]]
    assert parse_checksum(f" {algorithm.upper()}:{value} ") == Checksum(algorithm, value.lower())


def test_a_url_is_read() -> None:
    parsed = parse_checksum("sha256:https://host:8443/x/SHA256SUMS")
    assert parsed == Checksum("sha256", url="https://host:8443/x/SHA256SUMS")
    assert str(parsed) == "sha256:https://host:8443/x/SHA256SUMS"


@pytest.mark.parametrize(
    "text", ["", A, "sha256", "sha256:", "sha256:" + A[1:], "sha256:" + "g" * 64, "crc32:00000000"]
)
def test_anything_else_is_explained(text: str) -> None:
    with pytest.raises(ValueError, match=r"checksum is written as|hexadecimal digits"):
        parse_checksum(text)


@pytest.mark.parametrize(
    "line",
    [
        f"{A}  disk.qcow2",
        f"{A} *disk.qcow2",
        f"{A}\tdisk.qcow2",
        f"{A.upper()}  ./disk.qcow2",
        f"{A}  images/v1/disk.qcow2",
        f"SHA256 (disk.qcow2) = {A}",
        f"SHA256(images/disk.qcow2)= {A}",
        f"SHA2-256(disk.qcow2)= {A}",
        A,
        f"# comment\r\n\r\n{B}  other.qcow2\r\n{A}  disk.qcow2\r\n",
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{A} *disk.qcow2\n-----BEGIN PGP SIGNATURE-----\niQIz\n",
        f"MD5 (disk.qcow2) = {'1' * 32}\nSHA512 (disk.qcow2) = {'2' * 128}\nSHA256 (disk.qcow2) = {A}",
        f"{B}  old/disk.qcow2.sig\n{A}  disk.qcow2",
    ],
)
def test_every_style_of_line_is_read(line: str) -> None:
    assert checksum_from_file(line, "disk.qcow2", "sha256") == A


def test_names_with_spaces_and_escapes() -> None:
    assert checksum_from_file(f"{A}  a b.img", "a b.img", "sha256") == A
    assert checksum_from_file(f"\\{A}  a\\\\b", "a\\b", "sha256") == A


def test_the_name_with_its_directory_counts_first() -> None:
    text = f"{A}  one/disk.img\n{B}  two/disk.img\n"
    assert checksum_from_file(text, "two/disk.img", "sha256") == B
    with pytest.raises(ValueError, match=r"2 different hashes for disk.img"):
        checksum_from_file(text, "disk.img", "sha256")


def test_what_is_not_listed_is_not_guessed() -> None:
    assert checksum_from_file(f"{A}  other.img", "disk.img", "sha256") is None
    assert checksum_from_file(f"{A}  disk.img", "disk.img", "sha512") is None
    assert checksum_from_file("", "disk.img", "sha256") is None
    assert checksum_from_file("<html>404</html>", "disk.img", "sha256") is None
