# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""One image as a result shows it. Pure: values in, plain dicts out, in QEMU's words with C(_) for C(-)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import beside

Facts = t.Dict[str, t.Any]


@dataclass(frozen=True)
class Problem:
    """Why something of an image cannot be told: C(reason) is a stable code."""

    reason: str
    message: str


@dataclass(frozen=True)
class View:
    """One image as it was seen. C(exists) None: that cannot be told; C(header) None: C(problem) says why."""

    path: str
    exists: bool | None
    kind: str = ""
    detected: tuple[str, ...] = ()
    record: t.Mapping[str, t.Any] = field(default_factory=dict)
    header: Header | None = None
    certain: bool = True
    #: the files that are the image, it first
    members: tuple[str, ...] = ()
    allocated: int = 0
    #: the backing file's full path (or what names it, if it is no path)
    base: str | None = None
    base_changed: bool | None = None
    problem: Problem | None = None

    @property
    def format(self) -> str | None:
        return self.header.format if self.header else None


def image_facts(view: View) -> Facts:
    """All that the image's own bytes and our record tell."""
    facts: Facts = {"path": view.path, "exists": view.exists}
    if view.problem:
        facts.update(error=view.problem.message, reason=view.problem.reason)
    if not view.exists:
        return facts
    facts.update(detected=list(view.detected), actual_size=view.allocated, members=list(view.members))
    facts["remembered"] = dict(view.record)
    if view.header is not None:
        facts.update(_header_facts(view.header, view))
    return facts


def _header_facts(header: Header, view: View) -> Facts:
    return {
        "format": header.format,
        "format_is_certain": view.certain,
        "virtual_size": header.virtual_size,
        "cluster_size": header.cluster_size,
        "backing": _backing(header, view.base),
        "base_changed": view.base_changed,
        "data_file": header.data_file,
        "encrypted": header.encrypted,
        "compressed": header.compressed,
        "dirty": header.dirty,
        "corrupt": header.corrupt,
        "options": {**(view.record.get("options") or {}), **header.options},
        "snapshots": [dict(vars(snapshot)) for snapshot in header.snapshots],
        "bitmaps": [dict(vars(bitmap), flags=list(bitmap.flags)) for bitmap in header.bitmaps],
        "extents": [_extent(view.path, extent) for extent in header.extents if extent.filename],
        "references": [{"kind": each.kind, "target": each.target} for each in header.references],
        "unknown_features": list(header.unknown_features),
        "format_specific": format_specific(header.format_specific),
    }


def _backing(header: Header, base: str | None) -> Facts | None:
    if not header.backing_file:
        return None
    return {"path": base, "format": header.backing_format, "name": header.backing_file}


def _extent(path: str, extent: t.Any) -> Facts:
    facts = dict(vars(extent), path=beside(path, extent.filename))
    del facts["filename"]
    return facts


def format_specific(specific: t.Mapping[str, t.Any] | None) -> Facts | None:
    """C(format-specific.data) of qemu-img, with names that a template can use."""
    return _with_underscores(specific.get("data") or {}) if specific else None


def _with_underscores(value: t.Any) -> t.Any:
    if isinstance(value, (list, tuple)):
        return [_with_underscores(each) for each in value]
    if isinstance(value, t.Mapping):
        return {name.replace("-", "_"): _with_underscores(each) for name, each in value.items()}
    return value


def add_use(facts: Facts, holders: t.Sequence[t.Any]) -> None:
    """Who has the image open. What may be written meanwhile is not consistent with itself."""
    facts["in_use_by"] = [holder.to_facts() for holder in holders]
    facts["consistent"] = all(holder.writes is False for holder in holders)


def chain_facts(links: t.Sequence[t.Any], sizes: t.Sequence[int | None]) -> list[Facts]:
    """The backing chain, the image itself first. C(sizes): bytes on the host of each link."""
    return [_link(link, size) for link, size in zip(links, sizes)]


def _link(link: t.Any, size: int | None) -> Facts:
    problem = _problem_of(link)
    return {
        "path": link.path,
        "format": link.format,
        "virtual_size": link.header.virtual_size if link.header else None,
        "actual_size": size,
        "problem": dict(vars(problem)) if problem else None,
    }


def _problem_of(link: t.Any) -> Problem | None:
    if link.kind == "protocol":
        return Problem("backing_protocol", f"{link.path} is no file of this host; it is not followed")
    return Problem(link.problem.reason, link.problem.fact) if link.problem else None
