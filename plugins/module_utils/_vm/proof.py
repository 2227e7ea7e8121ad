# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What QEMU is told to prove that it takes the drives: without writing anything, and without running a guest. Pure.

Two QEMUs: one opens all nodes as a mere reader, beside whoever has the images open (C(read-only), C(force-share)); the
other has the machine and all devices, on stand-ins as long as the images, so that it needs no image at all.
"""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    boot,
    definitions,
    nodes,
    render_arguments,
    shares,
    stack,
    start_arguments,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import (
    Drive,
    DrivesSpec,
    Node,
    Options,
    sorted_options,
)
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition

#: no display, no network, no disk, no configuration but ours; a guest that never begins (C(-S))
BARE = ("-nodefaults", "-no-user-config", "-S", "-display", "none", "-accel", "tcg", "-accel", "kvm", "-qmp", "stdio")
#: drivers that take something for themselves, or write: these are not opened to be looked at
_NOT_OPENED_TEXT = (
    "nvme nvme-io_uring virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa blklogwrites copy-before-write"
    " replication blkreplay vvfat"
)
_NOT_OPENED = frozenset(_NOT_OPENED_TEXT.split())
#: devices that pass commands on to a real one, so that nothing can stand in for it
_NO_STAND_IN = frozenset(("scsi-block", "scsi-generic"))
#: bytes of a stand-in for what was not opened
_SOME_LENGTH = 1 << 30


class Question(t.NamedTuple):
    """A command of QMP. C(drive): what it is about."""

    drive: str
    command: str
    arguments: t.Dict[str, t.Any]


def not_opened(spec: DrivesSpec) -> t.List[str]:
    """The drives that no proof opens."""
    named = {node.name: node for node in spec.nodes}
    return [each.id for each in spec.drives if any(node.driver in _NOT_OPENED for node in _all_nodes(each, named))]


def _walk(drive: Drive) -> t.Iterator[Node]:
    return drive.backend.walk() if drive.backend is not None else iter(())


def _all_nodes(drive: Drive, named: t.Mapping[str, Node]) -> t.Iterator[Node]:
    for node in _walk(drive):
        yield node
        for _role, child in node.children:
            if isinstance(child, str) and child in named:
                yield from named[child].walk()


def known_to_qemu(spec: DrivesSpec) -> t.List[Question]:
    """What C(schema) and C(device-list-properties) are to be asked about: all objects, nodes and devices."""
    found = []
    for each in definitions.all_of(_with_formats(spec)):
        command = {"object": "object-add", "blockdev": "blockdev-add", "device": "device_add"}.get(each.kind)
        if command:
            found.append(Question(_drive_of(spec, each.told), command, each.told))
    return found + [Question(each.tag, "device_add", start_arguments.device_told(each)) for each in spec.shares]


def served(spec: DrivesSpec) -> t.List[str]:
    """The shares that no proof connects to: their servers take one VM each, and end with it."""
    return [each.tag for each in spec.shares if each.driver == shares.VIRTIOFS]


def besides(spec: DrivesSpec, memory: int) -> t.List[str]:
    """The arguments for what the VM starts with besides drives, of which all is only read. C(memory): bytes of it."""
    tried = tuple(each for each in spec.shares if each.driver == shares.NINE_P)
    shared = memory if spec.shared_memory else 0
    plain = [] if shared else ["-m", "%dk" % (memory >> 10)]
    return plain + start_arguments.words(replace(spec, shares=tried, shared_memory=shared))


def paths(spec: DrivesSpec) -> t.List[t.Tuple[str, str, bool]]:
    """Files and directories of the host that the VM starts with: (the tag of a share or the option of C(boot), the path, whether
    it is a share).
    """
    found = [(each.tag, each.source, True) for each in spec.shares if each.driver == shares.NINE_P]
    files = {} if spec.boot is None else boot.to_facts(spec.boot)
    return found + [(name, files[name], False) for name in ("kernel", "initrd") if name in files]


def opening(spec: DrivesSpec, opened: t.Collection[str] = ()) -> t.List[Question]:
    """The commands that open all nodes as a reader, those that need each other in order. C(opened): drives without which that
    is to be, unless others name their nodes.
    """
    named = {child for node in spec.all_nodes() for _role, child in node.children if isinstance(child, str)}
    free = (each for each in spec.drives if each.backend is not None and each.id in opened)
    left_out = {each.id for each in free if not named & {each.id, *(node.name for node in _walk(each))}}
    left_out |= set(not_opened(spec))
    drives = tuple(_as_reader(each) for each in _with_formats(spec).drives if each.id not in left_out)
    nodes = tuple(_node_as_reader(each) for each in spec.nodes if each.driver not in _NOT_OPENED)
    objects = tuple(each for each in spec.objects if each.kind != "iothread")
    asked = replace(spec, drives=drives, nodes=nodes, objects=objects, controllers=())
    commands = {"object": "object-add", "blockdev": "blockdev-add"}
    return [
        Question(_drive_of(spec, each.told), commands[each.kind], each.told)
        for each in definitions.all_of(asked)
        if each.kind in commands
    ]


def _with_formats(spec: DrivesSpec) -> DrivesSpec:
    """Where QEMU is left to guess (C(-hda)), raw has to do."""
    drives = tuple(
        replace(each, backend=replace(each.backend, driver="raw"))
        if each.backend is not None and not each.backend.driver
        else each
        for each in spec.drives
    )
    return replace(spec, drives=drives)


def _drive_of(spec: DrivesSpec, told: t.Mapping[str, t.Any]) -> str:
    name = str(told.get("node-name") or told.get("id") or "")
    for each in spec.drives:
        graph = stack.graph(each)
        own = {node.name for node in graph.walk()} if graph is not None else set()
        own |= {each.frontend.id} if each.frontend is not None else set()
        if name in own | {each.id + "-secret"}:
            return each.id
    return name


def _as_reader(drive: Drive) -> Drive:
    node = drive.backend
    return replace(
        drive,
        backend=None if node is None else _node_as_reader(node),
        frontend=None,
        copy_on_read=False,
        snapshot=False,
    )


def _node_as_reader(node: Node) -> Node:
    """A filter that copies what is read would write."""
    below = node.child("file")
    if node.driver == "copy-on-read" and isinstance(below, Node):
        return _node_as_reader(replace(below, name=node.name, separate=node.separate))
    children = tuple((role, _node_as_reader(each) if isinstance(each, Node) else each) for role, each in node.children)
    options = dict(node.options, **{"read-only": True, "force-share": True})
    options.pop("auto-read-only", None)
    return replace(node, options=sorted_options(options), children=children)


def stand_ins(spec: DrivesSpec, lengths: t.Mapping[str, int]) -> t.Tuple[DrivesSpec, t.List[str]]:
    """The drives with nothing behind them; and those that cannot be so. C(lengths): bytes of each drive."""
    left_out = [each.id for each in spec.drives if each.frontend is None or each.frontend.device in _NO_STAND_IN]
    drives = tuple(_stand_in(each, lengths) for each in spec.drives if each.id not in left_out)
    objects = tuple(each for each in spec.objects if each.kind in ("iothread", "secret"))
    skipped = [each.id for each in spec.drives if each.frontend is not None and each.id in left_out]
    return replace(spec, drives=drives, nodes=(), objects=objects), skipped


def _stand_in(drive: Drive, lengths: t.Mapping[str, int]) -> Drive:
    if drive.backend is None:
        return drive
    options: t.Dict[str, t.Any] = {"size": lengths.get(drive.id, _SOME_LENGTH), "read-zeroes": True}
    if nodes.format_node(drive.backend).option("read-only") is True:
        options["read-only"] = True
    made: Options = sorted_options(options)
    return replace(drive, backend=Node("null-co", made), throttle="", copy_on_read=False, snapshot=False)


def words(spec: DrivesSpec, style: str) -> t.List[str]:
    """The arguments for stand-ins; in another style where C(style) has no words for them."""
    ways = {
        "drive": render_arguments.drive,
        "hda": render_arguments.drive,
        "drive_device": render_arguments.drive_device,
    }
    try:
        return ways.get(style, render_arguments.blockdev)(spec)
    except render_arguments.CannotSayError:
        return render_arguments.blockdev(spec)


def bridges(arguments: t.Sequence[str], spec: DrivesSpec) -> t.List[str]:
    """Those of a VM's other arguments that make buses which its drives and controllers are on."""
    offered = definition.devices_in(arguments)
    frontends = [each.frontend for each in spec.drives if each.frontend is not None]
    frontends += [each.frontend for each in spec.shares]
    wanted = [each.bus for each in (*frontends, *spec.controllers)]
    found: t.List[str] = []
    while wanted:
        bus = wanted.pop()
        device = offered.pop(bus, None) or offered.pop(bus.rpartition(".")[0], None)
        if device is not None:
            found = ["-device", device[0], *found]
            wanted.append(device[1])
    return found
