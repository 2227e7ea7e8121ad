# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several images at a time, and looks again at what came of it."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._core.renaming import renamed
from ansible_collections.platter.qemu.plugins.module_utils._image import actions as act
from ansible_collections.platter.qemu.plugins.module_utils._image import (
    build,
    convert,
    depending,
    edit,
    plan,
    publish,
    refuse,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.held_place import held_place
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

#: programs and fsyncs overlap well up to here even on two cores
_MOST_WORKERS = 8


class Executor:
    """Runs the actions of items. C(workers) 0: as many as help."""

    def __init__(
        self,
        run_command: process.RunCommand,
        qemu_img: QemuImg,
        attributes: t.Any,
        observer: t.Any,
        workers: int,
        lock_timeout: float,
    ) -> None:
        self._lock_timeout = lock_timeout
        self._observer = observer
        self._run_command = run_command
        self._qemu_img = qemu_img
        publisher = publish.Publisher(attributes)
        self._builder = build.Builder(qemu_img, publisher)
        self._converter = convert.Converter(qemu_img, publisher)
        self._editor = edit.Editor(run_command, qemu_img, attributes)
        self._workers = workers or min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items that do not need each other."""
        todo = [item for item in items if item.plan]
        going = [item for item in todo if depending.removes(item)]
        if going:
            self._remove(going)
        making = [item for item in todo if not depending.removes(item)]
        for item in making[:1]:
            self._run_one(item)  # alone: what it makes serves the others as a template
        side_by_side(self._run_one, making[1:], self._workers)

    def _remove(self, items: t.Sequence[Item]) -> None:
        from ansible_collections.platter.qemu.plugins.module_utils._image import claimed
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import meanwhile

        with meanwhile.Definitions(self._lock_timeout).kept(items, claimed.guard) as free:
            side_by_side(self._run_one, free, self._workers)

    def _run_one(self, item: Item) -> None:
        try:
            _plan_on_what_came(item)
            for action in item.plan:
                item.notes.update(self._carry_out(item, action))
                item.done += 1
            self._look_again(item)
        except errors.ImageLockedError as exc:
            item.error = self._failed(item, _locked(item, exc))
        except errors.EngineError as exc:
            item.error = self._failed(item, exc)
        except OSError as exc:
            item.error = self._failed(item, errors.EngineError("%s: %s" % (exc.filename or item.name, exc.strerror)))

    def _carry_out(self, item: Item, action: t.Any) -> t.Dict[str, t.Any]:
        with held_place(item.spec) as spec:
            notes = self._in_place(spec, item, action)
        return t.cast("t.Dict[str, t.Any]", renamed(notes, os.path.dirname(spec.path), os.path.dirname(item.spec.path)))

    def _in_place(self, spec: ImageSpec, item: Item, action: t.Any) -> t.Dict[str, t.Any]:
        reading = item.reading
        if spec.place is not None:
            from ansible_collections.platter.qemu.plugins.module_utils._image.place_write import PlaceWriter

            return PlaceWriter(self._run_command, self._qemu_img).carry_out(spec, action, reading)
        if isinstance(action, act.CreateImage):
            return self._builder.create(spec, action, reading)
        if isinstance(action, act.ImportImage):
            from ansible_collections.platter.qemu.plugins.module_utils._image.fetch import import_image

            return import_image(self._converter, self._qemu_img, spec, action, reading)
        if isinstance(action, act.RewriteImage):
            return self._converter.rewrite(spec, action, reading, item.before.virtual_size)
        return self._edit(spec, reading, action)

    def _edit(self, spec: ImageSpec, reading: state.ImageReading, action: t.Any) -> t.Dict[str, t.Any]:
        methods: t.Dict[t.Any, t.Callable[..., t.Dict[str, t.Any]]] = {
            act.ResizeImage: self._editor.resize,
            act.AmendImage: self._editor.amend,
            act.RebaseImage: self._editor.rebase,
            act.AcceptBase: self._editor.accept_base,
            act.RepairImage: self._editor.repair,
            act.ChangeKeyslots: self._editor.change_keyslots,
            act.SetAttributes: self._editor.set_attributes,
            act.RemoveImage: self._editor.remove,
        }
        return methods[type(action)](spec, action, reading)

    # --- afterwards

    def _look_again(self, item: Item) -> None:
        found, reading = self._observer.observe(item.spec)
        if item.spec.place is not None:
            _refuse_lost_content(item, found, reading)
        expected = _known_from(item.after, found)
        if found != expected:
            raise errors.FailedError(
                "failed: %s is not as planned after the change: %s instead of %s."
                % (item.name, found.to_facts(), expected.to_facts()),
                reason="not_as_planned",
            )
        item.after = found

    def _failed(self, item: Item, exc: errors.EngineError) -> errors.EngineError:
        if isinstance(exc, errors.RefusedError) and not item.done:
            item.after = item.before
            return exc
        item.after = self._found(item)
        exc.message = failed_at(item, exc.message, _state_now(item))
        return exc

    def _found(self, item: Item) -> state.ImageState:
        """What is there after a failure; where nobody can tell, what was carried out."""
        found: state.ImageState
        try:
            found, _reading = self._observer.observe(replace(item.spec, source=None))
        except (errors.EngineError, OSError):
            found = predict(item.before, item.plan[: item.done])
        return found


def _plan_on_what_came(item: Item) -> None:
    """How large a base is that this task has fetched is known only now: the overlay on it is planned once more."""
    base = item.reading.base
    if base is None or not base.exists or base.virtual_size is not None:
        return
    header = image.look_at(base.path, item.spec.backing.format).header
    came = replace(base, virtual_size=header.virtual_size if header else None)
    item.reading = replace(item.reading, base=came)
    item.plan = list(plan.plan_image(item.spec, item.before, item.reading))
    item.after = predict(item.before, item.plan)


def _known_from(expected: state.ImageState, found: state.ImageState) -> state.ImageState:
    """What could not be known before (the size and digest of a download) is taken as found.

    Corruptions may go with leaks: a flag that says that a count is 1 is wrong as long as the count is too high.
    """
    if expected.exists and expected.virtual_size is None:
        expected = replace(expected, virtual_size=found.virtual_size)
    if expected.source is None:
        expected = replace(expected, source=found.source)
    if found.corruptions < expected.corruptions:
        expected = replace(expected, corruptions=found.corruptions)
    return expected


def _locked(item: Item, exc: errors.ImageLockedError) -> errors.RefusedError:
    return refuse.refused(
        item.spec,
        "image_in_use",
        "QEMU's lock on it is held by another process (%s)" % exc.stderr.strip().splitlines()[-1],
        "Stop what uses it, or set on_in_use to wait or skip.",
    )


def _refuse_lost_content(item: Item, found: state.ImageState, reading: t.Any) -> None:
    """What a server takes is not always what it keeps."""
    if not found.exists or (reading.source and reading.source.changed is not False):
        raise errors.FailedError(
            "the export does not hold what was written to it; or its source was changed meanwhile",
            reason="verification_failed",
        )


def _state_now(item: Item) -> str:
    if item.spec.place is not None:
        return "%s may hold a part of it." % item.name
    seen = image.look_at(item.name, item.spec.format)
    if seen.header is None:
        return "no image at %s." % item.name
    marked = ", and is now marked corrupt" if seen.header.corrupt else ""
    return "%s is %s of %d bytes%s." % (item.name, seen.header.format, seen.header.virtual_size, marked)
