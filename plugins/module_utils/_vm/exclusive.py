# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Who else has what the drives of a VM open: definitions of other VMs, and processes of this host. Read-only."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import shares
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, holders, waiting
from ansible_collections.platter.qemu.plugins.module_utils._tools import start_check
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, held, places, running

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._vm import rivals

Opened = t.Sequence[held.Held]


def refuse(
    made: definition.VmDefinition,
    opened: Opened,
    old: t.Optional[definition.VmDefinition],
    config: str,
    pids: t.AbstractSet[int] = frozenset(),
    *,
    others: rivals.Rivals,
) -> None:
    """Raises RefusedError where something that the drives open (C(opened)) is somebody else's, and not agreed to be shared,
    or has others built on it. C(others): the definitions of other VMs.

    What the VM had already before, in the same way, is not looked for among processes: there it is the VM itself that
    has it. C(pids): its own, as far as they are known.
    """
    refuse_second_name(
        made.vm, config, "Use that config, give the VM another name, or remove that one first (state: absent)."
    )
    _refuse_each_other(made, opened)
    _refuse_served(made, made, config)
    refuse_others(made, opened, config, others)
    before = held.of_definition(old) if old is not None else []
    names = running.names_of(made) | (running.names_of(old) if old is not None else frozenset())
    refuse_opening(made.vm, opened, [each for each in opened if not _was_so(each, before)], names, pids)


def refuse_others(made: definition.VmDefinition, opened: Opened, config: str, others: rivals.Rivals) -> None:
    """Raises RefusedError where another VM has what the drives of this one, which is in C(config), open, or a server of it."""
    for other, where, theirs in others.besides(config):
        _refuse_claimed(made, opened, other, where, theirs)
        _refuse_served(made, other, where)


def refuse_opening(
    vm: str, opened: Opened, new: Opened, names: t.Collection[str], pids: t.AbstractSet[int] = frozenset()
) -> None:
    """Raises RefusedError where somebody has open, or is built on, what is newly opened (C(new)). C(names): of the VM."""
    new = [each for each in new if each.claim.local]
    _refuse_open(vm, new, lambda: running.processes_of(names) | pids)
    _refuse_bases(vm, [each.claim for each in new if each.claim.writes], opened)


def refuse_claimed_devices(vm: str, opened: Opened) -> None:
    """Raises RefusedError (image_in_use) where this host itself has a device, as a mounted one, that the VM writes to. Nothing
    keeps QEMU from opening that when the VM is started.
    """
    written = [each for each in opened if each.claim.local and each.claim.writes]
    _refuse_open(vm, [each for each in written if start_check.is_claimed(each.claim.name)], frozenset)


def _was_so(now: held.Held, before: Opened) -> bool:
    """Whether the VM had it already, wrote to it if it does now, was as much alone with it, and not by another image."""
    return any(
        each.which == now.which
        and each.claim.writes >= now.claim.writes
        and each.shared <= now.shared
        and each.named <= now.named
        for each in before
    )


def _refused(
    vm: str, drive: str, fact: str, reason: str, way_out: str, evidence: t.Mapping[str, t.Any], share: str = ""
) -> errors.RefusedError:
    asked = share or ("drive %s" % drive if drive else "the drives")
    return errors.RefusedError(
        asked, "VM " + vm, fact, reason=reason, way_out=way_out, evidence=dict(evidence), joined="of"
    )


def refuse_second_name(vm: str, config: str, way_out: str) -> None:
    """Raises RefusedError where a VM of that name is defined in another directory, as its record says."""
    known = os.path.realpath(places.record(vm))
    if known != os.path.realpath(config) and os.path.exists(places.current_file(known, definition.DEFINITION)):
        fact = "a VM of this name is defined in %s already" % known
        raise _refused(vm, "", fact, "name_taken", way_out, {"config": known})


def _refuse_each_other(made: definition.VmDefinition, opened: Opened) -> None:
    """QEMU's lock keeps the VM from starting, and where that is off, one drive writes over the other."""
    frontends = {each.id: each.frontend for each in made.spec.drives}
    agreed = {name for name, device in frontends.items() if device is not None and device.property("share-rw") is True}
    known = held.Index(opened)
    for each in opened:
        for other in known.disturbing(each):
            drives = sorted((each.claim.drive, other.claim.drive))
            if drives[0] == drives[1]:
                continue
            if agreed.issuperset(drives) and each.claim.sharable and other.claim.sharable:
                continue
            fact = "drives %s and %s open the same, %s, and %s writes to it" % (
                *drives,
                each.claim.name,
                _writer(each, other),
            )
            way_out = "Give each its own; or set read_only: true at both."
            evidence = {"drives": drives, "place": each.claim.name}
            raise _refused(made.vm, "", fact, "shared_image", way_out, evidence)


def _refuse_served(made: definition.VmDefinition, other: definition.VmDefinition, where: str) -> None:
    """A server of virtiofs reads and writes the memory of one VM; with a second one neither is served."""
    for tag, socket in _sockets(made).items():
        for theirs, place in _sockets(other).items():
            if place == socket and (other is not made or theirs > tag):
                fact = "its server, %s, is that of share %s of VM %s too, and serves one" % (socket, theirs, other.vm)
                evidence = {"vm": other.vm, "config": where, "share": theirs, "place": socket}
                way_out = "Start a server for each, with a socket of its own."
                raise _refused(made.vm, "", fact, "share_claimed", way_out, evidence, "share " + tag)


def _sockets(made: definition.VmDefinition) -> t.Dict[str, str]:
    """Of the servers of shares, by their tags; without links."""
    return {each.tag: os.path.realpath(each.source) for each in made.spec.shares if each.driver == shares.VIRTIOFS}


def _writer(one: held.Held, other: held.Held) -> str:
    return one.claim.drive if one.claim.writes else other.claim.drive


def _refuse_claimed(
    made: definition.VmDefinition, opened: Opened, other: definition.VmDefinition, where: str, theirs: held.Index
) -> None:
    for each in opened:
        for rival in theirs.disturbing(each):
            if each.shared and rival.shared:
                continue
            if rival.base and not each.named:
                _refuse_bases(made.vm, [each.claim], opened)  # as far as the overlays are found from here
            fact = _claimed(each, rival, other.vm)
            evidence = {"vm": other.vm, "config": where, "drive": rival.claim.drive, "place": each.claim.name}
            raise _refused(made.vm, each.claim.drive, fact, "image_claimed", _own_image(each, rival), evidence)


def _claimed(each: held.Held, rival: held.Held, vm: str) -> str:
    """Backing files, data files and extents are not the drive itself, but below it."""
    theirs = "drive %s of VM %s" % (rival.claim.drive, vm)
    theirs = "below " + theirs if rival.named else theirs + " too"
    place = each.claim.name + (" (below this drive)" if each.named else "")
    return "%s is %s, which %s it" % (place, theirs, "writes to" if rival.claim.writes else "reads")


def _own_image(one: held.Held, other: held.Held) -> str:
    if one.claim.sharable and other.claim.sharable:
        return "Give each VM its own; or, for a cluster file system, set share: true at that drive in both VMs."
    if other.base and not one.named:
        return "Name an overlay on it that the VM is to write to, or set read_only: true."
    if one.base or other.base:
        return "Give each VM its own."
    return "Give each VM its own; two VMs can have a raw image, and no other."


def _refuse_open(vm: str, wanted: Opened, find_own: t.Callable[[], t.AbstractSet[int]]) -> None:
    own = functools.lru_cache(maxsize=None)(find_own)

    def look() -> waiting.Held:
        found = holders.find_holders([each.claim.name for each in wanted])
        return {str(n): [u for u in found[e.claim.name] if _disturbs(e, u, own)] for n, e in enumerate(wanted)}

    for each, using in zip(wanted, waiting.lasting(look).values()):
        claim = each.claim
        if using:
            fact = "%s is in use by %s" % (claim.name, ", ".join(str(use) for use in using[:5]))
            evidence = {"place": claim.name, "in_use_by": [use.to_facts() for use in using]}
            way_out = "Stop what uses it."
            if claim.sharable and not each.shared:
                way_out = "Stop what uses it; or, if that is a VM and the use is meant, set share: true at that drive."
            raise _refused(vm, claim.drive, fact, "image_in_use", way_out, evidence)


def _disturbs(each: held.Held, use: holders.Holder, own: t.Callable[[], t.AbstractSet[int]]) -> bool:
    """C(own): the processes of the VM itself."""
    if use.writes is False and not each.claim.writes:
        return False
    return not (each.shared and _is_vm(use)) and (use.pid is None or use.pid not in own())


def _is_vm(use: holders.Holder) -> bool:
    """QEMU's lock alone is that of a QEMU on another host, or in another container."""
    return use.kind == "qemu_lock" or (use.pid is not None and running.is_vm(use.pid))


def _refuse_bases(vm: str, wanted: t.Sequence[claims.Claim], opened: Opened) -> None:
    """What is built on an image is damaged by what is written to that."""
    for claim, others in _overlays(wanted, opened):
        fact = "%d other images have %s as their backing file: %s" % (len(others), claim.name, ", ".join(others[:5]))
        way_out = "Name the overlay that the VM is to write to, or set read_only: true."
        raise _refused(vm, claim.drive, fact, "has_overlays", way_out, {"overlays": others})


def _overlays(wanted: t.Sequence[claims.Claim], opened: Opened) -> t.Iterator[t.Tuple[claims.Claim, t.List[str]]]:
    """Those with the images in their directories that are built on them. C(opened): of the VM's own images, the data
    files and extents are written to with them.
    """
    if not wanted:
        return
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents, named_files
    from ansible_collections.platter.qemu.plugins.module_utils._tools import records

    own = {each.which for each in opened}

    def read(path: str) -> t.List[str]:
        is_own = block_use.identity_of(path) in own
        return named_files.recorded_backing(path) if is_own else named_files.recorded_base(path)

    names = {claim.name: claim for claim in wanted if _can_be_base(claim.name)}
    directories = sorted({os.path.dirname(each) for name in names for each in (name, os.path.realpath(name))})
    told = [path for name in names for path in named_files.told_by(records.read_record(name))]
    for name, overlays in dependents.find_dependents(list(names), directories, read, also=told).items():
        if overlays:
            yield names[name], overlays


def _can_be_base(path: str) -> bool:
    """What is there and no file or block device, as a directory in C(/sys), has neighbours that are not to be read."""
    return block_use.identity_of(path) is not None or not os.path.exists(path)


def built_on(opened: Opened) -> t.List[t.Tuple[claims.Claim, t.List[str]]]:
    """What the VM would write to with the next start although other images are built on it, as a snapshot makes them."""
    return list(_overlays([each.claim for each in opened if each.claim.local and each.claim.writes], opened))


def other_vm(vm: str, there: str, config: str) -> errors.RefusedError:
    """The directory has the definition of another VM."""
    fact = "%s has the definition of VM %s" % (config, there)
    return _refused(vm, "", fact, "name_taken", "Correct vm or config, or remove that VM's definition.", {"vm": there})
