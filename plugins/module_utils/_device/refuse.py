# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals that a plan for a device can come to, each with its evidence and one way out. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import NOTHING, DeviceSpec
from ansible_collections.platter.qemu.plugins.module_utils._device.state import (
    Attached,
    Content,
    DeviceReading,
    DeviceState,
)

Evidence = t.Optional[t.Mapping[str, t.Any]]
#: these lead to nothing by themselves, as long as nobody writes
_TABLES = ("gpt", "dos")


def refused(spec: DeviceSpec, reason: str, fact: str, way_out: str, evidence: Evidence = None) -> errors.RefusedError:
    """A refusal of what C(spec) asks."""
    return errors.refused_state("device", spec.state, spec.name, reason, fact, way_out, evidence)


def refuse_other_source(spec: DeviceSpec, state: DeviceState, reading: DeviceReading) -> None:
    """A name that was only made from the source's is not enough to take a device of another source away."""
    if state.attached is None or spec.source is None or state.attached.source == reading.target:
        return
    if (spec.state == "present" and spec.named) or not state.attached.alive:
        return
    if state.attached.source == reading.target + " (deleted)":
        return
    raise refused(
        spec,
        "name_taken",
        "the device of that name is %s" % state.attached.source,
        "Set name to another one." if spec.state == "present" else "Set name alone, if that one is to go.",
        {"source": state.attached.source, "device": list(reading.paths)},
    )


def refuse_bad_source(spec: DeviceSpec, reading: DeviceReading) -> None:
    """The image must be there."""
    if reading.kind == "absent":
        fact = "its source %s does not exist" % spec.source
        raise refused(spec, "image_missing", fact, "Make it first (disk_image), or correct source.")
    if reading.kind not in ("file", "block", "export"):
        raise refused(spec, "not_a_file", "%s is a %s" % (spec.source, reading.kind), "Name an image.")
    if reading.problem:
        raise refused(spec, *reading.problem)


def refuse_window(spec: DeviceSpec, length: int, reading: DeviceReading) -> None:
    """What is asked of the disk must be in it."""
    if length < (spec.size or 512):
        end = spec.offset + (spec.size or 512)
        fact = "offset and size reach to byte %d of %s, which has %d" % (end, spec.source, reading.length)
        raise refused(spec, "bad_size", fact, "Correct them.", {"virtual_size": reading.length})


def refuse_taken(spec: DeviceSpec, reading: DeviceReading) -> None:
    """The device that is asked for must be free."""
    if reading.taken:
        fact = "%s is that of %s" % (spec.device, reading.taken)
        raise refused(spec, "device_taken", fact, "Set device: auto, or name a free one.", {"source": reading.taken})


def refuse_unable(spec: DeviceSpec, asked: Attached, reading: DeviceReading) -> None:
    """What a server needs must be there."""
    if asked.kind == "nbd" and not reading.nbd:
        fact = "the kernel of this host has no NBD, or is older than Linux 5.14"
        raise refused(spec, "devices_unsupported", fact, "Set device: auto.")
    if asked.argv and not reading.program:
        way_out = "Install it: qemu-system-common (Debian, Ubuntu), qemu-img (Fedora, RHEL)."
        raise refused(spec, "tool_missing", "qemu-storage-daemon is not installed", way_out)
    if asked.kind == "fuse" and not reading.fuse:
        raise refused(spec, "devices_unsupported", "this host has no /dev/fuse", "Run the task on the host itself.")


def refuse_stopped(spec: DeviceSpec, reading: DeviceReading) -> None:
    """The kernel would wait for it, and we for the kernel."""
    if reading.stopped:
        fact = "its server, process %d, is stopped" % reading.servers[0]
        way_out = "Let it go on (kill -CONT %d)." % reading.servers[0]
        raise refused(spec, "device_unresponsive", fact, way_out, {"pids": list(reading.servers)})


def refuse_content(spec: DeviceSpec, length: int, reading: DeviceReading) -> None:
    """The disk must be the one that is meant, before the host can touch what is on it."""
    contents = reading.contents or ()
    found = {"size": length, "contents": [each.to_facts() for each in contents]}
    if spec.identity.size is not None and spec.identity.size != length:
        fact = "it is %s (%d bytes), and identity.size is %s" % (
            size.human(length),
            length,
            size.human(spec.identity.size),
        )
        raise refused(spec, "identity_mismatch", fact, _OTHER_DISK, found)
    problem = _mismatch(spec, contents)
    if problem:
        raise refused(spec, "identity_mismatch", problem, _OTHER_DISK, found)
    unnamed = _unnamed(spec, contents)
    if unnamed:
        named = ", ".join(sorted({each.type for each in contents}))
        fact = "there is something on it: %s" % "; ".join(map(str, unnamed))
        way_out = "If it is the right disk, say so: identity: {signature: [%s]}." % named
        raise refused(spec, "signature_present", fact, way_out, found)


_OTHER_DISK = "Correct source if it is another disk, or identity if it is the right one."


def _mismatch(spec: DeviceSpec, contents: t.Sequence[Content]) -> str:
    """What identity says of the disk and is not so, as a sentence."""
    asked, types = spec.identity, {each.type for each in contents}
    if NOTHING in asked.signature and not types:
        return ""
    found = "; ".join(map(str, contents)) or "nothing"
    if asked.signature and set(asked.signature) - {NOTHING} != types:
        return "identity.signature is %s, and on it is %s" % (", ".join(asked.signature), found)
    uuids = {each.uuid.lower() for each in contents}
    if asked.uuid is not None and asked.uuid.lower() not in uuids:
        return "identity.uuid is %s, and on it is %s" % (asked.uuid, found)
    return ""


def _unnamed(spec: DeviceSpec, contents: t.Sequence[Content]) -> t.List[Content]:
    """What is on the disk that the task does not speak of."""
    if spec.identity.signature:
        return []
    uuid = (spec.identity.uuid or "").lower()
    left = [each for each in contents if not uuid or each.uuid.lower() != uuid]
    return [each for each in left if each.type not in _TABLES or not spec.read_only]


def busy(spec: DeviceSpec, reading: DeviceReading, using: t.Sequence[t.Any]) -> errors.RefusedError:
    """C(using): holders of the device."""
    text = ", ".join(str(holder) for holder in using[:5])
    return refused(
        spec,
        "device_busy",
        "%s is in use by %s" % (reading.paths[0], text),
        "Unmount it, or stop what uses it.",
        {"device": list(reading.paths), "in_use_by": [holder.to_facts() for holder in using]},
    )


def in_use(spec: DeviceSpec, using: t.Sequence[t.Any]) -> errors.RefusedError:
    """C(using): holders of the source."""
    text = ", ".join(str(holder) for holder in using[:5])
    return refused(
        spec,
        "image_in_use",
        "%s is in use by %s" % (spec.source, text),
        "Stop what uses it." if spec.read_only else "Stop what uses it, or set read_only: true.",
        {"in_use_by": [holder.to_facts() for holder in using]},
    )


def has_overlays(spec: DeviceSpec, overlays: t.Sequence[str]) -> errors.RefusedError:
    """What is written into a base would damage what is built on it."""
    fact = "%d other images have %s as their backing file: %s" % (len(overlays), spec.source, ", ".join(overlays[:5]))
    way_out = "Attach an overlay instead, or set read_only: true."
    return refused(spec, "has_overlays", fact, way_out, {"overlays": list(overlays)})


def refuse_io_timeout(spec: DeviceSpec, reading: DeviceReading) -> None:
    """Loop devices have no such limit: it would do nothing."""
    if spec.io_timeout and reading.how != "nbd":
        fact = "only the kernel's NBD gives up what is not answered, and it would be a loop device"
        raise refused(
            spec, "bad_option", fact, "Leave io_timeout out; or set device to a /dev/nbdN, where there is one."
        )


def silent(spec: DeviceSpec, reading: DeviceReading) -> errors.RefusedError:
    """What was written to the device does not get to where it belongs."""
    fact = "the server of %s has not taken what was written to it within %g s" % (reading.paths[0], spec.timeout)
    way_out = "Look at the server (is it stopped, or does its disk hang?); let it go on, or end it."
    return refused(spec, "device_unresponsive", fact, way_out, {"device": reading.paths[0]})
