# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The snapshot engine: the images of one task observed, planned, guarded and carried out together."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, Patience, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import observe, plan, plan_switch, target, warn
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotState
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    locks,
    process,
    records,
    walk,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

#: how often an image in use may be waited for, as each wait may end with another user
_ROUNDS = 5


class SnapshotEngine(Engine):
    """Snapshots of images. C(dress(like, built)): gives a new file the owner, mode and label of another."""

    noun = "snapshot"
    nouns = "snapshots"

    def __init__(
        self,
        specs: t.Sequence[SnapshotSpec],
        dress: t.Callable[[str, str], None],
        *,
        qemu_img: t.Optional[str],
        workers: int = 0,
        fail_fast: bool = True,
        lock_timeout: float = 30.0,
    ) -> None:
        self._specs = list(specs)
        self._dress = dress
        self._runner = process.Runner()
        super().__init__(self._runner.commands)
        self._tool = QemuImg(self._runner, qemu_img)
        self._observer = observe.Observer(self._tool, self._runner.commands)
        self._workers = workers
        self._fail_fast = fail_fast
        self._lock_timeout = lock_timeout
        self._held: t.Optional[_Hold] = None

    def managed(self, state: SnapshotState) -> t.Dict[str, t.Any]:
        """A state as diffs show it."""
        return state.managed()

    def hold(self) -> _Hold:
        """Our locks on every file that may change."""
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
        self._observer.look_anew()
        items = [self._observed(spec) for spec in self._specs]
        _name_together(items)
        _plan_all(items)
        _refuse_duplicates(items)
        waited = self._guard(items, patience) if any(item.plan for item in items) else False
        for item in items:
            if item.refusal:
                item.plan, item.after = [], item.before
            if self._held and item.name in self._held.removed:
                item.notes["removed_leftovers"] = self._held.removed[item.name]
        return items, waited

    def _observed(self, spec: SnapshotSpec) -> Item:
        nothing = SnapshotState(spec.image, spec.kind, spec.image, seen=False)
        item = Item(spec.image, spec, before=nothing, after=nothing)
        try:
            if self._held and spec.image in self._held.refusals:
                raise self._held.refusals[spec.image]
            if spec.overlay_directories:
                from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents

                dependents.refuse_wrong_directories(spec.overlay_directories)
            item.spec = spec = target.with_overlay(spec)
            item.before, item.reading = self._observer.observe(spec)
            item.spec = spec = plan_switch.with_switch(spec, item.reading)
            item.after = item.before
            item.warnings += warn.warnings(spec, item.before, item.reading)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
        return item

    def _guard(self, items: t.Sequence[Item], patience: t.Optional[Patience]) -> bool:
        # imported here, as what acts is below: a run with nothing to do, the usual one, does not pay for it
        from ansible_collections.platter.qemu.plugins.module_utils._snapshot.guard import guard

        return guard([item for item in items if not item.refusal], patience, self._runner, self._tool)

    def execute(self, items: t.List[Item]) -> None:
        """Carry out the plans."""
        todo = [item for item in items if item.plan and not item.refusal]
        if todo:
            from ansible_collections.platter.qemu.plugins.module_utils._snapshot.execute import Executor

            executor = Executor(
                self._tool,
                self._dress,
                self._observer,
                workers=self._workers,
                lock_timeout=self._lock_timeout,
                commands=self._runner.commands,
            )
            executor.run(todo)


def _plan_all(items: t.Sequence[Item]) -> None:
    """One after another, as what one makes is there for the next."""
    made: t.Set[str] = set()
    for item in items:
        if item.reading is not None:
            item.reading = replace(item.reading, taken_names=item.reading.taken_names | made)
        _plan(item)
        made |= {path for action in item.plan for path in action.makes}


def _plan(item: Item) -> None:
    if item.refusal:
        return
    try:
        item.plan = list(plan.plan_snapshots(item.spec, item.before, item.reading))
        item.after = predict(item.before, item.plan)
        if item.reading.live is not None:
            item.after = item.after.untold()
    except errors.EngineError as exc:
        item.refusal = not_begun(exc)


class _Hold:
    """Our locks while the block runs, on every file of each image's family. Under them a build directory for one of the
    images is nobody's, and is removed.
    """

    def __init__(self, specs: t.Sequence[SnapshotSpec], runner: process.Runner, timeout: float) -> None:
        self._specs = specs
        self._runner = runner
        #: why an image's family cannot be told, and so not locked, by image
        self.refusals: t.Dict[str, errors.EngineError] = {}
        self._paths = {spec.image: self._lockable(spec) for spec in specs}
        self._locks = locks.ImageLocks(sorted({path for paths in self._paths.values() for path in paths}), (), timeout)
        #: what was removed, by image
        self.removed: t.Dict[str, t.List[str]] = {}

    def __enter__(self) -> _Hold:
        with contextlib.ExitStack() as undo:
            self._locks.__enter__()
            undo.callback(self.__exit__)
            self._runner.keep_open.append(self._locks.descriptor)
            for spec in self._specs:
                found = self._leftovers(spec)
                if found:
                    self.removed[spec.image] = found
            undo.pop_all()
        return self

    def _lockable(self, spec: SnapshotSpec) -> t.List[str]:
        try:
            return sorted(_lockable(spec))
        except errors.EngineError as exc:
            self.refusals[spec.image] = exc
            return [spec.image]

    def _leftovers(self, spec: SnapshotSpec) -> t.List[str]:
        """What was removed that killed runs had left."""
        names: t.Dict[str, t.List[str]] = {}
        found = []
        for path in self._paths[spec.image]:
            directory = os.path.dirname(path)
            if directory not in names:
                names[directory] = _listed(directory)
            found += build_directory.stale_builds(path, names[directory])
        for stale in found:
            shutil.rmtree(stale, ignore_errors=True)
        for path in self._paths[spec.image]:
            found += records.remove_stale(path, names[os.path.dirname(path)])
        if spec.external:
            from ansible_collections.platter.qemu.plugins.module_utils._snapshot import point_records

            for path in self._paths[spec.image]:
                found += point_records.remove_second_name(path) if names[os.path.dirname(path)] else []
        return found

    def __exit__(self, *_unused: t.Any) -> None:
        self._runner.keep_open.clear()
        self._locks.__exit__()


def _listed(directory: str) -> t.List[str]:
    """The names in it; none where another user could put another file or directory under one of them, and where it is
    closed to us, who can have left nothing there.
    """
    if not os.path.isdir(directory) or walk.unsafe_mover(directory) is not None:
        return []
    with contextlib.suppress(PermissionError):
        return os.listdir(directory)
    return []


def _lockable(spec: SnapshotSpec) -> t.Set[str]:
    """Every file that the task may change: the image, and the layers that there are now of an external one.

    Its directory too, so that two tasks that name different layers of one disk do not work on it at once.
    """
    paths = {spec.image}
    if not os.path.lexists(spec.image):
        return paths
    paths.add(target.target_of(spec.image))
    if spec.external:
        from ansible_collections.platter.qemu.plugins.module_utils._snapshot.observe_layers import family_paths

        paths |= {os.path.dirname(path) for path in paths} | set(family_paths(spec, target.target_of(spec.image)))
    return paths


def _name_together(items: t.Sequence[Item]) -> None:
    """What is kept of a VM with its memory is kept in all of its disks, by one name that is free in each."""
    machines: t.Dict[str, t.List[Item]] = {}
    for item in items:
        if not item.refusal and item.spec.memory and item.reading.live is not None:
            machines.setdefault(item.reading.live.socket, []).append(item)
    for group in machines.values():
        names = frozenset(name for item in group for name in item.before.names)
        for item in group:
            item.reading = replace(item.reading, names_beside=names)


def _refuse_duplicates(items: t.Sequence[Item]) -> None:
    """Two entries that mean one disk would be planned without knowing of each other."""
    seen: t.Dict[str, Item] = {}
    for item in items:
        first = seen.setdefault(item.before.active, item)
        if first is not item:
            item.plan, item.after = [], item.before
            item.refusal = errors.SpecError(
                "the entry",
                item.name,
                "it is the same disk as %s, which is listed too" % first.name,
                reason="duplicate_item",
                way_out="List each image once.",
            )


__all__ = ["SnapshotEngine"]
