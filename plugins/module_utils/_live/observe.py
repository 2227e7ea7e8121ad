# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Looks at the drives of a running QEMU. Read-only."""

from __future__ import annotations

import time
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import devices
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Drive,
    DrivesSpec,
    Object,
    Options,
    Scalar,
    sorted_options,
)
from ansible_collections.platter.qemu.plugins.module_utils._live import foretell, image, media, started
from ansible_collections.platter.qemu.plugins.module_utils._live.state import (
    LiveController,
    LiveDrive,
    LiveState,
    Medium,
    by_id,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import qmp_graph
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

_PERIPHERAL = "/machine/peripheral"
_ANONYMOUS = "/machine/peripheral-anon"
#: kinds that the machine makes of drives, by QEMU's names for them
_OF_THE_MACHINE = {"cfi.pflash01": "pflash", "cfi.pflash02": "pflash"}
_PORT = "pcie-root-port"
#: a device that was unplugged holds its drive for a moment after it has gone, and is no device then
_LEAVING_SECONDS = 5.0
_AGAIN_SECONDS = 0.05
#: kinds of objects that drives need
_OBJECTS = frozenset(("iothread", "secret", "throttle-group", "tls-creds-x509", "tls-creds-psk", "tls-creds-anon"))
_BACKEND_LIMITS = {
    "bps": "bps-total",
    "bps_rd": "bps-read",
    "bps_wr": "bps-write",
    "iops": "iops-total",
    "iops_rd": "iops-read",
    "iops_wr": "iops-write",
    "iops_size": "iops-size",
}


def observe(qmp: Qmp, wanted: DrivesSpec) -> LiveState:
    """All drives of the QEMU behind the session. Of each as much is asked as is compared with C(wanted).

    Raises QmpCommandError, QmpConnectError; RefusedError (managed_by_libvirt, job_not_dismissed).
    """
    start = started.of(qmp.peer_pids(), qmp.path)
    deadline = time.monotonic() + _LEAVING_SECONDS
    while True:
        state = _Observer(qmp, wanted, start).state()
        if time.monotonic() > deadline or not any(each.path and not each.device for each in state.drives):
            return state
        qmp.wait_event((), time.monotonic() + _AGAIN_SECONDS)


class _Observer:
    def __init__(self, qmp: Qmp, wanted: DrivesSpec, start: started.Started) -> None:
        self._qmp = qmp
        self._start = start
        self._media = media.Media(qmp_graph.look(qmp), self._start.directory)
        self._named = self._children(_PERIPHERAL)
        self._kinds = {"%s/%s" % (_PERIPHERAL, name): kind for name, kind in self._named.items()}
        self._spec = wanted
        self._plugged = {foretell.device_id(each): each for each in wanted.drives if each.frontend is not None}
        self._wanted = dict({each.id: each for each in wanted.drives}, **self._plugged)
        self._blocks = qmp.execute("query-block")
        self._known: t.Dict[t.Tuple[str, str], t.Any] = {}

    def state(self) -> LiveState:
        machine = devices.family(str(self._get("/machine", "type")).rsplit("-machine", 1)[0])
        self._ask([pair for told in self._blocks for pair in self._questions(told)])
        drives = by_id(self._drive(told) for told in self._blocks)
        return LiveState(
            machine,
            drives,
            tuple(self._controllers()),
            tuple(sorted(self._objects(), key=lambda each: each.id)),
            self._media.idle(),
            self._media.names,
            *self._ports(machine),
            shared=tuple(self._shared()),
            words=self._start.words,
            general=self._start.general,
        )

    def _controllers(self) -> t.Iterator[LiveController]:
        wanted = {each.id: each for each in self._spec.controllers}
        for name, kind in sorted(self._named.items()):
            if kind not in devices.CONTROLLERS:
                continue
            path, device = "%s/%s" % (_PERIPHERAL, name), wanted.get(name)
            if device is None or device.device != kind:
                yield LiveController(kind, name)
                continue
            asked = foretell.asked(device)
            self._ask([(path, each) for each in [*asked, *(["parent_bus"] if device.bus else [])]])
            told = {each: self._get(path, each) for each in asked}
            has = {each: foretell.normal(each, value) for each, value in told.items() if value is not None}
            bus = self._bus_path(path).rpartition("/")[2] if device.bus else ""
            yield LiveController(kind, name, sorted_options(has), bus)

    def _shared(self) -> t.Iterator[LiveDrive]:
        for each in foretell.apart(self._spec):
            if each.id in self._media.names:
                yield LiveDrive(each.id, medium=self._medium(each.id, self._start.drive(each.id)))

    def _children(self, path: str) -> t.Dict[str, str]:
        """The objects below one of QEMU's, and their kinds."""
        told = self._qmp.execute("qom-list", {"path": path})
        kinds = {each["name"]: each["type"] for each in told}
        return {name: kind[len("child<") : -1] for name, kind in kinds.items() if kind.startswith("child<")}

    def _ask(self, pairs: t.Iterable[t.Tuple[str, str]]) -> None:
        """Properties of objects, all at once."""
        asked = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        told = self._qmp.ask_all([("qom-get", {"path": path, "property": name}) for path, name in asked])
        self._known.update(zip(asked, told))

    def _get(self, path: str, name: str) -> t.Any:
        """A property; None where there is none, as of an object that has just gone."""
        if (path, name) not in self._known:
            self._ask([(path, name)])
        return self._known[path, name]

    def _questions(self, told: t.Mapping[str, t.Any]) -> t.Iterator[t.Tuple[str, str]]:
        """What will be asked about a drive."""
        path, wanted = self._place_of(told)
        if not path:
            return
        if path not in self._kinds:
            yield path, "type"
        yield from ((path, name) for name in self._asked(path, wanted))
        if wanted is None or (wanted.frontend is not None and wanted.frontend.bus):
            yield path, "parent_bus"
        if wanted is None:
            yield path, "hotpluggable"
        if self._first(told) is not None:
            yield path, "hotplugged"

    def _first(self, told: t.Mapping[str, t.Any]) -> t.Optional[Drive]:
        """The drive of that name that QEMU was started with."""
        node = str((told.get("inserted") or {}).get("node-name") or "")
        return self._start.drive(_device_of(str(told.get("qdev") or ""))[1], str(told.get("device") or ""), node)

    def _place_of(self, told: t.Mapping[str, t.Any]) -> t.Tuple[str, t.Optional[Drive]]:
        """(path of the device, the drive that is wanted there)."""
        path, name = _device_of(str(told.get("qdev") or ""))
        node = str((told.get("inserted") or {}).get("node-name") or "")
        names = (name, str(told.get("device") or ""), node)
        return path, next((self._wanted[each] for each in names if each in self._wanted), None)

    def _asked(self, path: str, wanted: t.Optional[Drive]) -> t.List[str]:
        """The properties that the wanted device has; of one that is not wanted, its iothread."""
        if wanted is not None and wanted.frontend is not None:
            return foretell.asked(wanted.frontend)
        return ["iothread"] if "virtio-blk" in self._kinds.get(path, "") else []

    def _drive(self, told: t.Mapping[str, t.Any]) -> LiveDrive:
        qdev, legacy = str(told.get("qdev") or ""), str(told.get("device") or "")
        inserted = told.get("inserted")
        node = str(inserted["node-name"]) if inserted else ""
        path, wanted = self._place_of(told)
        name = _device_of(qdev)[1]
        device = self._kind(path)
        first = self._first(told)
        if first is not None and path and self._get(path, "hotplugged") is not False:
            first = None
        drive_id = legacy or name or (node if not node.startswith("#") else "") or qdev
        return LiveDrive(
            drive_id,
            device,
            name,
            self._medium(node, first) if node else None,
            self._properties(path, wanted, inserted),
            _backend_limits(inserted or {}),
            str((inserted or {}).get("group") or ""),
            bool(inserted and told.get("tray_open")),
            bool(told.get("removable")),
            bus=self._bus(path, wanted),
            path=path,
            qdev=qdev,
            fixed=self._fixed(path, legacy, wanted),
            legacy=bool(legacy),
            first=first.frontend if first is not None else None,
            snapshot=first is not None and first.snapshot,
        )

    def _kind(self, path: str) -> str:
        if path and path not in self._kinds:
            self._kinds[path] = str(self._get(path, "type") or "")
        found = self._kinds.get(path, "")
        return _OF_THE_MACHINE.get(found, found)

    def _properties(self, path: str, wanted: t.Optional[Drive], inserted: t.Optional[t.Mapping[str, t.Any]]) -> Options:
        found: t.Dict[str, Scalar] = {}
        for name in self._asked(path, wanted) if path else ():
            value = self._get(path, name)
            if name == "write-cache" and value == "auto":
                value = None if inserted is None else "on" if inserted["cache"]["writeback"] else "off"
            if value is not None:
                found[name] = foretell.normal(name, value)
        return sorted_options(found)

    def _bus(self, path: str, wanted: t.Optional[Drive]) -> str:
        """What the device is plugged into, where the wanted one says a bus, or it may have to go."""
        asked = wanted is None or (wanted.frontend is not None and wanted.frontend.bus)
        return self._bus_path(path).rpartition("/")[2] if path and asked else ""

    def _bus_path(self, path: str) -> str:
        return str(self._get(path, "parent_bus") or "")

    def _fixed(self, path: str, legacy: str, wanted: t.Optional[Drive]) -> str:
        """Only of drives that may have to go."""
        if wanted is not None:
            return ""
        if not path:
            return "it was made by -drive, and no device uses it" if legacy else ""
        if not self._get(path, "hotpluggable") or not self._takes(self._bus_path(path)):
            return "a running QEMU gives up no %s in that place" % self._kind(path)
        return ""

    def _takes(self, bus: str) -> bool:
        """Whether devices come and go there while QEMU runs."""
        return bool(bus and self._get(bus, "hotplug-handler"))

    def _medium(self, node: str, first: t.Optional[Drive]) -> Medium:
        """With the mark of what QEMU was started with, where that is what it still has."""
        found = self._media.of(node)
        if found.mark or first is None or found.file != self._start.place(first):
            return found
        copying = found.copy_on_read or first.copy_on_read  # of -drive it is no node
        return replace(found, mark=image.mark(first), copy_on_read=copying)

    def _objects(self) -> t.Iterator[Object]:
        for name, kind in self._children("/objects").items():
            if kind == "throttle-group":
                limits = self._get("/objects/" + name, "limits") or {}
                yield Object(kind, name, foretell.limits(("limits." + key, value) for key, value in limits.items()))
            elif kind in _OBJECTS:
                wanted = self._spec.object(name)
                asked = foretell.asked_of(wanted) if wanted is not None and wanted.kind == kind else []
                self._ask([("/objects/" + name, each) for each in asked])
                told = {each: self._get("/objects/" + name, each) for each in asked}
                has = {each: foretell.text_of(value) for each, value in told.items() if value is not None}
                yield Object(kind, name, sorted_options(has))

    def _ports(self, machine: str) -> t.Tuple[t.Tuple[str, ...], t.FrozenSet[str]]:
        """(free ones, all), where something has to be plugged in: the bus of a port has its name."""
        ports = [name for name, kind in self._named.items() if kind == _PORT]
        controllers = [each.id for each in self._spec.controllers]
        if not ports or all(name in self._named for name in [*self._plugged, *controllers]):
            return (), frozenset(ports)
        paths = [*self._kinds, *("%s/%s" % (_ANONYMOUS, name) for name in self._children(_ANONYMOUS))]
        self._ask([(path, "parent_bus") for path in paths])
        taken = {self._bus_path(path).rpartition("/")[2] for path in paths}
        return tuple(sorted(set(ports) - taken)), frozenset(ports)


def _device_of(qdev: str) -> t.Tuple[str, str]:
    """(path, id) of the device that a part of it belongs to: virtio and USB have the drive in an inner one."""
    if not qdev:
        return "", ""
    if not qdev.startswith("/"):
        return "%s/%s" % (_PERIPHERAL, qdev), qdev
    parts = qdev.split("/")
    if qdev.startswith(_PERIPHERAL + "/"):
        return "/".join(parts[:4]), parts[3]
    return "/".join(parts[:4]) if parts[2] in ("peripheral-anon", "unattached") else qdev, ""


def _backend_limits(inserted: t.Mapping[str, t.Any]) -> Options:
    """What C(-drive) and C(block_set_io_throttle) have set."""
    has: t.Dict[str, Scalar] = {}
    for old, new in _BACKEND_LIMITS.items():
        has["limits." + new] = inserted.get(old)
        has["limits.%s-max" % new] = inserted.get(old + "_max")
        has["limits.%s-max-length" % new] = inserted.get(old + "_max_length")
    return foretell.limits(has.items())
