# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Unpacking gz, bz2, xz and zst: streamed, zeros left out, and stopped before it fills the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._tools import decoders, sparse

_MAGIC = {"gz": b"\x1f\x8b\x08", "bz2": b"BZh", "xz": b"\xfd7zXZ\0", "zst": b"\x28\xb5\x2f\xfd"}


@dataclass(frozen=True)
class DecompressReport:
    """What was unpacked: how it was packed, and the bytes that came out."""

    compression: str
    bytes: int


def detect_compression(path: str) -> str | None:
    """How the file C(path) is packed, by its first bytes: gz, bz2, xz, zst or None."""
    with open(path, "rb") as source:
        first = source.read(10)
    for name, magic in _MAGIC.items():
        if first.startswith(magic) and (name != "bz2" or first[4:10] in (b"1AY&SY", b"\x17rE8P\x90")):
            return name
    return None


def decompress(
    source_path: str,
    dest_path: str,
    compression: str,
    *,
    limit_bytes: int | None = None,
    free_bytes_reserve: int = 0,
) -> DecompressReport:
    """Unpack C(source_path) into C(dest_path), a new file; nothing is left of it when that fails.

    C(compression) is gz, bz2, xz, zst, or auto (by the first bytes). Refuses to unpack more than C(limit_bytes), or
    so much that less than C(free_bytes_reserve) would be free on the file system. No fsync: the caller does that.
    """
    kind = detect_compression(source_path) if compression == "auto" else compression
    if kind not in _MAGIC:
        raise decoders.unpack_refused(source_path, "it is not packed as gz, bz2, xz or zst", "not_compressed")
    target = os.open(dest_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.closing(decoders.unpacked(source_path, kind)) as chunks:
            total = _write(chunks, target, source_path, limit_bytes, free_bytes_reserve)
    except BaseException:
        os.unlink(dest_path)
        raise
    finally:
        os.close(target)
    return DecompressReport(kind, total)


def _write(chunks: t.Iterator[bytes], target: int, path: str, limit: int | None, reserve: int) -> int:
    total = 0
    for data in _regrouped(chunks):
        if limit is not None and total + len(data) > limit:
            fact = f"more than {size.human(limit)} come out of {size.human(os.path.getsize(path))}"
            raise decoders.unpack_refused(
                path, fact, "decompression_bomb", "Raise the limit if that is right.", limit=limit
            )
        try:
            sparse.write_sparse(target, data, total)
            free = os.fstatvfs(target)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                _refuse_full(path, 0, max(reserve, 1))
            raise errors.EngineError(f"{path} could not be unpacked: {exc.strerror}", path=path) from exc
        total += len(data)
        _refuse_full(path, free.f_bavail * free.f_frsize, reserve)
    os.ftruncate(target, total)
    return total


def _refuse_full(path: str, free: int, reserve: int) -> None:
    if free < reserve:
        fact = f"unpacking it would leave less than {size.human(reserve)} free on the file system"
        raise decoders.unpack_refused(
            path, fact, "would_exceed_space", "Make room there.", free_bytes=free, reserve=reserve
        )


def _regrouped(chunks: t.Iterator[bytes]) -> t.Iterator[bytes]:
    """The same bytes in pieces that begin at multiples of 64 KiB, so that zeros are seen as whole blocks."""
    pending = bytearray()
    for data in chunks:
        pending += data
        while len(pending) >= sparse.CHUNK:
            yield bytes(pending[: sparse.CHUNK])
            del pending[: sparse.CHUNK]
    if pending:
        yield bytes(pending)
