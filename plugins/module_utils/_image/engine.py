# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The image engine: many images of one task observed, ordered, planned, guarded and carried out together."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, Patience, in_order, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._image import leftovers, observe, order
from ansible_collections.platter.qemu.plugins.module_utils._image.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageState
from ansible_collections.platter.qemu.plugins.module_utils._image.target import refuse_unsafe_directory
from ansible_collections.platter.qemu.plugins.module_utils._inspect import target
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    file_system,
    locks,
    process,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg


class ImageEngine(Engine):
    """Images. C(specs): one per image, paths resolved by C(resolved_spec)."""

    noun = "image"
    nouns = "images"

    def __init__(
        self,
        specs: t.Sequence[ImageSpec],
        attributes: t.Any,
        *,
        qemu_img: t.Optional[str],
        workers: int = 0,
        fail_fast: bool = True,
        lock_timeout: float = 30.0,
        tool_timeout: float = process.PATIENCE,
    ) -> None:
        _refuse_duplicates(specs)
        self._specs = list(specs)
        self._runner = process.Runner(patience=tool_timeout)
        super().__init__(self._runner.commands)
        self._lock_timeout = lock_timeout
        self._fail_fast = fail_fast
        tool = QemuImg(self._runner, qemu_img)
        self._observer = observe.Observer(
            self._runner, tool, attributes, {spec.path for spec in specs if spec.state == "present"}
        )
        self._tool = tool
        self._attributes = attributes
        self._workers = workers
        self._levels: t.List[t.List[str]] = []
        self._held: t.Optional[_Hold] = None
        self._needs: t.Mapping[str, t.AbstractSet[str]] = {}

    def hold(self) -> _Hold:
        """Locks on all images of the task, shared ones on their bases."""
        self._held = _Hold(self._specs, self._runner, self._lock_timeout)
        return self._held

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every image observed and planned, in the order of the task; refusals are in the items."""
        patience = Patience() if patient else None
        for left in range(_ROUNDS, -1, -1):
            items, waited = self._prepared(patience if left else None)
            if not waited:
                break
        return items

    def _prepared(self, patience: t.Optional[Patience]) -> t.Tuple[t.List[Item], bool]:
        """(the items, whether an image in use was waited for: what was seen before the wait is then out of date)."""
        waited = False
        items = [self._observed(spec) for spec in self._specs]
        by_path = {item.name: item for item in items}
        named = _known_as(by_path, items)
        along = _taken_along(items)
        needs = order.needs_of(items, named, along)
        self._levels = in_order(list(by_path), needs)
        names = [name for level in self._levels for name in level]
        for name in names:
            order.plan_item(by_path[name], by_path, needs, named, along)
        if any(item.plan or (item.reading and item.reading.locked) for item in items):
            waited = self._guard(items, needs, patience)
        order.pass_on_refusals(names, by_path, needs)
        order.warn_of_other_sources(items)
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
            if self._held and item.name in self._held.removed:
                item.notes["removed_leftovers"] = self._held.removed[item.name]
        self._needs = needs
        return items, waited

    def _guard(
        self, items: t.Sequence[Item], needs: t.Mapping[str, t.AbstractSet[str]], patience: t.Optional[Patience]
    ) -> bool:
        # imported here, as what acts is further below: a run with nothing to do, the usual one, does not pay for it
        from ansible_collections.platter.qemu.plugins.module_utils._image.guard import guard

        return guard([item for item in items if not item.refusal], needs, patience, self._runner, self._tool)

    def _observed(self, spec: ImageSpec) -> Item:
        item = Item(spec.path, spec, before=ImageState(spec.path), after=ImageState(spec.path))
        try:
            if spec.place is None:
                refuse_unsafe_directory(spec)
            if spec.overlay_directories:
                from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents

                dependents.refuse_wrong_directories(spec.overlay_directories)
            item.before, item.reading = self._observer.observe(spec)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        except OSError as exc:  # of one image of many, such as a directory that may not be entered
            item.refusal = not_begun(errors.EngineError("%s: %s" % (exc.filename or spec.path, exc.strerror)))
        item.after = item.before
        return item

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans level by level."""
        if not any(item.plan for item in items):
            return
        from ansible_collections.platter.qemu.plugins.module_utils._image.execute import Executor

        executor = Executor(
            self._runner, self._tool, self._attributes, self._observer, self._workers, self._lock_timeout
        )
        by_path = {item.name: item for item in items}
        for level in self._levels:
            executor.run([by_path[name] for name in level if self._may_begin(by_path[name], by_path)])
            if self._fail_fast and any(item.error for item in items):
                return

    def _may_begin(self, item: Item, by_path: t.Mapping[str, Item]) -> bool:
        """Not when what it needs has failed: the overlay that was to leave this base is still on it."""
        failed = sorted(name for name in self._needs.get(item.name, ()) if by_path[name].error)
        if failed and item.plan and not item.refusal:
            item.error = errors.FailedError(
                "failed: %s needs %s, which failed. Nothing was changed." % (item.name, failed[0]),
                reason="needs_failed",
            )
            item.after = item.before
        return not item.refusal and not item.error


#: how often an image in use may be waited for, as each wait may end with another user
_ROUNDS = 5


class _Hold:
    """Our locks while the block runs; programs started under them inherit them, and still protect the image when the
    module is killed. Under the locks a build directory of one of the images is nobody's, and is removed.
    """

    def __init__(self, specs: t.Sequence[ImageSpec], runner: process.Runner, timeout: float) -> None:
        self._specs = specs
        self._runner = runner
        bases = [spec.backing.path for spec in specs if spec.backing]
        self._locks = locks.ImageLocks([spec.identity for spec in specs], bases, timeout)
        #: what was removed, by image
        self.removed: t.Dict[str, t.List[str]] = {}

    def __enter__(self) -> _Hold:
        self._locks.__enter__()
        self._runner.keep_open.append(self._locks.descriptor)
        places = [(spec, file_system.build_place(spec.path)) for spec in self._specs]
        names = {directory: _listing(directory) for directory in {os.path.dirname(place) for _spec, place in places}}
        for spec, place in places:
            stale = build_directory.stale_builds(place, names[os.path.dirname(place)])
            if stale:
                self.removed[spec.path] = leftovers.remove_builds(spec, stale)
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        self._runner.keep_open.clear()
        self._locks.__exit__()


def resolved_spec(params: t.Mapping[str, t.Any]) -> ImageSpec:
    """The spec of one item's options, its path resolved to the file it means."""
    from dataclasses import replace

    spec = read_spec(params)
    if spec.place is not None:
        return spec
    backing = replace(spec.backing, path=target.resolve_base(spec.backing.path)) if spec.backing else None
    if spec.option("data_file"):
        target.resolve_new(str(spec.option("data_file")))  # for its refusals
    path = target.resolve_target(spec.path, gone=spec.state == "absent")
    return replace(spec, path=path, backing=backing)


def _known_as(by_path: t.Mapping[str, Item], items: t.Sequence[Item]) -> t.Mapping[str, str]:
    """Which image of the task each path leads to by which one of them names another."""
    others = order.mentioned(items).difference(by_path)
    if not others:
        return {name: name for name in by_path}
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use

    return block_use.known_as(list(by_path), sorted(others))


def _taken_along(items: t.Sequence[Item]) -> t.Mapping[str, str]:
    """Which image of the task each other image, base or source of it goes with, as its data file or member."""
    several = [item for item in items if item.reading and item.reading.header and order.drops_files(item)]
    if not any(item.reading.header.data_file or item.reading.header.extents for item in several):
        return {}
    from ansible_collections.platter.qemu.plugins.module_utils._image import depending

    return depending.taken_along(several, {*order.mentioned(items), *(item.name for item in items)})


def _listing(directory: str) -> t.List[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _refuse_duplicates(specs: t.Sequence[ImageSpec]) -> None:
    seen: t.Dict[t.Any, str] = {}
    for spec in specs:
        for identity in (spec.identity, _file_identity(spec)):
            if identity in seen:
                other = seen[identity]
                raise errors.SpecError(
                    "the entry",
                    spec.path,
                    "it is listed twice"
                    if other == spec.path
                    else "it is the same file as %s, which is listed too" % other,
                    reason="duplicate_item",
                    way_out="List each image once.",
                )
        seen.update({spec.identity: spec.path, _file_identity(spec): spec.path})
        seen.pop(None, None)
    _refuse_shared_data_files(specs, seen)


def _refuse_shared_data_files(specs: t.Sequence[ImageSpec], images: t.Mapping[t.Any, str]) -> None:
    """A data file is one image's, and no image itself. C(images): the paths of those of the task by what tells files apart."""
    taken = dict(images)
    for spec in specs:
        path = str(spec.option("data_file") or "")
        if not path or spec.state == "absent":
            continue
        own = [os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)), _inode(path)]
        other = next((taken[each] for each in own if each in taken), None)
        if other is not None:
            is_image = any(each in images for each in own)
            raise errors.SpecError(
                "the entry",
                spec.path,
                "its data file %s is %s" % (path, "listed as an image too" if is_image else "that of %s too" % other),
                reason="duplicate_item",
                way_out="Give each image a data file of its own, and list that only as its data file.",
            )
        taken.update((each, spec.path) for each in own if each)


def _file_identity(spec: ImageSpec) -> t.Optional[t.Tuple[int, int]]:
    return _inode(spec.path) if spec.place is None else None


def _inode(path: str) -> t.Optional[t.Tuple[int, int]]:
    """A file can have several names, as hard links and bind mounts give it."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino)


__all__ = ["ImageEngine", "resolved_spec"]
