# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Downloads over HTTP(S): resumed when broken off, verified while they run, skipped when nothing changed."""

from __future__ import annotations

import http.client
import os
import ssl
import time
import typing as t
import urllib.error
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._tools import sparse
from ansible_collections.platter.qemu.plugins.module_utils._tools.checksum import checksum_from_file, parse_checksum
from ansible_collections.platter.qemu.plugins.module_utils._tools.http_access import (
    TRANSPORT_ERRORS,
    Access,
    Validator,
    check_status,
    length_of,
    open_url,
    public_url,
    refused,
    unreachable,
    validator_of,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.partial import Partial

__all__ = ["DownloadReport", "HeadReport", "Validator", "download", "head", "resolve_checksum"]

#: Seconds before each new try; a server that said it is busy is tried again too.
_PAUSES = (0.2, 1.0, 3.0)
_BUSY = frozenset((429, 500, 502, 503, 504))
#: A broken connection that brought this much is not counted as a failed try.
_PROGRESS = 1 << 20


@dataclass(frozen=True)
class DownloadReport:
    """What came of a download. C(digest) is algorithm:hex, of all bytes; None when nothing was fetched."""

    status: str  # fetched, not_modified
    bytes: int
    etag: str | None
    last_modified: str | None
    digest: str | None
    url: str  # where it came from in the end, without secrets
    resumed_at: int = 0  # bytes that an earlier connection or run had brought


@dataclass(frozen=True)
class HeadReport:
    """What a server says about a file without sending it."""

    url: str  # without secrets
    size: int | None
    etag: str | None
    last_modified: str | None


def download(
    url: str,
    dest_path: str,
    *,
    expected_digest: str | None = None,
    resume: bool = True,
    limit_bytes: int | None = None,
    free_bytes_reserve: int = 0,
    condition: Validator | None = None,
    **access: t.Any,
) -> DownloadReport:
    """Fetch C(url) into C(dest_path), which appears (or is replaced) only when everything is there and verified.

    C(expected_digest) is algorithm:hex. C(condition): what is known of an earlier download; nothing is fetched when
    the server still has that version. C(access) as in C(Access). What a broken download left is beside C(dest_path)
    (C(.part)) and continued by the next call, if the server gave a means to know that it is the same version.
    Refuses to go on where less than C(free_bytes_reserve) would be left on the file system. No fsync: the caller does that.
    """
    algorithm, _colon, expected = (expected_digest or "sha256:").partition(":")
    with Partial(dest_path, url, algorithm, resume=resume, reserve=free_bytes_reserve) as partial:
        job = _Job(url, Access(**access), partial, limit_bytes, condition)
        while True:
            final = job.run()
            if final is None:
                known = condition or Validator()
                return DownloadReport("not_modified", 0, known.etag, known.last_modified, None, public_url(url))
            if not expected or partial.hexdigest() == expected.lower():
                return _finish(partial, algorithm, final)
            if not partial.resumed_at:
                raise _mismatch(url, algorithm, expected, partial)
            partial.restart(Validator())  # joined from two versions? once more in one piece


def _finish(partial: Partial, algorithm: str, final: str) -> DownloadReport:
    partial.publish()
    known, digest = partial.validator, f"{algorithm}:{partial.hexdigest()}"
    return DownloadReport(
        "fetched", partial.length, known.etag, known.last_modified, digest, public_url(final), partial.resumed_at
    )


def _mismatch(url: str, algorithm: str, expected: str, partial: Partial) -> errors.RefusedError:
    found = partial.hexdigest()
    partial.discard()
    return refused(
        url,
        f"its {algorithm} is {found}, not {expected.lower()}",
        "checksum_mismatch",
        "Correct the checksum, or find out who changed the file.",
        algorithm=algorithm,
        expected=expected.lower(),
        found=found,
    )


@dataclass
class _Job:
    url: str
    access: Access
    partial: Partial
    limit: int | None
    condition: Validator | None

    def run(self) -> str | None:
        """Fetch all that is missing, with new connections as needed: the final URL, or None when not modified."""
        return _patiently(self.url, self._connect, lambda: self.partial.length)

    def _connect(self) -> str | None:
        response, final = open_url(self.url, self.access, {**self._conditions(), **self.partial.range_headers()})
        with response:
            if response.status == 304 and self.condition:
                return None
            if response.status == 416 and self.partial.length:
                self.partial.restart(Validator())
                raise ConnectionError("the server has no such part of the file")
            check_status(self.url, response, (200, 206))
            self._position(response)
            self._receive(response)
        return final

    def _conditions(self) -> dict[str, str]:
        known = self.condition or Validator()
        headers = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
        return {name: value for name, value in headers.items() if value}

    def _position(self, response: http.client.HTTPResponse) -> None:
        """Be where the answer starts: at the end of what is there, or at the beginning."""
        if response.status == 200:
            self.partial.restart(validator_of(response))
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {self.partial.length}-"):
            self.partial.restart(Validator())
            raise ConnectionError("the server sent another part of the file than it was asked for")
        self.partial.resumed_at = self.partial.length

    def _receive(self, response: http.client.HTTPResponse) -> None:
        missing = length_of(response)
        total = None if missing is None else self.partial.length + missing
        self._refuse_large(total or 0)
        while True:
            data = response.read(sparse.CHUNK)
            if not data:
                break
            self._refuse_large(self.partial.length + len(data))
            self.partial.append(data)
        if total is not None and self.partial.length != total:
            raise ConnectionError(f"the connection ended after {self.partial.length} of {total} bytes")

    def _refuse_large(self, total: int) -> None:
        if self.limit is not None and total > self.limit:
            self.partial.discard()
            fact = f"it is larger than {human(self.limit)}"
            raise refused(self.url, fact, "download_too_large", "Use another file.", limit=self.limit)


_Answer = t.TypeVar("_Answer")


def _patiently(url: str, connect: t.Callable[[], _Answer], brought: t.Callable[[], int] = lambda: 0) -> _Answer:
    """What C(connect) returns; a broken connection and a busy server are tried again. C(brought): bytes so far."""
    tries = 0
    while True:
        before = brought()
        try:
            return connect()
        except TRANSPORT_ERRORS as exc:
            if tries == len(_PAUSES) or _hopeless(exc):
                raise unreachable(url, exc) from exc
        except errors.RefusedError as exc:
            if tries == len(_PAUSES) or exc.facts["evidence"].get("status") not in _BUSY:
                raise
        tries = 0 if brought() - before >= _PROGRESS else tries
        time.sleep(_PAUSES[tries])
        tries += 1


def _hopeless(exc: BaseException) -> bool:
    """Whether it will be the same the next time: a bad certificate, no TLS at all, a bad URL."""
    cause = exc.reason if isinstance(exc, urllib.error.URLError) else exc
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return True
    return isinstance(cause, (ssl.SSLCertVerificationError, http.client.InvalidURL))


def head(url: str, **access: t.Any) -> HeadReport:
    """Size and validators of a file, by HEAD; or by asking for its first byte, whatever a HEAD was answered.

    Many a server does not know HEAD, and a signed URL is signed for GET only: what counts is what GET is answered.
    """
    how = Access(**access)

    def ask() -> HeadReport:
        response, final = open_url(url, how, method="HEAD")
        with response:
            if response.status == 200:
                return _head_report(final, length_of(response), response)
        response, final = open_url(url, how, {"Range": "bytes=0-0"})
        with response:
            check_status(url, response, (200, 206, 416))  # 416: the file is empty
            return _head_report(final, _whole_length(response), response)

    return _patiently(url, ask)


def _head_report(final: str, size: int | None, response: http.client.HTTPResponse) -> HeadReport:
    known = validator_of(response)
    return HeadReport(public_url(final), size, known.etag, known.last_modified)


def _whole_length(response: http.client.HTTPResponse) -> int | None:
    if response.status == 200:
        return length_of(response)
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def resolve_checksum(text: str, filename: str, **access: t.Any) -> str:
    """C(algorithm:hex) of what a task calls the checksum of C(filename): a value, or a checksum file to be fetched."""
    try:
        checksum = parse_checksum(text)
    except ValueError as exc:
        raise errors.RefusedError(
            "checking the checksum", filename, str(exc), reason="bad_checksum", way_out="Correct the checksum."
        ) from exc
    if checksum.url is None:
        return str(checksum)
    listing = _fetch_text(checksum.url, Access(**access))
    way_out = "Correct the checksum's URL, or write the value itself."
    try:
        value = checksum_from_file(listing, filename, checksum.algorithm)
    except ValueError as exc:
        raise refused(checksum.url, str(exc), "checksum_not_found", way_out) from exc
    if value is None:
        fact = f"it lists no {checksum.algorithm} for {os.path.basename(filename)}"
        raise refused(checksum.url, fact, "checksum_not_found", way_out)
    return f"{checksum.algorithm}:{value}"


def _fetch_text(url: str, access: Access, limit: int = 1 << 20) -> str:
    try:
        response, _final = open_url(url, access)
        with response:
            check_status(url, response, (200,))
            content = response.read(limit + 1)
    except TRANSPORT_ERRORS as exc:
        raise unreachable(url, exc) from exc
    if len(content) > limit:
        way_out = "Use the URL of a list of checksums."
        raise refused(url, f"it is larger than {human(limit)}", "download_too_large", way_out, limit=limit)
    return content.decode("utf-8", "replace")
