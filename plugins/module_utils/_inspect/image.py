# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What lies at a path, read by ourselves: file facts, the formats its bytes look like, its header."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, records

_EDGE = 512

Choose = t.Callable[[t.Optional[str], t.Any, t.Tuple[str, ...]], t.Optional[str]]


class Seen(t.NamedTuple):
    """One look at a path. C(header) None: not an image of a known format (C(problem) says why, if there is a
    reason).
    """

    facts: files.FileFacts
    detected: t.Tuple[str, ...]
    record: t.Mapping[str, t.Any]
    header: t.Optional[Header]
    problem: str = ""
    reason: str = ""

    @property
    def shortage(self) -> str:
        """What the file lacks of its image (C(Header.shortage)). Of a block device its end is not known to be lost."""
        return self.header.shortage(self.facts.length) if self.header and self.facts.kind == "file" else ""


def look_at(
    path: str, declared: t.Optional[str] = None, *, follow: bool = True, choose: t.Optional[Choose] = None
) -> Seen:
    """Read what is at C(path), opened read-only, shared, and only if it is a regular file or block device.

    The format is what our record says, else C(declared) where the bytes agree. What the bytes say counts only when
    nothing is declared, and never concludes raw: a guest may have written them. Without C(follow) a symbolic link is
    not followed. C(choose(declared, recorded, detected)) is another rule for the format.
    """
    facts = files.file_facts(path, follow=follow)
    if facts.kind not in ("file", "block"):
        return Seen(facts, (), {}, None)
    record = records.read_record(path) if facts.kind == "file" else {}
    with files.FileReader(path, follow=follow) as reader:
        if reader.identity != facts.identity:
            raise errors.EngineError("%s was replaced while it was looked at" % path, path=path)
        first = reader.read(0, min(_EDGE, reader.length))
        detected = registry.detect(first, reader.read(max(0, reader.length - _EDGE), _EDGE))
        format_name = (choose or _choose)(declared, record.get("format"), detected)
        return _read(reader, facts, detected, record, format_name)


def _choose(declared: t.Optional[str], remembered: t.Any, detected: t.Tuple[str, ...]) -> t.Optional[str]:
    if remembered == "raw":
        return None if declared in detected else "raw"
    if remembered in detected:
        return str(remembered)
    if declared is not None:
        return declared if declared == "raw" or declared in detected else None
    return detected[0] if len(detected) == 1 else None


def _read(
    reader: files.FileReader,
    facts: files.FileFacts,
    detected: t.Tuple[str, ...],
    record: t.Mapping[str, t.Any],
    format_name: t.Optional[str],
) -> Seen:
    if format_name is None:
        return Seen(facts, detected, record, None)
    try:
        header = registry.read_header(format_name, reader)
    except errors.HeaderError as exc:
        return Seen(facts, detected, record, None, exc.message, str(exc.facts.get("reason", "")))
    if header.least_length > facts.length:  # a running QEMU may have made it longer, and its tables with it
        facts = facts._replace(length=reader.length_now())
    return Seen(facts, detected, record, header)


def fingerprint(facts: files.FileFacts) -> t.Optional[t.Dict[str, int]]:
    """What tells whether a base file is still the one an overlay was made on: length, time of the last write, inode."""
    if facts.kind != "file":
        return None
    return {"size": facts.length, "mtime_ns": facts.mtime_ns, "ino": facts.ino}


def remembered_base(path: str, name: t.Optional[str]) -> t.Optional[t.Dict[str, t.Any]]:
    """What an overlay remembers of the base at C(path): its fingerprint, and the name by which its header has it.

    Only while it has that name does the rest say anything: C(qemu-img rebase) leaves what is remembered as it is.
    """
    found = fingerprint(files.file_facts(path))
    kept = name if name and len(name) <= _LONGEST_REMEMBERED else None
    return dict(found, name=kept) if found else None


#: characters; ext4 has room for attributes of 4 KiB in all, and one character may take 6 bytes there
_LONGEST_REMEMBERED = 400


def bases_remembered(record: t.Mapping[str, t.Any], name: t.Optional[str]) -> t.List[t.Mapping[str, t.Any]]:
    """The fingerprints that an overlay's record has of the base which its header calls C(name)."""
    known = [record[key] for key in ("base", "next_base") if record.get(key) and isinstance(record[key], dict)]
    return [each for each in known if each.get("name") in (None, name)]


def same_content(remembered: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> bool:
    """A file restored with its times (C(cp -p)) has another inode but is the same base."""
    return all(remembered.get(key) == now.get(key) for key in ("size", "mtime_ns"))


def _as_qemu(declared: t.Optional[str], remembered: t.Any, detected: t.Tuple[str, ...]) -> t.Optional[str]:
    """A backing file is what the image above it says, else what its bytes look like. The owner of a file writes its
    record, so that counts only for what looks like nothing.
    """
    if declared is not None:
        return declared if declared == "raw" or declared in detected else None
    if not detected:
        return "raw" if remembered == "raw" else None
    return detected[0] if len(detected) == 1 else None


def chain_header(path: str, format_name: t.Optional[str]) -> Header:
    """The header for one link of a backing chain, as QEMU takes it. Raises HeaderError."""
    seen = look_at(path, format_name, choose=_as_qemu)
    if seen.facts.kind == "block":
        _refuse_half(path)
    if seen.header is None:
        raise errors.HeaderError("%s is not a readable %s image" % (path, format_name or "disk"), path=path)
    if seen.shortage:
        raise errors.HeaderError("%s is damaged: %s" % (path, seen.shortage), path=path, reason="image_damaged")
    _refuse_lacking(path, seen.header)
    return seen.header


def _refuse_half(path: str) -> None:
    """Half of a raw disk is a raw disk: only our note tells."""
    half = half_filled(path)
    if half:
        raise errors.HeaderError(half, path=path, reason="import_unfinished")


def half_filled(device: str) -> str:
    """What is to be said of a block device that a run of ours began to fill, and did not end; else empty."""
    from ansible_collections.platter.qemu.plugins.module_utils._tools import unfinished

    if not unfinished.is_unfinished(device):
        return ""
    return "an import to %s was begun and has not ended, so that it holds a part of something" % device


def _refuse_lacking(path: str, header: Header) -> None:
    """A link of a chain counts with the files that hold its content. Raises HeaderError."""
    if header.data_file or header.extents:
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import whole

        lack = whole.lacking(path, header)
        if lack:
            raise errors.HeaderError(lack[1], path=path, reason=lack[0])
