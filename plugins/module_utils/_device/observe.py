# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of a device: what the kernel has attached, by its mark, and what serves it. Read-only.

Nothing here asks a server of ours anything, as it may have been stopped.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._device import definition, places, plan, source, state
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import mounts
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    block_device,
    connection,
    loop_device,
    nbd_kernel,
    process,
    processes,
    unix_sockets,
)


class Ground(t.NamedTuple):
    """What is read once for all devices of a look. C(servers): command lines by process number; C(programs): the
    servers that are installed, by name, and where they are.
    """

    run: process.RunCommand
    programs: t.Mapping[str, t.Optional[str]]
    loops: t.Sequence[loop_device.Loop]
    servers: t.Mapping[int, t.Tuple[str, ...]]


def ground(run: process.RunCommand, programs: t.Mapping[str, t.Optional[str]]) -> Ground:
    """As it is now."""
    return Ground(run, programs, loop_device.attached(), servers())


def servers() -> t.Dict[int, t.Tuple[str, ...]]:
    """The command lines of all servers of devices."""
    if not os.path.isdir(loop_device.served_directory()):  # none has been started since the host was
        return {}
    table = processes.own_processes()
    return {pid: argv for pid, argv in table.items() if os.path.basename(argv[0]) == definition.PROGRAM}


def servers_of(name: str, table: t.Mapping[int, t.Tuple[str, ...]]) -> t.List[int]:
    """Those of one device."""
    mark = ("--pidfile", definition.pid_file(places.directory_of(name)))
    return sorted(pid for pid, argv in table.items() if mark in zip(argv, argv[1:]))


def found(spec: DeviceSpec, loops: t.Sequence[loop_device.Loop]) -> t.List[str]:
    """The paths of the kernel's devices that are this one."""
    connected = [path for path, mark in nbd_kernel.marks().items() if mark.split(" ")[0] == spec.mark]
    return [loop.path for loop in loops if loop.mark == spec.mark] + served(spec.name) + connected


def served(name: str) -> t.List[str]:
    """The paths of the devices on the file that a server of ours shows."""
    file = definition.disk_file(places.directory_of(name))
    return ["/dev/" + each for each in loop_device.on_files() if loop_device.backing(each) == file]


def observe(spec: DeviceSpec, now: Ground) -> t.Tuple[state.DeviceState, state.DeviceReading]:
    """The state and the reading of one device."""
    reading = _about_server(spec, now, source.look(spec))
    paths = found(spec, now.loops)
    if paths:
        name = block_device.name_of(paths[0])
        reading = replace(
            reading,
            paths=tuple(paths),
            backing=loop_device.backing(name),
            partitions=tuple(_partitions(name)),
        )
        linked = places.led_to(spec.name) == paths[0]
        here = state.DeviceState(spec.name, _attached(spec, paths[0], reading, now), linked)
    else:
        left = bool(reading.servers) or os.path.isdir(reading.directory)
        here = state.DeviceState(spec.name, linked=bool(places.led_to(spec.name)), left=left)
    if spec.state != "present":
        return here, reading
    reading = _with_kind(spec, here, reading, now)
    if plan.must_attach(spec, here, reading):
        return here, source.look_closely(spec, here, replace(reading, taken=_taken(spec, now)), now.run)
    return here, source.unchanged(spec, here, reading)


def _with_kind(
    spec: DeviceSpec, here: state.DeviceState, reading: state.DeviceReading, now: Ground
) -> state.DeviceReading:
    asked: t.List[bool] = []

    def kernel_nbd() -> bool:
        asked.append(nbd_kernel.is_there(now.run))
        return asked[0]

    how = plan.kind_of(spec, here.attached.kind if here.attached else "", kernel_nbd)
    return replace(reading, how=how, nbd=how == "nbd" and (asked[0] if asked else kernel_nbd()))


def _about_server(spec: DeviceSpec, now: Ground, reading: state.DeviceReading) -> state.DeviceReading:
    pids = servers_of(spec.name, now.servers)
    return replace(
        reading,
        servers=tuple(pids),
        stopped=any(processes.is_stopped(pid) for pid in pids),
        directory=places.directory_of(spec.name),
        program=now.programs.get(definition.PROGRAM) or "",
        fuse=os.path.exists("/dev/fuse"),
    )


def _attached(spec: DeviceSpec, path: str, reading: state.DeviceReading, now: Ground) -> state.Attached:
    name = block_device.name_of(path)
    if name.startswith("nbd"):
        return _by_nbd(spec, path, reading, now)
    sector = block_device.number(name, "queue/logical_block_size")
    here = state.Attached(
        kind="loop",
        source=reading.target if _is_of(path, reading.target, now) else reading.backing,
        format="raw",
        offset=block_device.number(name, "loop/offset"),
        limit=block_device.number(name, "loop/sizelimit"),
        length=block_device.length(name),
        read_only=block_device.text(name, "ro") == "1",
        direct_io=block_device.text(name, "loop/dio") == "1",
        sector_size=sector if spec.sector_size is not None else None,
        device=path if spec.device != "auto" else "",
    )
    return _by_server(here, reading, now) if path in served(spec.name) else here


def _by_server(here: state.Attached, reading: state.DeviceReading, now: Ground) -> state.Attached:
    """A device on the file of a server: what its command line says."""
    argv = now.servers[reading.servers[0]] if reading.servers else ()
    shown = definition.parse(argv)
    mounted = any(each.mount_point == reading.backing for each in mounts.read_mounts())
    if shown is None or not mounted or not _reaches(shown, reading, 1):
        return replace(here, kind="fuse", alive=False)
    return replace(
        here, kind="fuse", source=shown.source, format=shown.format, direct_io=shown.direct_io, argv=tuple(argv)
    )


def _by_nbd(spec: DeviceSpec, path: str, reading: state.DeviceReading, now: Ground) -> state.Attached:
    """A device of the kernel's NBD client: by what our server says, or by the URI in its mark where it needs none."""
    name = block_device.name_of(path)
    _mark, _space, rest = nbd_kernel.marks().get(path, "").partition(" ")
    connected, _space, uri = rest.partition(" ")
    number, _colon, seconds = connected.partition(":")
    argv = now.servers[reading.servers[0]] if reading.servers and not uri else ()
    shown = definition.Served(uri, "raw", False, False) if uri else definition.parse(argv)
    sector = block_device.number(name, "queue/logical_block_size")
    return state.Attached(
        kind="nbd",
        source=shown.source if shown else path,
        format=shown.format if shown else "",
        offset=shown.offset if shown else 0,
        limit=shown.limit if shown else 0,
        length=block_device.length(name),
        read_only=block_device.text(name, "ro") == "1",
        direct_io=bool(shown and shown.direct_io),
        sector_size=sector if spec.sector_size is not None else None,
        device=path if spec.device != "auto" else "",
        argv=tuple(argv),
        io_timeout=int(seconds) if seconds.isdigit() else 0,
        alive=shown is not None
        and number.isdigit()
        and connection.is_open(int(number))
        and (bool(uri) or _reaches(shown, reading, 2)),
    )


def _reaches(shown: definition.Served, reading: state.DeviceReading, least: int) -> bool:
    """Whether our server has its connection to the server of an export. C(least): connections that it has then, with that of
    the kernel to it.
    """
    if "://" not in shown.source:
        return True
    numbers = unix_sockets.sockets_of(reading.servers[:1])
    return sum(connection.is_open(number) for number in numbers) >= least


def _is_of(path: str, file: str, now: Ground) -> bool:
    """Whether what is attached to the device is the file or device C(file)."""
    loop = next((loop for loop in now.loops if loop.path == path), None)
    try:
        seen = os.stat(file)
    except OSError:
        return False
    if loop is None:
        return False
    if loop.rdevice:
        return loop.rdevice == seen.st_rdev
    return (loop.device, loop.inode) == (seen.st_dev, seen.st_ino)


def _partitions(name: str) -> t.Iterator[state.Partition]:
    for part in block_device.parts(name):
        yield state.Partition(part.number, "/dev/" + part.name, part.start, part.size)


def _taken(spec: DeviceSpec, now: Ground) -> str:
    """What is attached to the device that is asked for, if that is none of ours of this name."""
    if spec.device == "auto" or spec.device in found(spec, now.loops):
        return ""
    name = block_device.name_of(spec.device)
    return loop_device.backing(name) or block_device.text(name, "backend") or block_device.text(name, "pid")
