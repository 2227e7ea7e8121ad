# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The bytes inside a gz, bz2, xz or zst file, piece by piece, in bounded memory; several streams in a row are one."""

from __future__ import annotations

import importlib
import shutil
import typing as t
import zlib

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, sparse

_READ = 1 << 18
#: What a foreign xz file may make us allocate for its dictionary; C(xz -9) needs 65 MiB.
_MEMORY = 1 << 30
_NO_PYTHON = "this host's Python was built without it"


class _Decoder(t.Protocol):
    """What C(bz2), C(lzma) and C(compression.zstd) have alike. One object decodes one stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gz:
    """C(zlib) in that shape."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def unpack_refused(
    path: str, fact: str, reason: str, way_out: str = "Get the file again.", **evidence: t.Any
) -> errors.RefusedError:
    """A refusal about a packed file."""
    return errors.RefusedError("unpacking", path, fact, reason=reason, way_out=way_out, evidence=evidence, joined="")


def unpacked(path: str, kind: str) -> t.Generator[bytes, None, None]:
    """The content of the packed file C(path); RefusedError when it is damaged or cut off."""
    module = _module(kind)
    if module is None and kind == "zst":
        yield from _by_program(path, ["zstd", "-q", "-d", "-c"])
        return
    if module is None:
        raise unpack_refused(path, f"{kind} cannot be unpacked: {_NO_PYTHON}", "tool_missing", "Unpack it beforehand.")
    damage: tuple[type[Exception], ...] = (EOFError, ValueError, zlib.error, OSError, *_own_errors(module))
    try:
        with open(path, "rb") as source:
            yield from _streams(source, lambda: _decoder(module, kind))
    except damage as exc:
        raise unpack_refused(path, f"it is no intact {kind} file ({exc})", "decompression_failed") from exc


def _module(kind: str) -> t.Any:
    """Loaded by name: some are not in every build of Python, zstd comes with 3.14."""
    try:
        return importlib.import_module({"gz": "zlib", "bz2": "bz2", "xz": "lzma", "zst": "compression.zstd"}[kind])
    except ImportError:
        return None


def _own_errors(module: t.Any) -> tuple[type[Exception], ...]:
    names = ("LZMAError", "ZstdError")
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def _decoder(module: t.Any, kind: str) -> _Decoder:
    if kind == "xz":
        return t.cast(_Decoder, module.LZMADecompressor(module.FORMAT_XZ, memlimit=_MEMORY))
    if kind == "gz":
        return _Gz()
    return t.cast(_Decoder, module.BZ2Decompressor() if kind == "bz2" else module.ZstdDecompressor())


def _streams(source: t.BinaryIO, make: t.Callable[[], _Decoder]) -> t.Iterator[bytes]:
    rest = source.read(_READ)
    while rest:
        decoder = make()
        yield from _stream(source, decoder, rest)
        rest = _after_padding(source, decoder.unused_data)


def _stream(source: t.BinaryIO, decoder: _Decoder, data: bytes) -> t.Iterator[bytes]:
    while not decoder.eof:
        out = decoder.decompress(data, sparse.CHUNK)
        yield out
        data = source.read(_READ) if decoder.needs_input and not decoder.eof else b""
        if not (out or data or decoder.eof):
            raise EOFError("it ends too early")


def _after_padding(source: t.BinaryIO, rest: bytes) -> bytes:
    """The beginning of the next stream; between streams and at the end there may be zeros."""
    rest = rest.lstrip(b"\0")
    while not rest:
        block = source.read(_READ)
        if not block:
            return b""
        rest = block.lstrip(b"\0")
    return rest


def _by_program(path: str, argv: t.Sequence[str]) -> t.Iterator[bytes]:
    if shutil.which(argv[0]) is None:
        fact = f"unpacking it needs the program {argv[0]}, which is not installed here"
        raise unpack_refused(path, fact, "tool_missing", f"Install {argv[0]}, or unpack the file beforehand.")
    try:
        with open(path, "rb") as source:  # by itself zstd follows no symbolic link, and one in /proc is one
            yield from process.streamed(argv, sparse.CHUNK, source)
    except errors.ToolError as exc:
        said = f"{argv[0]} cannot unpack it ({exc.stderr.strip()})"
        raise unpack_refused(path, said, "decompression_failed", argv=list(argv)) from exc
