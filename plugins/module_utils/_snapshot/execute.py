# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several images at a time, and looks again at what came of it."""

from __future__ import annotations

import os
import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import (
    EngineError,
    FailedError,
    ImageLockedError,
    RefusedError,
)
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._inspect import meanwhile
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions as act
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    edit,
    guard,
    merge,
    merge_actions,
    refuse_running,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_actions as layer_act
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layers import LayerEditor
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

#: programs and fsyncs overlap well up to here even on two cores
_MOST_WORKERS = 8


class Executor:
    """Runs the actions of items. C(workers) 0: as many as help. C(lock_timeout): seconds that a task which defines VMs is
    waited for. C(commands) gets what was said to QEMUs.
    """

    def __init__(
        self,
        qemu_img: QemuImg,
        dress: t.Callable[[str, str], None],
        observer: t.Any,
        *,
        workers: int,
        lock_timeout: float,
        commands: t.List[t.List[str]],
    ) -> None:
        self._observer = observer
        self._commands = commands
        self._layers = layers = LayerEditor(qemu_img, dress)
        editor = edit.Editor(qemu_img)
        self._definitions = meanwhile.Definitions(lock_timeout)
        self._merger = merger = merge.Merger(qemu_img, self._definitions)
        self._methods: t.Dict[t.Any, t.Callable[..., t.Dict[str, t.Any]]] = {
            act.TakeSnapshot: editor.take,
            act.DeleteSnapshot: editor.delete,
            act.RevertImage: editor.revert,
            act.AddBitmap: editor.add_bitmap,
            act.RemoveBitmap: editor.remove_bitmap,
            act.SwitchBitmap: editor.switch_bitmap,
            layer_act.AddOverlay: layers.add,
            layer_act.RevertOverlay: layers.revert,
            layer_act.RemoveUnused: layers.remove_unused,
            layer_act.SwitchLink: layers.switch_link,
            merge_actions.CommitOverlay: merger.commit,
            merge_actions.FinishMerge: merger.finish,
            merge_actions.StreamBase: merger.stream,
            merge_actions.RemoveLayer: merger.remove,
            layer_act.AcceptPoint: merger.accept,
        }
        self._workers = workers or min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items, which do not need each other. What harms no disk of a VM that is not known yet is done
        while none can be defined; but nobody waits for what takes long, which looks again before a file goes.
        """
        left = [item for item in items if not guard.harms(item)]
        harming = [item for item in items if guard.harms(item)]
        if harming:
            with self._definitions.kept(harming, guard.guard_again) as free:
                self._run([item for item in free if not _takes_long(item)])
            left += [item for item in free if _takes_long(item)]
        self._run(left)

    def _run(self, items: t.Sequence[Item]) -> None:
        offline = [item for item in items if item.reading.live is None]
        self._observer.look_anew()
        self._run_live([item for item in items if item.reading.live is not None])
        side_by_side(self._run_one, offline, self._workers)

    def _run_live(self, items: t.Sequence[Item]) -> None:
        """QEMUs one after the other, all disks of each together."""
        if not items:
            return
        from ansible_collections.platter.qemu.plugins.module_utils._snapshot.execute_live import LiveExecutor

        live = LiveExecutor(self._layers, self._merger, self._commands)
        for socket in dict.fromkeys(item.reading.live.socket for item in items):
            group = [item for item in items if item.reading.live.socket == socket]
            errors = live.run(socket, group)
            self._observer.look_anew()
            for number, item in enumerate(group):
                attempt(item, partial(self._end, item, errors.get(number)), self.failed)

    def _end(self, item: Item, error: t.Optional[Exception]) -> None:
        if error is None:
            self.look_again(item)
        elif isinstance(error, EngineError):  # several items may share it, and each tells its own story of it
            raise EngineError(error.message, **error.facts)
        else:
            raise error

    def _run_one(self, item: Item) -> None:
        attempt(item, partial(self._carry_out, item), self.failed)

    def _carry_out(self, item: Item) -> None:
        for action in item.plan:
            item.note(self._methods[type(action)](item.spec, action, item.reading))
            item.done += 1
        self.look_again(item)

    def look_again(self, item: Item) -> None:
        """What is there now must be what was predicted."""
        found, _reading = self._observer.observe(item.spec)
        if found.in_no_order() != item.after.in_no_order():
            raise FailedError(
                "failed: %s is not as planned after the change: %s instead of %s."
                % (item.name, found.to_facts(), item.after.to_facts()),
                reason="not_as_planned",
            )
        item.after = found  # with what could not be predicted: dates

    def failed(self, item: Item, exc: EngineError) -> EngineError:
        """The error of an item, with what was done and what is there now."""
        if isinstance(exc, ImageLockedError) and not exc.facts.get("changed"):
            exc = _locked(item, exc)
        if isinstance(exc, RefusedError) and not item.done:
            item.after = item.before
            return exc
        exc.message = failed_at(item, exc.message, self._now(item))
        return exc

    def _now(self, item: Item) -> str:
        """Looks at what is there, and says it."""
        try:
            found, _reading = self._observer.observe(item.spec)
        except EngineError as exc:
            item.after = predict(item.before, item.plan[: item.done])
            return exc.message
        item.after = found
        return "%s has the snapshots %s." % (found.active, ", ".join(found.names) or "(none)")


def _takes_long(item: Item) -> bool:
    """What copies does, and a QEMU that has a guest to serve may."""
    merges = (merge_actions.CommitOverlay, merge_actions.StreamBase)
    return item.reading.live is not None or any(isinstance(action, merges) for action in item.plan)


def _locked(item: Item, exc: ImageLockedError) -> RefusedError:
    said = exc.stderr.strip().splitlines()[-1]
    return refuse_running.in_use(item.spec, "QEMU's lock on it is held by another process (%s)" % said)
