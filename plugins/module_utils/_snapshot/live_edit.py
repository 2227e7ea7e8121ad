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

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions as act
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_actions as layer_act
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records, layers, live_merge, merge
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, guest_agent, qmp_jobs
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Notes = t.Dict[str, t.Any]
QmpActions = t.List[t.Dict[str, t.Any]]


class LiveEditor:
    """The actions on the images of one QEMU. C(editor): for the files that are made beside it."""

    def __init__(self, qmp: Qmp, editor: layers.LayerEditor) -> None:
        self._qmp = qmp
        self._editor = editor
        self._merge = live_merge.LiveMerge(qmp)
        self._methods: t.Dict[t.Any, t.Callable[..., Notes]] = {
            act.DeleteSnapshot: self._delete,
            act.AddBitmap: self._add_bitmap,
            act.RemoveBitmap: self._remove_bitmap,
            act.SwitchBitmap: self._switch_bitmap,
            layer_act.SwitchLink: editor.switch_link,
            layer_act.CommitOverlay: self._merge.commit,
            layer_act.FinishMerge: self._merge.finish,
            layer_act.StreamBase: self._merge.stream,
            layer_act.RemoveLayer: self._remove,
            layer_act.AcceptPoint: merge.Merger.accept,
        }

    def carry_out(self, item: Item, action: t.Any) -> Notes:
        """An action that concerns one image only."""
        return self._methods[type(action)](item.spec, action, item.reading)

    # --- points of several disks at one moment

    def take_together(self, items: t.Sequence[Item]) -> None:
        """The first action of each item, all in one QMP transaction, with the guest quiet where the task asks it."""
        with contextlib.ExitStack() as undo:
            steps = [self._prepared(item, item.plan[0], undo) for item in items]
            quiet = self._quietly(items, steps, undo)
        for item in items:
            if isinstance(item.plan[0], layer_act.AddOverlay):
                layer_records.settle_point(item.plan[0].active)
                layer_records.remember_base(item.plan[0].overlay, item.plan[0].active)
                files.fsync_path(item.plan[0].active)
                files.fsync_path(os.path.dirname(item.plan[0].overlay))
            else:
                files.fsync_path(item.plan[0].path)
            item.notes.update({} if quiet is None else {"quiesced": quiet})
            item.done += 1

    def _prepared(self, item: Item, action: t.Any, undo: contextlib.ExitStack) -> t.Dict[str, t.Any]:
        node = item.reading.live.node
        if isinstance(action, act.TakeSnapshot):
            return {"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": action.point.name}}
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
        layer_records.note_point(action.active, action.point.name, overlay=action.overlay, settled=False)
        undo.callback(layer_records.forget_point, action.active)
        with self._editor.built(spec, action.overlay, action.active, action.active, action.format) as build:
            self._editor.publish(spec, build.path, action.overlay, item.reading)
        layer_records.remember_base(action.overlay, None)  # the guest writes to it until QEMU has switched
        undo.callback(layer_records.remove_layer, action.overlay)
        if spec.switch == "symlink":
            undo.callback(layers.switch_link, spec.image, action.active)
            layers.switch_link(spec.image, action.overlay)

    def _commit(self, steps: QmpActions, undo: contextlib.ExitStack) -> None:
        """Only a no of QEMU is a no: after silence it may have switched, and what it has open must stay."""
        try:
            self._qmp.transaction(steps)
        except errors.QmpConnectError:
            undo.pop_all()
            raise
        undo.pop_all()

    @staticmethod
    def _agent(item: Item) -> guest_agent.GuestAgent:
        return guest_agent.GuestAgent.connect(str(item.spec.agent_socket), vm=item.reading.live.pids)

    def _quietly(self, items: t.Sequence[Item], steps: QmpActions, undo: contextlib.ExitStack) -> t.Optional[bool]:
        """Whether the guest was quiet; None when nobody asked it to be."""
        spec = items[0].spec
        if spec.quiesce == "no":
            self._commit(steps, undo)
            return None
        taken = False
        try:
            with self._agent(items[0]) as agent, guest_agent.frozen(agent) as state:
                self._commit(steps, undo)
                taken = True
        except errors.GuestAgentError as exc:
            if taken or spec.quiesce == "required":
                raise
            items[0].warnings.append("The guest's file systems were not frozen: %s." % exc.message)
            self._commit(steps, undo)
            return False
        if spec.quiesce == "required" and not state.held:
            raise errors.FailedError("the snapshot was taken, but somebody thawed the guest meanwhile")
        return state.held

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
        qmp_jobs.start_job(self._qmp, command, job, tag=tag, vmstate=vmstate, devices=nodes)
        ended = qmp_jobs.finish_job(self._qmp, job, time.monotonic() + items[0].spec.job_timeout)
        if ended.failed:
            raise errors.FailedError("QEMU's job %s ended with: %s" % (command, ended.error))
        for item in items:
            files.fsync_path(item.plan[item.done].path)
            item.done += 1

    # --- one image

    def _delete(self, spec: SnapshotSpec, action: act.DeleteSnapshot, reading: t.Any) -> Notes:
        arguments = {"device": reading.live.node, "id": action.point.id, "name": action.point.name}
        self._qmp.execute("blockdev-snapshot-delete-internal-sync", arguments)
        files.fsync_path(action.path)
        return {}

    def _remove(self, spec: SnapshotSpec, action: layer_act.RemoveLayer, reading: t.Any) -> Notes:
        """What a killed run has streamed out of the point's file may not be on the disk yet."""
        self._merge.flush(reading.live.node)
        return merge.Merger.remove(spec, action, reading)

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


def node_name(*words: str) -> str:
    """A name for a node of ours: QEMU allows 31 bytes, and none may have it yet."""
    return "platter-" + hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]
