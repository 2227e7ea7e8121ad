# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""A file that is being downloaded: beside its final name until it is whole, kept for the next try if it can be."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._tools import file_system, http_access, sparse


class Partial:
    """C(dest.part), its running hash, and C(dest.part.json), which says of what version it is a part."""

    def __init__(self, dest_path: str, url: str, algorithm: str, *, resume: bool, reserve: int = 0) -> None:
        """C(reserve): bytes that are kept free on the file system."""
        self._dest, self._path, self._note = dest_path, dest_path + ".part", dest_path + ".part.json"
        #: the URL itself may hold a secret
        self._source = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()
        self._url = url
        self._algorithm, self._resume = algorithm, resume
        self._reserve = reserve
        self._hasher = _new_hash(algorithm)
        self._fd = -1
        self.validator = http_access.Validator()
        self.length = 0
        #: how much of it earlier connections brought
        self.resumed_at = 0

    def __enter__(self) -> Partial:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, 0o600)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        known = self._known_version() if self._resume else None
        if known:
            self._adopt(known)
        else:
            self.restart(http_access.Validator())
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        if self._fd >= 0 and self._resume and self.length and self.validator.strong():
            os.ftruncate(self._fd, self.length)
            os.close(self._fd)
        else:
            self.discard()

    def _known_version(self) -> http_access.Validator | None:
        """Of what version the file is a part. After a restart of the machine it is not believed: there was no fsync."""
        try:
            with open(self._note, encoding="utf-8") as note:
                known = json.load(note)
            if [known["source"], known["boot"]] != [self._source, _boot()]:
                return None
            validator = http_access.Validator(known["etag"], known["last_modified"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return validator if validator.strong() else None

    def _adopt(self, known: http_access.Validator) -> None:
        self.validator, end = known, os.fstat(self._fd).st_size
        while self.length < end:
            data = os.pread(self._fd, sparse.CHUNK, self.length)
            self._hasher.update(data)
            self.length += len(data)

    def restart(self, validator: http_access.Validator) -> None:
        """From the first byte, of the version that C(validator) names."""
        os.ftruncate(self._fd, 0)
        self.length = self.resumed_at = 0
        self._hasher = _new_hash(self._algorithm)
        self.validator = validator
        with contextlib.suppress(OSError):
            os.unlink(self._note)
        if self._resume and validator.strong():
            self._write_note()

    def _write_note(self) -> None:
        known = {"etag": self.validator.etag, "last_modified": self.validator.last_modified}
        try:
            note = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(note, "w", encoding="utf-8") as file:
                json.dump({"source": self._source, "boot": _boot(), **known}, file)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def range_headers(self) -> dict[str, str]:
        """What asks for the rest, and for everything when the file has changed meanwhile."""
        strong = self.validator.strong()
        if not self.length:
            return {}
        if not (self._resume and strong):
            self.restart(http_access.Validator())
            return {}
        return {"Range": f"bytes={self.length}-", "If-Range": strong}

    def append(self, data: bytes) -> None:
        """The next bytes."""
        if self._reserve and file_system.free_bytes(os.path.dirname(self._path)) < self._reserve + len(data):
            raise self._no_room("%s are kept free" % size.human(self._reserve))
        try:
            sparse.write_sparse(self._fd, data, self.length)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        self._hasher.update(data)
        self.length += len(data)

    def _unwritable(self, exc: OSError) -> errors.EngineError:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._no_room(str(exc.strerror))
        self.discard()
        return errors.EngineError(f"what is downloaded cannot be written here: {exc.strerror}")

    def _no_room(self, why: str) -> errors.EngineError:
        """The part would keep others from their space."""
        self.discard()
        fact = f"there was no room for more of it than {size.human(self.length)} ({why})"
        way_out = "Make room, or put the image elsewhere."
        return http_access.refused(self._url, fact, "would_exceed_space", way_out, received_bytes=self.length)

    def hexdigest(self) -> str:
        """The hash of all bytes so far."""
        return self._hasher.hexdigest()

    def publish(self) -> None:
        """Give the whole file its name."""
        os.ftruncate(self._fd, self.length)
        os.replace(self._path, self._dest)
        self.discard()

    def discard(self) -> None:
        """Leave nothing behind but what was published."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        for path in (self._path, self._note):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _new_hash(algorithm: str) -> hashlib._Hash:
    try:
        return hashlib.new(algorithm)
    except ValueError as exc:  # md5 on a host in FIPS mode
        raise errors.EngineError(f"this host's Python cannot compute {algorithm}: use sha256") from exc


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return boot.read().strip()
    except OSError:
        return ""
