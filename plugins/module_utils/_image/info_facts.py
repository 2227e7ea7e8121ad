# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""One image as a result shows it. Pure: values in, plain dicts out, in QEMU's words with C(_) for C(-)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import moment
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import info

Facts = t.Dict[str, t.Any]
#: qcow2's: they are options, or facts that other formats have too
_TOLD_OTHERWISE = frozenset(
    (
        *("compat", "compression-type", "refcount-bits", "lazy-refcounts", "extended-l2", "data-file-raw"),
        *("corrupt", "bitmaps", "data-file"),
    )
)


@dataclass(frozen=True)
class Problem:
    """Why something of an image cannot be told: C(reason) is a stable code."""

    reason: str
    message: str


class View(t.NamedTuple):
    """One image as it was seen. C(exists) None: that cannot be told; C(header) None: C(problem) says why."""

    path: str
    exists: t.Optional[bool]
    kind: str = ""
    detected: t.Tuple[str, ...] = ()
    record: t.Mapping[str, t.Any] = {}
    header: t.Optional[Header] = None
    certain: bool = True
    #: the files that are the image, it first
    members: t.Tuple[str, ...] = ()
    allocated: int = 0
    #: the backing file's full path (or what names it, if it is no path)
    base: t.Optional[str] = None
    base_changed: t.Optional[bool] = None
    problem: t.Optional[Problem] = None

    @property
    def format(self) -> str | None:
        return self.header.format if self.header else None


def image_facts(view: View) -> Facts:
    """All that the image's own bytes and our record tell."""
    facts: Facts = {"path": view.path, "exists": view.exists}
    if view.problem:
        facts.update(error=view.problem.message, reason=view.problem.reason)
    if view.kind not in ("file", "block"):
        return facts
    facts["actual_size"] = view.allocated
    if len(view.members) > 1:
        facts["members"] = list(view.members)
    if view.record:
        facts["remembered"] = dict(view.record)
    if view.detected and view.detected != (view.format,):
        facts["detected"] = list(view.detected)
    external = _external_snapshot(view.record)
    if external:
        facts["external_snapshot"] = external
    if view.header is not None:
        facts.update(_header_facts(view.header, view))
    return facts


def _header_facts(header: Header, view: View) -> Facts:
    facts = {
        "format": header.format,
        "format_is_certain": view.certain,
        "virtual_size": header.virtual_size,
        "cluster_size": header.cluster_size,
        "backing": _backing(header, view.base),
        "data_file": header.data_file,
        "encrypted": header.encrypted,
        "compressed": header.compressed,
        "dirty": header.dirty,
        "corrupt": header.corrupt,
        "options": {**(view.record.get("options") or {}), **header.options},
        "snapshots": [_snapshot(snapshot) for snapshot in header.snapshots],
        "bitmaps": [dict(bitmap._asdict(), flags=list(bitmap.flags)) for bitmap in header.bitmaps],
    }
    if header.backing_file:
        facts["base_changed"] = view.base_changed
    facts.update(_seldom(header, view.path))
    return facts


def _snapshot(snapshot: t.Any) -> Facts:
    return dict(snapshot._asdict(), date=moment.dated(snapshot.date_sec)["date"])


def _external_snapshot(record: t.Mapping[str, t.Any]) -> Facts | None:
    """The external snapshot that a file is, by what image_snapshot remembers of it."""
    snapshot = record.get("snapshot")
    if not isinstance(snapshot, dict) or not snapshot.get("name"):
        return None
    return {"name": str(snapshot["name"]), **moment.dated(moment.seconds(snapshot.get("date")))}


def _seldom(header: Header, path: str) -> Facts:
    """What most images do not have. Each list in a result costs Ansible more time than reading the header."""
    facts: Facts = {}
    if header.references:
        facts["references"] = [{"kind": each.kind, "target": each.target} for each in header.references]
    extents = [_extent(path, extent) for extent in header.extents if extent.filename]
    if extents:
        facts["extents"] = extents
    if header.unknown_features:
        facts["unknown_features"] = list(header.unknown_features)
    specific = format_specific(header.format_specific)
    if specific:
        facts["format_specific"] = specific
    return facts


def _backing(header: Header, base: str | None) -> Facts | None:
    if not header.backing_file:
        return None
    return {"path": base, "format": header.backing_format, "name": header.backing_file}


def _extent(path: str, extent: t.Any) -> Facts:
    facts: Facts = dict(extent._asdict(), path=info.beside(path, extent.filename))
    del facts["filename"]
    return facts


def format_specific(specific: t.Mapping[str, t.Any] | None) -> Facts:
    """C(format-specific.data) of qemu-img, with names that a template can use, without what other facts tell."""
    data = (specific or {}).get("data") or {}
    rest = {name: value for name, value in data.items() if name not in _TOLD_OTHERWISE}
    return {name.replace("-", "_"): _with_underscores(value) for name, value in rest.items()}


def _with_underscores(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {name.replace("-", "_"): _with_underscores(each) for name, each in value.items()}
    return [_with_underscores(each) for each in value] if isinstance(value, list) else value


def add_use(facts: Facts, holders: t.Sequence[t.Any]) -> None:
    """Who has the image open. What may be written meanwhile is not consistent with itself."""
    facts["in_use_by"] = [holder.to_facts() for holder in holders]
    facts["consistent"] = not holders or all(holder.writes is False for holder in holders)


def chain_facts(links: t.Sequence[t.Any], names: t.Sequence[str], sizes: t.Sequence[int | None]) -> list[Facts]:
    """The backing chain, the image itself first. C(names): tidy paths; C(sizes): bytes on the host."""
    return [_link(link, name, size) for link, name, size in zip(links, names, sizes)]


def _link(link: t.Any, name: str, size: int | None) -> Facts:
    problem = _problem_of(link)
    return {
        "path": name,
        "format": link.format,
        "virtual_size": link.header.virtual_size if link.header else None,
        "actual_size": size,
        "problem": dict(vars(problem)) if problem else None,
    }


def _problem_of(link: t.Any) -> Problem | None:
    if link.kind == "protocol":
        return Problem("backing_protocol", f"{link.path} is no file of this host; it is not followed")
    return Problem(link.problem.reason, link.problem.fact) if link.problem else None
