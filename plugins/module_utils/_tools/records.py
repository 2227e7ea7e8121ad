# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where facts are remembered that QEMU cannot report back: an extended attribute, or a sidecar file where there are
none.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import typing as t

ATTRIBUTE = "user.platter.qemu"
#: bytes that make the name of a sidecar that is being written another one each time
_RANDOM = 4
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.EPERM, errno.ENOSYS)


def sidecar_path(path: str) -> str:
    """The file beside C(path) that remembers for file systems without user attributes."""
    return os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".platter.json")


def read_record(path: str) -> t.Dict[str, t.Any]:
    """What is remembered of the file at C(path); empty when nothing is, or when it is unreadable."""
    try:
        return _decoded(os.getxattr(path, ATTRIBUTE))
    except OSError as exc:
        if exc.errno not in _NO_ATTRIBUTES:
            return {}
    return _read_sidecar(path)


def _decoded(data: bytes) -> t.Dict[str, t.Any]:
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return _of_known_kinds(value) if isinstance(value, dict) else {}


_KINDS = {
    "format": str,
    "options": dict,
    "base": dict,
    "next_base": dict,
    "source": dict,
    "data_of": str,
    "snapshot": dict,
}


def _of_known_kinds(record: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
    """Others can write attributes and sidecars too: what is not as we write it is not believed."""
    known = {name: value for name, value in record.items() if isinstance(value, _KINDS.get(name, ()))}
    return {name: value for name, value in known.items() if not isinstance(value, dict) or _is_flat(name, value)}


def _is_flat(name: str, value: t.Dict[str, t.Any]) -> bool:
    lists = name == "snapshot"
    if any(not isinstance(value.get(key) or "", str) for key in _TEXTS.get(name, ())):
        return False
    return all(each is None or isinstance(each, _PLAIN) or (lists and _is_names(each)) for each in value.values())


_PLAIN = (str, int, bool, float)
_TEXTS = {"source": ("digest", "etag", "last_modified"), "base": ("name",), "next_base": ("name",)}


def _is_names(value: t.Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _read_sidecar(path: str) -> t.Dict[str, t.Any]:
    """A sidecar speaks for one inode only: a file put in the image's place by others is not described by it."""
    try:
        with open(
            os.open(sidecar_path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
        ) as stream:
            if os.fstat(stream.fileno()).st_uid not in (0, os.geteuid(), os.stat(path).st_uid):
                return {}
            records = json.loads(stream.read(1 << 20).decode("utf-8", "replace"))
        record = records.get(str(os.stat(path).st_ino), {}) if isinstance(records, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return _of_known_kinds(record) if isinstance(record, dict) else {}


def write_record(built: str, record: t.Mapping[str, t.Any], final: t.Optional[str] = None) -> None:
    """Remember C(record) for the file at C(built), which will be renamed to C(final) (default: stays).

    A sidecar is written beside C(final) before the rename and keeps the old file's entry, so that a crash at any point
    leaves the file that is there described by its own entry.
    """
    text = json.dumps(record, sort_keys=True)
    try:
        _set_attribute(built, text.encode())
    except OSError as exc:
        if exc.errno not in _NO_ATTRIBUTES:
            raise
        _write_sidecar(built, record, final or built)


def _set_attribute(path: str, data: bytes) -> None:
    """Also of a file that its owner has made read-only, as golden images are."""
    try:
        os.setxattr(path, ATTRIBUTE, data)
    except PermissionError:
        facts = os.stat(path)
        if facts.st_uid != os.geteuid() or facts.st_mode & stat.S_IWUSR:
            raise
        os.chmod(path, stat.S_IMODE(facts.st_mode) | stat.S_IWUSR)
        try:
            os.setxattr(path, ATTRIBUTE, data)
        finally:
            os.chmod(path, stat.S_IMODE(facts.st_mode))


def _write_sidecar(built: str, record: t.Mapping[str, t.Any], final: str) -> None:
    sidecar = sidecar_path(final)
    records = {str(os.stat(built).st_ino): dict(record)}
    if os.path.exists(final) and final != built:
        old = _read_sidecar(final)
        records.update({str(os.stat(final).st_ino): old} if old else {})
    temporary = "%s.%s" % (sidecar, secrets.token_hex(_RANDOM))
    with open(temporary, "x", encoding="utf-8") as stream:
        json.dump(records, stream, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, sidecar)


def remove_stale(path: str, names: t.Iterable[str]) -> t.List[str]:
    """Remove what killed runs have left of sidecars for C(path), under its lock; what was removed. C(names): those in its
    directory, where nobody else can write.
    """
    tag, ending = os.path.basename(sidecar_path(path)) + ".", 2 * _RANDOM
    stale = [os.path.join(os.path.dirname(path), n) for n in names if n.startswith(tag) and len(n) == len(tag) + ending]
    for each in stale:
        os.unlink(each)
    return stale


def remove_record(path: str) -> None:
    """Forget what a sidecar says of C(path) (an attribute goes with its file)."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(sidecar_path(path))
