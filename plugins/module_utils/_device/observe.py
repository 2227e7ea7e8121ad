# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of a device: what the kernel has attached, by its mark, and the source of the task. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._device import places, plan, state
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import identity
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device, files, loop_device

#: a header that is read by another name too: C(crypt_LUKS) among the signatures
_NO_CONTENT = ("raw", "luks")


class Ground(t.NamedTuple):
    """What is read once for all devices of a look."""

    loops: t.Sequence[loop_device.Loop]


def ground() -> Ground:
    """As it is now."""
    return Ground(loop_device.attached())


def marked(mark: str, now: Ground) -> t.List[loop_device.Loop]:
    """The devices that are called so."""
    return [loop for loop in now.loops if loop.mark == mark]


def observe(spec: DeviceSpec, now: Ground) -> t.Tuple[state.DeviceState, state.DeviceReading]:
    """The state and the reading of one device."""
    reading = _about_source(spec)
    found = marked(spec.mark, now)
    if not found:
        here = state.DeviceState(spec.name, linked=bool(places.led_to(spec.name)))
    else:
        loop = found[0]
        name = block_device.name_of(loop.path)
        reading = replace(
            reading,
            paths=tuple(each.path for each in found),
            backing=block_device.text(name, "loop/backing_file"),
            partitions=tuple(_partitions(name)),
        )
        here = state.DeviceState(spec.name, _attached(spec, loop, reading), places.led_to(spec.name) == loop.path)
    if spec.state == "present" and reading.kind in ("file", "block") and plan.must_attach(spec, here, reading):
        reading = replace(reading, contents=_contents(spec, reading), taken=_taken(spec, now))
    return here, reading


def _attached(spec: DeviceSpec, loop: loop_device.Loop, reading: state.DeviceReading) -> state.Attached:
    name = block_device.name_of(loop.path)
    sector = block_device.number(name, "queue/logical_block_size")
    return state.Attached(
        kind="loop",
        source=reading.target if _is_of(loop, reading.target) else reading.backing,
        format="raw",
        offset=loop.offset,
        limit=loop.limit,
        length=block_device.length(name),
        read_only=block_device.text(name, "ro") == "1",
        direct_io=block_device.text(name, "loop/dio") == "1",
        sector_size=sector if spec.sector_size is not None else None,
        device=loop.path if spec.device != "auto" else "",
    )


def _is_of(loop: loop_device.Loop, path: str) -> bool:
    """Whether what is attached is the file or device C(path)."""
    try:
        seen = os.stat(path)
    except OSError:
        return False
    if loop.rdevice:
        return loop.rdevice == seen.st_rdev
    return (loop.device, loop.inode) == (seen.st_dev, seen.st_ino)


def _partitions(name: str) -> t.Iterator[state.Partition]:
    for part in block_device.parts(name):
        yield state.Partition(part.number, "/dev/" + part.name, part.start, part.size)


def _taken(spec: DeviceSpec, now: Ground) -> str:
    """What is attached to the device that is asked for, if that is none of ours of this name."""
    other = next((loop for loop in now.loops if loop.path == spec.device and loop.mark != spec.mark), None)
    return block_device.text(block_device.name_of(spec.device), "loop/backing_file") if other else ""


def _about_source(spec: DeviceSpec) -> state.DeviceReading:
    if spec.source is None:
        return state.DeviceReading()
    if spec.state != "present":
        return state.DeviceReading(target=os.path.realpath(spec.source))
    facts = files.file_facts(resolve_target(spec.source), follow=False)
    return state.DeviceReading(target=facts.path, kind=facts.kind, stamp=facts.stamp, length=facts.length)


def _contents(spec: DeviceSpec, reading: state.DeviceReading) -> t.Tuple[state.Content, ...]:
    """What is recognised in the part of the disk that is to be attached."""
    with files.FileReader(reading.target, follow=False) as reader:
        if reader.identity != reading.stamp[:2]:
            raise errors.EngineError("%s was replaced while it was looked at" % reading.target)
        seen = identity.identity_of(identity.Window(reader, spec.offset, plan.length_of(spec, reading)))
    found = [
        state.Content(each["type"], each["uuid"] or "", words.printable(each["label"] or ""))
        for each in seen["signatures"]
    ]
    return (*found, *(state.Content(name) for name in seen["formats"] if name not in _NO_CONTENT))
