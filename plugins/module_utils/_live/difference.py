# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""How a drive of a running QEMU differs from what is wanted, and what can be done about it while it runs. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec, Object
from ansible_collections.platter.qemu.plugins.module_utils._live import foretell, image
from ansible_collections.platter.qemu.plugins.module_utils._live.state import (
    LiveController,
    LiveDrive,
    LiveState,
    Medium,
)

#: what can be done: C(medium) (change it), C(options) (open the image again), C(throttle), C(group), C(bootindex); or nothing
RESTART = "restart"
#: a difference that is no fault: a snapshot has put a layer on the image
LAYER = "layer"
_AS_MADE = "QEMU sets it when the device is made"
#: where nothing is said of them, they can be as they were: QEMU or a machine chooses
_PLACES = ("addr", "unit", "index", "scsi-id", "lun", "channel", "port", "drive-type", "attached")
_LAYERED = (
    "the VM writes to %s, an overlay of the declared image, and would damage that by writing to the image: set image.path to"
    " the active overlay before the next start"
)


class Difference(t.NamedTuple):
    """C(what): an option, or what the drive has. C(way): one of the above. C(why): a sentence about the next start."""

    what: str
    live: t.Any
    declared: t.Any
    way: str
    why: str = ""


def found(wanted: Drive, live: LiveDrive, spec: DrivesSpec, state: LiveState) -> t.List[Difference]:
    """All of them; empty where the drive is as it is wanted, as far as QEMU tells."""
    device = wanted.frontend
    declared = device.device if device is not None else ""
    if declared != live.device:
        return [_restart("device", live.device, declared, "a running guest keeps its device")]
    differences = list(_of_device(device, live)) if device is not None else []
    if device is not None and live.device_id and live.device_id != foretell.device_id(wanted):
        differences.append(_restart("device_id", live.device_id, foretell.device_id(wanted), _AS_MADE))
    differences += _of_medium(wanted, live)
    if wanted.backend is not None and live.medium is not None:
        differences += _of_throttle(wanted, live, spec, state)
    return differences


def _restart(what: str, live: t.Any, declared: t.Any, why: str) -> Difference:
    return Difference(what, live, declared, RESTART, why)


def of_controller(device: Device, live: LiveController) -> t.List[Difference]:
    """Of a controller and the one of its id that is there."""
    if device.device != live.device:
        return [_restart("controller", live.device, device.device, "a running guest keeps its controllers")]
    return list(_of_device(device, live))


def of_object(wanted: Object, live: Object) -> t.List[Difference]:
    """Of an object and the one of its id that is there; limits of a throttle group are compared elsewhere."""
    if wanted.kind != live.kind:
        return [_restart("object", live.kind, wanted.kind, "what uses it keeps it")]
    if wanted.kind == "throttle-group":
        return []
    has, declared = dict(live.properties), dict(foretell.live_object(wanted).properties)
    why = "QEMU reads it when the object is made"
    return [_restart(name, has[name], value, why) for name, value in declared.items() if has.get(name, value) != value]


def unused(wanted: Object) -> Difference:
    """Of an object that is not there."""
    return _restart("object", None, wanted.kind, "no drive needs it, and a running QEMU is given only what one needs")


def of_node(wanted: Drive, live: LiveDrive) -> t.List[Difference]:
    """Of a node that drives share, as C(LiveState.shared) has it: nothing of it is changed while they use it."""
    why = "drives are on it"
    return [each._replace(way=RESTART, why=each.why or why) for each in _of_medium(wanted, live)]


def _of_device(device: Device, live: t.Union[LiveDrive, LiveController]) -> t.Iterator[Difference]:
    if device.bus and live.bus and device.bus != live.bus:
        yield _restart("bus", live.bus, device.bus, "a device stays where it was plugged in")
    has = dict(live.properties)
    for name, declared in foretell.properties_of(device):
        if name not in has or has[name] == declared:
            continue
        if name == "bootindex":
            yield Difference(name, has[name], declared, "bootindex")
        else:
            yield _restart(name, has[name], declared, _AS_MADE)
    if isinstance(live, LiveDrive) and live.first is not None and live.first.device == device.device:
        compared = {name for name in foretell.asked(device) if name in has}
        yield from _since_the_start(device, live.first, compared)


def _since_the_start(device: Device, first: Device, compared: t.Container[str]) -> t.Iterator[Difference]:
    """Of what QEMU does not tell, or was not asked. C(first): the device as it was started with it."""
    before, after = dict(first.properties), dict(device.properties)
    for name in sorted({*before, *after}):
        if name in compared or (name not in after and name in _PLACES):
            continue
        has, declared = (None if name not in each else foretell.normal(name, each[name]) for each in (before, after))
        if has != declared:
            yield _restart(name, has, declared, _AS_MADE)


def _of_medium(wanted: Drive, live: LiveDrive) -> t.Iterator[Difference]:
    want, have = foretell.medium(wanted), live.medium
    if want is None or have is None:
        if want is not have:
            yield _other_image(wanted, live, want.file if want else None, have.file if have else None)
        return
    if wanted.snapshot != live.snapshot:
        yield _restart("snapshot", live.snapshot, wanted.snapshot, "snapshot is an option of -drive only")
        return
    same = _same_place(want.file, have.file)
    if not same and any(_same_place(want.file, each) for each in have.below):
        if not wanted.snapshot:
            yield Difference("image", have.file, want.file, LAYER, _LAYERED % have.file)
        return
    if want.file and have.file and not same:
        yield _other_image(wanted, live, want.file, have.file)
    elif want.driver and want.driver != have.driver:
        yield _other_image(wanted, live, want.driver, have.driver)
    else:
        yield from _of_options(wanted, want, have)


def _same_place(declared: str, has: str) -> bool:
    """A relative name is one in the directory that QEMU was started in, as C(has) says."""
    relative = declared and not declared.startswith(("/", "["))
    return declared == has or bool(relative and has.endswith("/" + declared[declared.startswith("./") * 2 :]))


def _other_image(wanted: Drive, live: LiveDrive, declared: t.Any, has: t.Any) -> Difference:
    if live.removable and not wanted.snapshot:
        return Difference("image", has, declared, "medium")
    return _restart("image", has, declared, "a guest keeps the disk that it has")


def _of_options(wanted: Drive, want: Medium, have: Medium) -> t.Iterator[Difference]:
    declared, has = dict(want.options), dict(have.options)
    others = have.mark and image.mark(wanted) != have.mark
    for name, default in image.SHOWN.items():
        pair = has.get(name, default), declared.get(name, default)
        if pair[0] == pair[1] or (name == "read-only" and read_only_by_itself(wanted)):
            continue
        if name in image.REOPENED and others:
            yield _restart(name, *pair, why="to open the image again would change other options with it")
        elif name in image.REOPENED and have.format_node.startswith("#"):
            yield _restart(name, *pair, why="QEMU opens no image again whose node has no name, as that of -drive")
        elif name in image.REOPENED and have.format_node:
            yield Difference(name, *pair, way="options")
        else:
            yield _restart(name, *pair, why="the device has taken it over when it was made")
    if want.copy_on_read != have.copy_on_read:
        yield _restart("copy_on_read", have.copy_on_read, want.copy_on_read, "QEMU puts filters under no device in use")
    if others:
        why = "QEMU reads such options of nodes when it opens them, and shows none of them"
        yield _restart("options", "others", "those of its nodes", why)


def read_only_by_itself(wanted: Drive) -> bool:
    """C(auto-read-only) lets QEMU decide."""
    return wanted.backend is not None and any(node.option("auto-read-only") for node in wanted.backend.walk())


def _of_throttle(wanted: Drive, live: LiveDrive, spec: DrivesSpec, state: LiveState) -> t.Iterator[Difference]:
    group = spec.object(wanted.throttle) if wanted.throttle else None
    declared = foretell.limits(group.properties) if group is not None else ()
    filtered = live.medium.group if live.medium is not None else ""
    if filtered:
        yield from _of_filter(wanted, filtered, spec, state)
    elif declared != live.limits or (declared and wanted.throttle != live.group):
        way = "throttle" if live.qdev else RESTART
        yield Difference(
            "throttle", dict(live.limits), dict(declared), way, "no device uses it" if way == RESTART else ""
        )


def _of_filter(wanted: Drive, filtered: str, spec: DrivesSpec, state: LiveState) -> t.Iterator[Difference]:
    """A filter stays. Limits of its group that is wanted are compared with those of the group, not here."""
    if wanted.throttle == filtered:
        return
    known = state.object(filtered)
    if wanted.throttle or spec.object(filtered) is not None:
        yield _restart("throttle", filtered, wanted.throttle or None, "its filter stays in the group that it is in")
    elif known is not None and known.properties:
        yield Difference("throttle", dict(known.properties), {}, "group")


def grown(wanted: Drive, live: LiveDrive) -> int:
    """The size in bytes of a raw image that has grown outside of QEMU; else 0.

    C(block_resize) makes the file as long as it is told: less than there is would cut off what is behind it.
    """
    have = live.medium
    if have is None or wanted.backend is None or have.driver != "raw" or live.removable:
        return 0
    top = nodes.format_node(wanted.backend)
    size = have.host_size
    whole = top.option("offset") is None and top.option("size") is None
    writable = not dict(have.options).get("read-only")
    return size if whole and writable and size % 512 == 0 and size > have.size > 0 else 0


def no_objects(
    wanted: DrivesSpec, state: LiveState, known: t.Mapping[str, LiveDrive]
) -> t.Iterator[t.Tuple[Object, t.List[LiveDrive]]]:
    """Groups that a drive comes into and another one is in already, or is to be, by C(block_set_io_throttle); with those.

    QEMU makes no object of a name that such a group has; but drives can come so into the group of an object. C(known): the
    wanted drives that are there.
    """
    coming = {each.throttle for each in wanted.drives if each.id not in known}
    staying = {each.throttle for each in wanted.drives if each.id in known}
    own = {live.id for live in known.values()}
    for each in wanted.objects:
        members = [live for live in state.drives if live.group == each.id]
        needed = each.id in coming and (members or each.id in staying) and state.object(each.id) is None
        if needed and all(live.id in own and live.qdev for live in members):
            yield each, members
