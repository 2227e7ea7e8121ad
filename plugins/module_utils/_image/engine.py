# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The image engine: many images of one task observed, ordered, planned, guarded and carried out together."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import (
    EngineError,
    FailedError,
    ImageLockedError,
    RefusedError,
    SpecError,
)
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, in_order
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._image.difference import unprovable_options
from ansible_collections.platter.qemu.plugins.module_utils._image.execute import Executor
from ansible_collections.platter.qemu.plugins.module_utils._image.guard import guard
from ansible_collections.platter.qemu.plugins.module_utils._image.observe import (
    Observer,
    refuse_unsafe_directory,
    resolve_target,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import BaseReading, ImageState, SourceReading
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import stale_builds
from ansible_collections.platter.qemu.plugins.module_utils._tools.locks import ImageLocks
from ansible_collections.platter.qemu.plugins.module_utils._tools.process import Runner
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg


class ImageEngine:
    """What C(_module/run.py) drives. C(specs): one per image, paths resolved by C(resolved_spec)."""

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
    ) -> None:
        _refuse_duplicates(specs)
        self._specs = list(specs)
        self._runner = Runner()
        self._lock_timeout = lock_timeout
        self._fail_fast = fail_fast
        tool = QemuImg(self._runner, qemu_img)
        self._observer = Observer(self._runner, tool, attributes)
        self._executor = Executor(tool, attributes, self._observer, workers=workers, fail_fast=fail_fast)
        self._levels: t.List[t.List[str]] = []

    @property
    def commands(self) -> t.List[t.List[str]]:
        """Every command that was run, as argument lists."""
        return self._runner.commands

    @staticmethod
    def facts(state: ImageState) -> t.Dict[str, t.Any]:
        """A state as results and diffs show it."""
        return state.to_facts()

    def hold(self) -> ImageLocks:
        """Locks on all images of the task, shared ones on their bases."""
        bases = [spec.backing.path for spec in self._specs if spec.backing]
        locks = _InheritedLocks([spec.path for spec in self._specs], bases, self._lock_timeout)
        locks.runner = self._runner
        return locks

    def prepare(self, patient: bool) -> t.List[Item]:
        """Every image observed and planned, in the order of the task; refusals are in the items."""
        items = [self._observed(spec) for spec in self._specs]
        by_path = {item.name: item for item in items}
        self._levels = in_order(list(by_path), _needs(items))
        for level in self._levels:
            for name in level:
                _plan(by_path[name], by_path)
        guard([item for item in items if not item.refusal], patient)
        _pass_on_refusals(items, self._levels)
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
        return items

    def _observed(self, spec: ImageSpec) -> Item:
        item = Item(spec.path, spec, before=ImageState(spec.path), after=ImageState(spec.path))
        try:
            refuse_unsafe_directory(spec)
            item.before, item.reading = self._observer.observe(spec)
        except EngineError as exc:
            item.refusal = exc
        item.after = item.before
        return item

    def execute(self, items: t.List[Item]) -> None:
        """Remove what earlier runs left, then carry out the plans level by level."""
        self._remove_stale(items)
        by_path = {item.name: item for item in items}
        for level in self._levels:
            self._executor.run([by_path[name] for name in level if not by_path[name].refusal])
            if self._fail_fast and any(item.error for item in items):
                return

    def _remove_stale(self, items: t.Sequence[Item]) -> None:
        """Safe under our locks: a build directory of an image that nobody else works on is nobody's."""
        names = {directory: _listing(directory) for directory in {os.path.dirname(item.name) for item in items}}
        for item in items:
            for stale in stale_builds(item.name, names[os.path.dirname(item.name)]):
                self._executor.forget_unfinished(item, stale)
                shutil.rmtree(stale, ignore_errors=True)
                item.notes.setdefault("removed_leftovers", []).append(stale)


class _InheritedLocks(ImageLocks):
    """Locks that programs started under them inherit: a program that outlives the module still protects its image."""

    runner: Runner

    def __enter__(self) -> ImageLocks:
        super().__enter__()
        self.runner.keep_open.append(self.descriptor)
        return self


def resolved_spec(params: t.Mapping[str, t.Any]) -> ImageSpec:
    """The spec of one item's options, its path resolved to the file it means."""
    from dataclasses import replace

    spec = ImageSpec.from_params(params)
    backing = spec.backing
    if backing:
        backing = replace(backing, path=os.path.realpath(backing.path))
    return replace(spec, path=resolve_target(spec.path), backing=backing)


def _listing(directory: str) -> t.List[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _refuse_duplicates(specs: t.Sequence[ImageSpec]) -> None:
    seen: t.Set[str] = set()
    for spec in specs:
        if spec.path in seen:
            raise SpecError(
                "this task",
                spec.path,
                "it is listed twice",
                reason="duplicate_item",
                way_out="List each image once.",
            )
        seen.add(spec.path)


def _needs(items: t.Sequence[Item]) -> t.Dict[str, t.Set[str]]:
    """An image needs its base and its source first; a base is removed only after its overlays are done with."""
    names = {item.name for item in items}
    needs: t.Dict[str, t.Set[str]] = {item.name: set() for item in items}
    removed = {item.name for item in items if item.spec.state == "absent"}
    for item in items:
        spec = item.spec
        wanted = [spec.backing.path if spec.backing else None]
        wanted.append(spec.source.place.path if spec.source and spec.source.place else None)
        needs[item.name].update(path for path in wanted if path in names and path not in removed)
        if item.before.backing and item.before.backing.path in removed:
            needs[item.before.backing.path].add(item.name)
    return needs


def _plan(item: Item, by_path: t.Mapping[str, Item]) -> None:
    if item.refusal:
        return
    try:
        item.reading = _with_predictions(item, by_path)
        item.plan = list(plan_image(item.spec, item.before, item.reading))
        item.after = predict(item.before, item.plan)
    except RefusedError as exc:
        item.refusal = exc
        return
    _note(item)


def _note(item: Item) -> None:
    unprovable = unprovable_options(item.spec, item.reading) if item.before.exists and not item.plan else []
    if unprovable:
        item.notes["unprovable_options"] = unprovable


def _with_predictions(item: Item, by_path: t.Mapping[str, Item]) -> t.Any:
    """The reading, with base and source as earlier items of this task will have left them."""
    from dataclasses import replace

    reading, spec = item.reading, item.spec
    base = by_path.get(spec.backing.path) if spec.backing else None
    if base is not None and base.plan and base.after.exists:
        there = BaseReading(base.name, True, (base.after.format,), base.after.virtual_size)
        reading = replace(reading, base=there)
    place = spec.source.place if spec.source else None
    source = by_path.get(place.path) if place and place.path else None
    if source is not None and source.plan and not item.before.exists:
        reading = replace(reading, source=SourceReading(virtual_size=source.after.virtual_size))
    return reading


def _pass_on_refusals(items: t.Sequence[Item], levels: t.List[t.List[str]]) -> None:
    """What is to be made from something that is refused is refused too."""
    by_path = {item.name: item for item in items}
    needs = _needs(items)
    for name in (name for level in levels for name in level):
        failed = [other for other in needs[name] if by_path[other].refusal]
        item = by_path[name]
        if failed and item.plan and not item.refusal:
            item.refusal = FailedError(
                "refused: %s needs %s, which is refused. Nothing was changed." % (name, failed[0]),
                reason="needs_refused",
            )


__all__ = ["ImageEngine", "ImageLockedError", "resolved_spec"]
