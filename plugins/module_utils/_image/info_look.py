# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Looks at images one by one, however many and whatever they are: what cannot be read is a fact, not an error."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.size import SECTOR, round_up
from ansible_collections.platter.qemu.plugins.module_utils._image import info_facts
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image, named_files
from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import (
    ChainResult,
    resolve_backing,
    walk_chain,
)
from ansible_collections.platter.qemu.plugins.module_utils._inspect.members import member_paths
from ansible_collections.platter.qemu.plugins.module_utils._tools import files


class Looker:
    """Remembers what it has seen: a thousand overlays have few bases."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, str | None], info_facts.View] = {}
        self._files: dict[str, files.FileFacts | None] = {}
        self._tidy: dict[str, str] = {}

    def view(self, path: str, declared: str | None = None) -> info_facts.View:
        """What is at C(path)."""
        found = self._views.get((path, declared))
        if found is None:
            found = self._views[path, declared] = self._look(path, declared)
        return found

    def chain(self, view: info_facts.View) -> ChainResult:
        """The backing chain of an image, as far as it can be followed; each file is opened only if it is one."""

        def read_header(path: str, format: str | None) -> Header:
            return _chain_header(view if path == view.path else self.view(path, format))

        return walk_chain(view.path, view.format, read_header)

    def named_files(self, path: str) -> list[str]:
        """The files that the image at C(path) names as its backing file, its data file and its extents."""
        header = self.view(path).header
        return list(named_files.named_by(path, header)) if header else []

    def tidy(self, path: str) -> str:
        """C(path) without dots; where a symbolic link makes C(..) lead elsewhere, as the kernel goes."""
        found = self._tidy.get(path)
        if found is None:
            directory, name = os.path.split(path)
            short, real = os.path.normpath(directory), os.path.realpath(directory)
            found = os.path.join(short if os.path.realpath(short) == real else real, name)
            self._tidy[path] = found
        return found

    def _look(self, path: str, declared: str | None) -> info_facts.View:
        try:
            seen = image.look_at(path, declared)
        except (errors.EngineError, OSError) as exc:
            return _unreadable(path, exc)
        facts, record = seen.facts, seen.record
        if facts.kind not in ("file", "block"):
            return _no_file(path, facts.kind)
        header, problem = _judged(seen, declared or record.get("format"))
        if header is None:
            problem = _as_extent(path, seen) or problem
        certain = header is seen.header
        base, changed = self._base(path, header, record)
        known = (facts.kind, seen.detected, record, header, certain, (path,), facts.allocated)
        view = info_facts.View(path, True, *known, base, changed, problem)
        return _with_extents(view) if header is not None and _is_split(header) else view

    def _base(self, path: str, header: Header | None, record: t.Mapping[str, t.Any]) -> tuple[str | None, bool | None]:
        """The backing file by its full path, and whether it is another than the file that the overlay was made on."""
        if header is None or not header.backing_file:
            return None, None
        kind, target = resolve_backing(path, header.backing_file)
        if kind != "file" or not record:
            return self.tidy(target) if kind == "file" else target, None
        known = image.bases_remembered(record, header.backing_file)
        facts = self._file(target) if known else None
        now = image.fingerprint(facts) if facts else None
        changed = not any(image.same_content(remembered, now) for remembered in known) if now else None
        return self.tidy(target), changed

    def _file(self, path: str) -> files.FileFacts | None:
        if path not in self._files:
            try:
                self._files[path] = files.file_facts(path)
            except (errors.EngineError, OSError):
                self._files[path] = None
        return self._files[path]


def _chain_header(view: info_facts.View) -> Header:
    if view.header is None:
        raise errors.HeaderError(view.problem.message if view.problem else "it is no image", path=view.path)
    if view.problem and view.problem.reason == "image_damaged":
        raise errors.HeaderError("%s is damaged: %s" % (view.path, view.problem.message), reason="image_damaged")
    return view.header


def _unreadable(path: str, exc: errors.EngineError | OSError) -> info_facts.View:
    message = exc.message if isinstance(exc, errors.EngineError) else f"{path} cannot be opened: {exc.strerror}"
    there = True if os.path.lexists(path) else None
    return info_facts.View(path, there, members=(path,), problem=info_facts.Problem("unreadable", message))


def _no_file(path: str, kind: str) -> info_facts.View:
    if kind == "absent":
        return info_facts.View(path, False)
    return info_facts.View(path, True, kind, problem=info_facts.Problem("not_a_file", f"{path} is a {kind}"))


def _judged(seen: image.Seen, expected: str | None) -> tuple[Header | None, info_facts.Problem | None]:
    """The header, and what is wrong. What looks like nothing is raw, though nobody has said so."""
    header = seen.header
    if header is not None and expected not in (None, header.format):
        return header, _mismatch(expected, header.format)
    if header is not None:
        return header, info_facts.Problem("image_damaged", seen.shortage) if seen.shortage else None
    if seen.problem:
        return None, info_facts.Problem(seen.reason or "header_unreadable", seen.problem)
    if expected:
        return None, _mismatch(expected, ", ".join(seen.detected) or "no known format")
    if seen.detected:
        both = " and ".join(seen.detected)
        return None, info_facts.Problem("format_ambiguous", f"its bytes look like {both}; declare the format")
    return Header(format="raw", virtual_size=round_up(seen.facts.length, SECTOR)), None


def _as_extent(path: str, seen: image.Seen) -> info_facts.Problem | None:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect.descriptor import split_extent

    extent = split_extent(path, seen)
    return info_facts.Problem("vmdk_extent", extent.sentence) if extent else None


def _mismatch(expected: str | None, found: str) -> info_facts.Problem:
    return info_facts.Problem("format_mismatch", f"it is declared or remembered as {expected}, but read as {found}")


def _is_split(header: Header) -> bool:
    return header.format == "vmdk" and any(extent.filename for extent in header.extents)


def _with_extents(view: info_facts.View) -> info_facts.View:
    """A split VMDK with sizes from its members, all of which lie beside it; a foreign extent is named, never opened."""
    from ansible_collections.platter.qemu.plugins.module_utils._formats.vmdk import complete

    header = t.cast("Header", view.header)
    paths = list(dict.fromkeys(member_paths(view.path, header)))
    try:
        facts = [files.file_facts(path) for path in paths]
        view = view._replace(members=tuple(paths), allocated=sum(each.allocated for each in facts))
        missing = [each.path for each in facts if each.kind not in ("file", "block")]
        if missing:
            return view._replace(
                problem=info_facts.Problem("member_missing", f"its extent {missing[0]} does not exist")
            )
        members = {os.path.basename(each.path): _Member(each) for each in facts[1:]}
        foreign = any(extent.filename not in members for extent in header.extents if extent.filename)
        return view if foreign else view._replace(header=complete(header, members))
    except (errors.EngineError, OSError) as exc:
        return view._replace(
            problem=info_facts.Problem("header_unreadable", f"one of its extents cannot be read: {exc}")
        )


class _Member:
    """A ByteSource over one of any number of extents: open only while it is read."""

    def __init__(self, facts: files.FileFacts) -> None:
        self._path = facts.path
        self.length = facts.length

    def read(self, offset: int, size: int) -> bytes:
        with files.FileReader(self._path) as reader:
            return reader.read(offset, size)
