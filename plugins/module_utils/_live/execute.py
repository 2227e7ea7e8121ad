# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out a plan on a running QEMU. What a step has made of a drive is removed again when it fails."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import definitions, throttling
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Options
from ansible_collections.platter.qemu.plugins.module_utils._live import actions, image, media, unplug
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveDrive, Medium
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

_COMMANDS = {"object": "object-add", "blockdev": "blockdev-add", "device": "device_add"}
#: seconds in which a guest gives up a drive, or a medium that it has locked
UNPLUG_SECONDS = 30.0
_AGAIN_SECONDS = 0.1


def execute(
    qmp: Qmp,
    steps: t.Sequence[actions.LiveAction],
    seconds: float = UNPLUG_SECONDS,
    done: t.Callable[[actions.LiveAction], None] = lambda _step: None,
) -> None:
    """Carry out the steps of a plan in order. C(seconds): how long guests have, all drives that are unplugged together.

    C(done) is told of each step that was carried out. What can be done without a guest that does not answer is done, and
    FailedError (unplug_pending) is raised at the end; a later run finishes it. Any other failure ends the work: FailedError
    (plug_failed, medium_failed, tray_locked), QmpCommandError, QmpConnectError.
    """
    executor = _Executor(qmp, time.monotonic() + seconds)
    leaving = [each for each in steps if isinstance(each, actions.UnplugDrive)]
    pending = unplug.ask(qmp, leaving)
    late: t.List[str] = []
    for step in steps:
        if isinstance(step, actions.UnplugDrive) and not pending.gone(step, executor.deadline):
            late.append(step.live.id)
            continue
        executor.run(step)
        done(step)
    if late:
        raise unplug.still_there(late, seconds, pending.paused)


class _Executor:
    def __init__(self, qmp: Qmp, deadline: float) -> None:
        self._qmp = qmp
        self.deadline = deadline

    def run(self, step: actions.LiveAction) -> None:
        """One step."""
        _STEPS[type(step)](self, step)

    def clear(self, step: actions.ClearNodes) -> None:
        self._delete_nodes(step.idle.names)

    def unplugged(self, step: actions.UnplugDrive) -> None:
        """The device has gone; what it was on goes now."""
        self._delete_nodes(step.names)
        for name in step.objects:
            _quietly(self._qmp, "object-del", {"id": name})  # something else uses it, as only QEMU knows

    def _delete_nodes(self, names: t.Iterable[str]) -> None:
        """Those that are there: what C(-drive) has made goes with its device, and children with their parents."""
        there = {each["node-name"] for each in self._qmp.execute("query-named-block-nodes", {"flat": True})}
        for name in names:
            if name in there:
                self._delete_node(name)

    def _delete_node(self, name: str) -> None:
        """A device that has gone may hold its node for a moment."""
        while True:
            try:
                self._qmp.execute("blockdev-del", {"node-name": name})
            except errors.QmpCommandError as exc:
                # a node that was described in another is not the monitor's, and goes with that one
                if "not owned by the monitor" in exc.desc or "Failed to find node" in exc.desc:
                    return
                if "in use" not in exc.desc or time.monotonic() > self.deadline:
                    raise
                self._qmp.wait_event((), time.monotonic() + _AGAIN_SECONDS)
            else:
                return

    def add_object(self, step: actions.AddObject) -> None:
        self._qmp.execute("object-add", definitions.object_tree(step.object))

    def add_node(self, step: actions.AddNode) -> None:
        self._add(actions.definitions_of_node(step.node), "adding the node %s" % step.node.name)

    def plug_controller(self, step: actions.PlugController) -> None:
        self._qmp.execute("device_add", definitions.device_told(step.device))

    def plug(self, step: actions.PlugDrive) -> None:
        self._add(step.definitions(), "plugging in %s" % step.drive.id)

    def _add(self, told: t.Sequence[definitions.Definition], what: str) -> None:
        """All of it, or nothing."""
        added: t.List[definitions.Definition] = []
        try:
            for each in told:
                added.append(each)
                self._qmp.execute(_COMMANDS[each.kind], each.told)
        except errors.QmpCommandError as exc:
            left = self._undo(added[:-1])
            raise failed("plug_failed", what, exc, left) from exc

    def _undo(self, added: t.Sequence[definitions.Definition]) -> t.List[str]:
        """What could not be removed."""
        left = []
        for each in reversed(added):
            command, key = {"object": ("object-del", "id"), "blockdev": ("blockdev-del", "node-name")}[each.kind]
            name = str(each.told[key])
            if not _quietly(self._qmp, command, {key: name}):
                left.append(name)
        return left

    def change_medium(self, step: actions.ChangeMedium) -> None:
        """The new medium is opened for a try first, while the old one is still in."""
        told = actions.node_definitions(step.drive, step.live.legacy)
        objects = [definitions.Definition("object", definitions.object_tree(each)) for each in step.objects]
        self._try_medium(objects, told, step)
        unplug.open_tray(self._qmp, step.live, self.deadline)
        self._qmp.execute("blockdev-remove-medium", {"id": step.live.qdev})
        self._delete_nodes(step.live.medium.names if step.live.medium is not None else ())
        if told:
            self._add_medium(told, step.live)
            self._qmp.execute("blockdev-insert-medium", {"id": step.live.qdev, "node-name": told[-1].told["node-name"]})
        self.close_tray(step)

    def _add_medium(self, told: t.Sequence[definitions.Definition], live: LiveDrive) -> None:
        try:
            self._add(told, "opening the medium of %s" % live.id)
        except errors.FailedError as exc:
            if live.medium is not None:
                exc.message += (
                    " It could be opened a moment before, and the old medium (%s) is out already: %s is empty now."
                    % ((live.medium.file, live.id))
                )
            raise

    def close_tray(self, step: t.Union[actions.ChangeMedium, actions.CloseTray]) -> None:
        self._qmp.execute("blockdev-close-tray", {"id": step.live.qdev})

    def _try_medium(
        self,
        objects: t.Sequence[definitions.Definition],
        told: t.Sequence[definitions.Definition],
        step: actions.ChangeMedium,
    ) -> None:
        self._add(objects, "opening the medium of %s" % step.live.id)
        tried = [each._replace(told=tree) for each, tree in zip(told, image.tried([each.told for each in told]))]
        try:
            self._add(tried, "opening the medium of %s" % step.live.id)
        except errors.FailedError:
            self._undo(objects)
            raise
        self._undo(tried)

    def group_limits(self, step: actions.SetGroupLimits) -> None:
        told = dict(dict.fromkeys(throttling.LIMITS, 0), **_plain(step.limits))
        told.update({name: 1 for name in told if name.endswith("-length") and not told[name]})
        path = "/objects/" + step.group
        self._qmp.execute("qom-set", {"path": path, "property": "limits", "value": told})

    def throttle(self, step: actions.ThrottleDevice) -> None:
        limits = _plain(step.limits)
        told: t.Dict[str, t.Any] = {"id": step.live.qdev, **{old: limits.get(new, 0) for old, new in _OLD.items()}}
        told.update({old: limits[new] for old, new in _OLD_MORE.items() if new in limits})
        if step.group:
            told["group"] = step.group
        self._qmp.execute("block_set_io_throttle", told)

    def boot_order(self, step: actions.SetBootOrder) -> None:
        """No two may have the same at any moment."""
        for live, _index in step.order:
            self._bootindex(live, -1)
        for live, index in step.order:
            if index != -1:
                self._bootindex(live, index)

    def _bootindex(self, live: LiveDrive, index: int) -> None:
        self._qmp.execute("qom-set", {"path": live.path, "property": "bootindex", "value": index})

    def reopen(self, step: actions.ReopenImage) -> None:
        self._qmp.execute("blockdev-reopen", {"options": [step.tree()]})

    def grow(self, step: actions.GrowDrive) -> None:
        medium = t.cast(Medium, step.live.medium)
        if media.host_size(medium.file) != step.size:
            fact = "%s has got another size since it was looked at" % medium.file
            raise errors.FailedError(fact, reason="changed_meanwhile")
        self._qmp.execute("block_resize", {"node-name": medium.format_node, "size": step.size})


_OLD = {
    "bps": "bps-total",
    "bps_rd": "bps-read",
    "bps_wr": "bps-write",
    "iops": "iops-total",
    "iops_rd": "iops-read",
    "iops_wr": "iops-write",
}
_OLD_MORE = dict(
    {"iops_size": "iops-size"},
    **{old + end: new + end.replace("_", "-") for old, new in _OLD.items() for end in ("_max", "_max_length")},
)
_STEPS: t.Dict[type, t.Callable[..., None]] = {
    actions.ClearNodes: _Executor.clear,
    actions.UnplugDrive: _Executor.unplugged,
    actions.AddObject: _Executor.add_object,
    actions.AddNode: _Executor.add_node,
    actions.PlugController: _Executor.plug_controller,
    actions.PlugDrive: _Executor.plug,
    actions.ChangeMedium: _Executor.change_medium,
    actions.CloseTray: _Executor.close_tray,
    actions.SetGroupLimits: _Executor.group_limits,
    actions.ThrottleDevice: _Executor.throttle,
    actions.SetBootOrder: _Executor.boot_order,
    actions.ReopenImage: _Executor.reopen,
    actions.GrowDrive: _Executor.grow,
}


def _plain(limits: Options) -> t.Dict[str, t.Any]:
    return {name[len("limits.") :]: value for name, value in limits}


def _quietly(qmp: Qmp, command: str, arguments: t.Mapping[str, t.Any]) -> bool:
    """Whether QEMU did it."""
    try:
        qmp.execute(command, arguments)
    except errors.QmpCommandError:
        return False
    return True


def failed(reason: str, what: str, exc: errors.QmpCommandError, left: t.Sequence[str]) -> errors.FailedError:
    """C(left): what could not be removed again."""
    now = "These are left: %s." % ", ".join(left) if left else "What was made of it was removed again."
    text = "failed at: %s: %s. %s" % (what, exc.message.rstrip("."), now)
    return errors.FailedError(text, reason=reason, qmp_command=exc.command, left=list(left))
