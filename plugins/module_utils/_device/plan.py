# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of one device. Pure; what must not be done is refused here."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._device import actions, definition, refuse
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec
from ansible_collections.platter.qemu.plugins.module_utils._device.state import Attached, DeviceReading, DeviceState

Plan = t.List[Action[DeviceState]]
_SECTOR = 512


def is_plain(spec: DeviceSpec) -> bool:
    """Whether it is an image that the kernel reads by itself."""
    return spec.address is None and spec.format == "raw"


def kind_of(spec: DeviceSpec, now: str, kernel_nbd: t.Callable[[], bool]) -> str:
    """How the disk comes to the kernel: C(loop), by itself; C(nbd), by the kernel's own NBD client; C(fuse), by a file that
    a server shows, where the kernel has no such client. C(now): how it is attached; that stays if it is left to us.
    """
    if spec.device.startswith("/dev/nbd") or (spec.device == "auto" and now == "nbd"):
        return "nbd"
    if is_plain(spec):
        return "loop"
    if spec.device != "auto" or now == "fuse":
        return "fuse"
    return "nbd" if kernel_nbd() else "fuse"


def wanted(spec: DeviceSpec, reading: DeviceReading) -> Attached:
    """How the disk is to be attached."""
    argv = definition.argv_of(spec, ground_of(reading), reading.how)
    return Attached(
        kind=reading.how,
        source=reading.target,
        format=str(spec.format),
        offset=spec.offset,
        limit=spec.size or 0,
        length=length_of(spec, reading),
        read_only=spec.read_only,
        direct_io=spec.direct_io,
        sector_size=spec.sector_size,
        device="" if spec.device == "auto" else spec.device,
        argv=argv,
        io_timeout=spec.io_timeout,
    )


def ground_of(reading: DeviceReading) -> definition.Ground:
    """What a server is started on."""
    return definition.Ground(reading.target, reading.block, reading.program, reading.directory)


def length_of(spec: DeviceSpec, reading: DeviceReading) -> int:
    """Bytes that the device is to have: whole sectors."""
    rest = max(reading.length - spec.offset, 0)
    return min(rest, spec.size or rest) // _SECTOR * _SECTOR


def must_attach(spec: DeviceSpec, state: DeviceState, reading: DeviceReading) -> bool:
    """Whether what is attached is not what is asked, apart from its length."""
    if state.attached is None:
        return True
    asked = wanted(spec, reading)
    return replace(state.attached, length=asked.length) != asked


def plan_device(spec: DeviceSpec, state: DeviceState, reading: DeviceReading, link: str) -> Plan:
    """The steps to what C(spec) asks. C(link): where the link of its name is."""
    refuse.refuse_other_source(spec, state, reading)
    if spec.state == "absent":
        return _plan_absent(spec, state, reading, link)
    refuse.refuse_bad_source(spec, reading)
    refuse.refuse_io_timeout(spec, reading)
    if must_attach(spec, state, reading):
        refuse.refuse_stopped(spec, reading)
    asked = wanted(spec, reading)
    refuse.refuse_window(spec, asked.length, reading)
    plan: Plan = []
    if state.left:
        plan.append(actions.EndServer(spec.name))
    if must_attach(spec, state, reading):
        refuse.refuse_taken(spec, reading)
        refuse.refuse_unable(spec, asked, reading)
        refuse.refuse_content(spec, asked.length, reading)
        if state.attached is not None:
            why = _why(state.attached, asked)
            plan.append(actions.DetachDevice(spec.name, state.attached.source, why))
        plan.append(actions.AttachDevice(spec.name, asked))
    elif state.attached is not None and state.attached.length != asked.length:
        plan.append(actions.TakeLength(spec.name, asked.length))
    if not state.linked or must_attach(spec, state, reading):
        plan.append(actions.LinkDevice(spec.name, link))
    return plan


def _plan_absent(spec: DeviceSpec, state: DeviceState, reading: DeviceReading, link: str) -> Plan:
    if state.attached is not None:
        refuse.refuse_stopped(spec, reading)
        return [actions.DetachDevice(spec.name, state.attached.source)]
    plan: Plan = [actions.EndServer(spec.name)] if state.left else []
    return [*plan, actions.RemoveLink(spec.name, link)] if state.linked else plan


_CALLED = {"limit": "size", "argv": "command line of the server"}


def _why(now: Attached, asked: Attached) -> str:
    """The option by which they differ first."""
    if not now.alive:
        return "its server has ended"
    names = (
        "source",
        "format",
        "kind",
        "offset",
        "limit",
        "read_only",
        "direct_io",
        "sector_size",
        "device",
        "io_timeout",
        "argv",
    )
    found = next((name for name in names if getattr(now, name) != getattr(asked, name)), "device")
    return "another %s is asked" % _CALLED.get(found, found)
