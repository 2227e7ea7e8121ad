# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes images that a running QEMU has open, through its QMP socket: one step for several disks where they belong
together.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions as act
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    family,
    layer_records,
    layers,
    live,
    live_merge,
    merge,
    merge_actions,
    point_records,
    together,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_actions as layer_act
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, guest_agent, qmp_jobs
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Notes = t.Dict[str, t.Any]
QmpActions = t.List[t.Dict[str, t.Any]]
#: the least first
_QUIESCE = ("no", "try", "required")
_ON_NODES = (
    merge_actions.CommitOverlay,
    merge_actions.FinishMerge,
    merge_actions.StreamBase,
    merge_actions.RemoveLayer,
)


class _Quiet(t.NamedTuple):
    """Whether a guest C(was) quiet, None when nobody asked it to be; C(problem): what is wrong beside the snapshot."""

    was: t.Optional[bool]
    problem: t.Optional[errors.EngineError] = None


class LiveEditor:
    """The actions on the images of one QEMU. C(editor), C(merger): for the files that it does not have open."""

    def __init__(self, qmp: Qmp, editor: layers.LayerEditor, merger: merge.Merger) -> None:
        self._qmp = qmp
        self._editor = editor
        self._merge = live_merge.LiveMerge(qmp, merger)
        self._methods: t.Dict[t.Any, t.Callable[..., Notes]] = {
            act.DeleteSnapshot: self._delete,
            act.AddBitmap: self._add_bitmap,
            act.RemoveBitmap: self._remove_bitmap,
            act.SwitchBitmap: self._switch_bitmap,
            layer_act.RemoveUnused: editor.remove_unused,
            layer_act.SwitchLink: editor.switch_link,
            merge_actions.CommitOverlay: self._merge.commit,
            merge_actions.FinishMerge: self._merge.finish,
            merge_actions.StreamBase: self._merge.stream,
            merge_actions.RemoveLayer: self._merge.remove,
            layer_act.AcceptPoint: merger.accept,
        }

    def carry_out(self, item: Item, action: t.Any) -> Notes:
        """An action that concerns one image only. A merge changes the nodes that the next one is about."""
        method = self._methods[type(action)]
        if not isinstance(action, _ON_NODES):
            return method(item.spec, action, item.reading)
        reading = replace(item.reading, live=live.look_again(self._qmp, item.spec, item.reading))
        try:
            return method(item.spec, action, reading)
        except errors.EngineError as exc:
            if not isinstance(exc, errors.RefusedError):
                exc.facts["changed"] = True  # it was begun: a file holds neither then nor now, or stays that was to go
            raise

    def belongs_together(self, action: t.Any) -> t.Optional[t.Callable[[t.Sequence[Item]], None]]:
        """What carries out the next action of several items at once, when it is C(action); None for one of its own."""
        if isinstance(action, layer_act.AddOverlay):
            return self.take_together
        if isinstance(action, act.TakeSnapshot):
            return self.save_together if action.memory else self.take_together
        return self.load_together if isinstance(action, act.RevertImage) else None

    # --- points of several disks at one moment

    def take_together(self, items: t.Sequence[Item]) -> None:
        """The next action of each item, all in one QMP transaction, with the guest quiet where the task asks it."""
        with contextlib.ExitStack() as undo:
            steps = []
            for item in items:
                with together.because_of(item):
                    steps.append(self._prepared(item, _next(item), undo))
            quiet = self._quietly(items, steps, undo)
        for item in items:
            _settle(_next(item))
            item.notes.update({} if quiet.was is None else {"quiesced": quiet.was})
            item.done += 1
        if quiet.problem is not None:
            raise quiet.problem

    def _prepared(self, item: Item, action: t.Any, undo: contextlib.ExitStack) -> t.Dict[str, t.Any]:
        node = item.reading.live.node
        if isinstance(action, act.TakeSnapshot):
            data = {"device": item.reading.live.top, "name": action.point.name}
            return {"type": "blockdev-snapshot-internal-sync", "data": data}
        self._place_overlay(item, action, undo)
        data = {
            "node-name": node,
            "snapshot-file": action.overlay,
            "snapshot-node-name": node_name(action.overlay, str(time.time())),
            "format": "qcow2",
            "mode": "existing",
        }
        return {"type": "blockdev-snapshot-sync", "data": data}

    def _place_overlay(self, item: Item, action: layer_act.AddOverlay, undo: contextlib.ExitStack) -> None:
        """An empty overlay shows what is below it: until QEMU has switched, starting from either file is right."""
        spec = item.spec
        point_records.settle_left(family.points(item.reading.layers))  # no job is at work: see refuse_beside_a_merge
        layer_records.note_point(action.active, action.point.name, overlay=action.overlay, settled=False)
        undo.callback(layer_records.forget_point, action.active)
        with self._editor.built(spec, action.overlay, action.active, action.active, action.format) as build:
            self._editor.publish(spec, build.path, action.overlay)
            files.fsync_path(os.path.dirname(action.overlay))  # before anything leads there
        layer_records.remember_base(action.overlay, None)  # the guest writes to it until QEMU has switched
        undo.callback(layer_records.remove_layer, action.overlay)
        if spec.switch == "symlink":
            undo.callback(layers.switch_link, spec.image, action.active)
            layers.switch_link(spec.image, action.overlay)

    def _commit(self, items: t.Sequence[Item], steps: QmpActions, undo: contextlib.ExitStack) -> None:
        """Only a no of QEMU is a no: after silence it may have switched, and what it has open must stay."""
        try:
            self._qmp.transaction(steps)
        except errors.QmpConnectError:
            undo.pop_all()
            raise
        except errors.QmpCommandError as exc:
            names = {item.name: (item.reading.live.node, item.reading.live.top, *_next(item).makes) for item in items}
            raise together.refused_by_qemu(exc, names) from exc
        undo.pop_all()

    @staticmethod
    def _agent(item: Item) -> guest_agent.GuestAgent:
        return guest_agent.GuestAgent.connect(str(item.spec.agent_socket), vm=item.reading.live.pids)

    def _quietly(self, items: t.Sequence[Item], steps: QmpActions, undo: contextlib.ExitStack) -> _Quiet:
        """As the entry asks that asks most: a guest is quiet for all of its disks, or for none."""
        asking = max(items, key=lambda item: _QUIESCE.index(item.spec.quiesce))
        required = asking.spec.quiesce == "required"
        if asking.spec.quiesce == "no":
            self._commit(items, steps, undo)
            return _Quiet(None)
        taken = False
        try:
            with self._agent(asking) as agent, guest_agent.frozen(agent) as state:
                self._commit(items, steps, undo)
                taken = True
        except errors.GuestAgentError as exc:
            if taken:
                return _Quiet(False, _not_thawed(exc))
            if required:
                raise together.TogetherError(exc, asking.name) from exc
            asking.warnings.append("The guest's file systems were not frozen: %s." % exc.message)
            self._commit(items, steps, undo)
            return _Quiet(False)
        fact = "the snapshot was taken, but somebody thawed the guest meanwhile"
        return _Quiet(state.held, errors.FailedError(fact) if required and not state.held else None)

    # --- snapshots with memory: all disks of a VM at once

    def save_together(self, items: t.Sequence[Item]) -> None:
        """The next action of each item, a snapshot with the VM's memory, in one job; the VM stands still meanwhile."""
        self._vm_job("snapshot-save", items, items[0].reading.live.node)

    def load_together(self, items: t.Sequence[Item]) -> None:
        """The next action of each item: send the VM back, disks and memory; the job lets it go on if it ran before."""
        holders = [item.reading.live.node for item in items if item.plan[item.done].point.vm_state_size]
        self._vm_job("snapshot-load", items, holders[0])

    def _vm_job(self, command: str, items: t.Sequence[Item], vmstate: str) -> None:
        nodes = [item.reading.live.node for item in items]
        job, tag = node_name(command, *nodes), items[0].plan[items[0].done].point.name
        self._end_earlier(job, items)
        qmp_jobs.start_job(self._qmp, command, job, tag=tag, vmstate=vmstate, devices=nodes)
        ended = qmp_jobs.finish_job(self._qmp, job, time.monotonic() + items[0].spec.job_timeout)
        if ended.failed or ended.status == qmp_jobs.GONE:
            said = ended.error or "somebody else has dismissed it"
            names = {item.name: (item.reading.live.node,) for item in items}
            raise together.refused_by_qemu(errors.FailedError("QEMU's job %s ended with: %s" % (command, said)), names)
        for item in items:
            files.fsync_path(item.plan[item.done].path)
            item.done += 1

    def _end_earlier(self, job: str, items: t.Sequence[Item]) -> None:
        """A killed run may have left its job. What one does that was still at work is not what was looked at."""
        found = qmp_jobs.find_job(self._qmp, job)
        if found is not None:
            qmp_jobs.finish_job(self._qmp, job, time.monotonic() + items[0].spec.job_timeout)
            if found.status != "concluded":
                raise layers.changed_meanwhile(items[0].spec, "a job of an earlier run has ended")

    # --- one image

    def _delete(self, spec: SnapshotSpec, action: act.DeleteSnapshot, reading: t.Any) -> Notes:
        arguments = {"device": reading.live.top, "id": action.point.id, "name": action.point.name}
        self._qmp.execute("blockdev-snapshot-delete-internal-sync", arguments)
        files.fsync_path(action.path)
        return {}

    def _add_bitmap(self, spec: SnapshotSpec, action: act.AddBitmap, reading: t.Any) -> Notes:
        node = {"node": reading.live.node}
        add: t.Dict[str, t.Any] = {**node, "name": action.bitmap.name, "persistent": True}
        if action.granularity:
            add["granularity"] = action.granularity
        steps: QmpActions = [{"type": "block-dirty-bitmap-add", "data": dict(add, disabled=not action.bitmap.enabled)}]
        if action.sources:
            merge = {**node, "target": action.bitmap.name, "bitmaps": list(action.sources)}
            steps.append({"type": "block-dirty-bitmap-merge", "data": merge})
        self._qmp.transaction(steps)
        return {}

    def _remove_bitmap(self, spec: SnapshotSpec, action: act.RemoveBitmap, reading: t.Any) -> Notes:
        self._qmp.execute("block-dirty-bitmap-remove", {"node": reading.live.node, "name": action.name})
        return {}

    def _switch_bitmap(self, spec: SnapshotSpec, action: act.SwitchBitmap, reading: t.Any) -> Notes:
        command = "block-dirty-bitmap-enable" if action.enabled else "block-dirty-bitmap-disable"
        self._qmp.execute(command, {"node": reading.live.node, "name": action.name})
        return {}


def _next(item: Item) -> t.Any:
    return item.plan[item.done]


def _not_thawed(exc: errors.GuestAgentError) -> errors.EngineError:
    fact = "the snapshot was taken, but the guest was not thawed (%s); a process that was left for it goes on trying"
    return errors.FailedError(fact % exc.message, reason=exc.reason)


def _settle(action: t.Any) -> None:
    """After a point was taken: on stable storage, and with what its file is to stay."""
    if isinstance(action, layer_act.AddOverlay):
        layer_records.settle_point(action.active)
        layer_records.remember_base(action.overlay, action.active)
        files.fsync_path(action.active)
    else:
        files.fsync_path(action.path)


def node_name(*words: str) -> str:
    """A name for a node of ours: QEMU allows 31 bytes, and none may have it yet."""
    return "platter-" + hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]
