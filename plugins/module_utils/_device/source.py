# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads the source of a device: the image, or the export of a server; and what is on it. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._core.header import ByteSource
from ansible_collections.platter.qemu.plugins.module_utils._device import definition, plan, state
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import identity
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process

#: a header that is read by another name too: C(crypt_LUKS) among the signatures
_NO_CONTENT = ("raw", "luks")
_READ_ONLY = 2

Reading = state.DeviceReading


def look(spec: DeviceSpec) -> Reading:
    """What the name of the source leads to; no more than file facts."""
    if spec.source is None:
        return Reading()
    if spec.address is not None:
        return Reading(target=spec.source, kind="export")
    if spec.state != "present":
        return Reading(target=os.path.realpath(spec.source))
    facts = files.file_facts(resolve_target(spec.source), follow=False)
    is_raw = plan.is_plain(spec)
    return Reading(
        target=facts.path,
        kind=facts.kind,
        stamp=facts.stamp,
        length=facts.length if is_raw else 0,
        block=facts.kind == "block",
    )


def unchanged(spec: DeviceSpec, here: state.DeviceState, reading: Reading) -> Reading:
    """Of a device that stays, the length of its disk is not asked for: a server shows the same all its life."""
    if here.attached is None or plan.is_plain(spec):
        return reading
    return replace(reading, length=spec.offset + here.attached.length)


def look_closely(spec: DeviceSpec, here: state.DeviceState, reading: Reading, run: process.RunCommand) -> Reading:
    """With what decides whether it may be attached: how long the disk is, and what is on it."""
    if reading.stopped:  # that is refused for itself
        return reading
    reading = _look_at_disk(spec, reading, run)
    if here.attached is None or reading.contents is None or not _shows_the_same(spec, here.attached, reading):
        return reading
    # what was written to the device need not have come to the image yet
    with files.FileReader(reading.paths[0]) as reader:
        return replace(reading, contents=_recognised(reader))


def _shows_the_same(spec: DeviceSpec, here: state.Attached, reading: Reading) -> bool:
    """Whether what is attached is that part of that disk, and differs in something else."""
    window = (here.source, here.offset, here.limit, here.length)
    return here.alive and window == (reading.target, spec.offset, spec.size or 0, plan.length_of(spec, reading))


def _look_at_disk(spec: DeviceSpec, reading: Reading, run: process.RunCommand) -> Reading:
    if spec.address is not None:
        return _about_export(spec, reading)
    if reading.kind not in ("file", "block"):
        return reading
    if plan.is_plain(spec):
        with files.FileReader(reading.target, follow=False) as reader:
            if reader.identity != reading.stamp[:2]:
                raise errors.EngineError("%s was replaced while it was looked at" % reading.target)
            return _with_contents(spec, reading, reader)
    return _about_image(spec, reading, run)


def _with_contents(spec: DeviceSpec, reading: Reading, disk: ByteSource) -> Reading:
    window = identity.Window(disk, spec.offset, plan.length_of(spec, reading))
    return replace(reading, contents=_recognised(window))


def _recognised(disk: ByteSource) -> t.Tuple[state.Content, ...]:
    signatures, formats = identity.contents_of(disk)
    found = [state.Content(each.type, each.uuid, words.printable(each.label)) for each in signatures]
    return (*found, *(state.Content(name) for name in formats if name not in _NO_CONTENT))


def _about_image(spec: DeviceSpec, reading: Reading, run: process.RunCommand) -> Reading:
    """By its header first: whatever QEMU opens, it opens with all that the header names."""
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
    from ansible_collections.platter.qemu.plugins.module_utils._tools import qemu_io

    seen = image.look_at(reading.target, spec.format, follow=False)
    problem = _problem(spec, reading.target, seen)
    if seen.header is None or problem:
        return replace(reading, problem=problem)
    reading = replace(reading, length=seen.header.virtual_size)
    node = definition.image_node(spec, plan.ground_of(reading))
    return _with_contents(spec, reading, qemu_io.GuestView(run, node, reading.length))


def _problem(spec: DeviceSpec, target: str, seen: t.Any) -> t.Optional[t.Tuple[str, str, str, t.Mapping[str, t.Any]]]:
    from ansible_collections.platter.qemu.plugins.module_utils._formats import soundness
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image, leading

    if seen.header is None:
        looks = ", but of %s" % ", ".join(seen.detected) if seen.detected else ""
        fact = "the bytes of %s are not those of %s%s" % (spec.source, spec.format, looks)
        return "format_mismatch", fact, "Correct format.", {"asked": spec.format, "found": list(seen.detected)}
    facts = seen.facts
    trouble = soundness.trouble_of(seen.header, kind=facts.kind, length=facts.length, called=str(spec.source))
    if trouble:
        return (*trouble, {})
    wrong = chain.chain_problem(target, seen.header, image.chain_header)
    if wrong:
        return (*wrong, "Mend the backing chain first.", {"chain": wrong[1]})
    closed = leading.first_closed(target, seen.header, writes=not spec.read_only)
    if closed:
        return "image_references_file", closed.fact(target, str(spec.source)), closed.way_out, closed.evidence
    return None


def _about_export(spec: DeviceSpec, reading: Reading) -> Reading:
    """In one conversation: a server may go with its first client."""
    from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_client, tls

    address = t.cast(t.Any, spec.address)
    credentials = tls.Credentials(spec.certificates, spec.psk_file, spec.username, spec.hostname)
    with nbd_client.NbdClient(address, spec.timeout, credentials if address.tls else None) as client:
        reader = client.open(address.export)
        reading = replace(reading, length=reader.length)
        if reader.export.flags & _READ_ONLY and not spec.read_only:
            fact = "%s is served to be read only" % spec.source
            return replace(reading, problem=("export_read_only", fact, "Set read_only: true.", {}))
        return _with_contents(spec, reading, reader)
