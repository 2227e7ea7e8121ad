# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Who else has what the drives of a VM open: definitions of other VMs, and processes of this host. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, holders
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, places, running, store

#: what a claim is the same as, whatever its name
_Key = t.Tuple[t.Any, ...]
#: formats of images that can be built on others
_LAYERED = frozenset(("qcow2", "qcow", "qed", "vmdk", "vhdx"))


class _Held(t.NamedTuple):
    """A claim by what it is. C(shared): the definition agrees to others that have it."""

    claim: claims.Claim
    shared: bool


def refuse(
    made: definition.VmDefinition,
    old: t.Optional[definition.VmDefinition],
    config: str,
    pids: t.AbstractSet[int] = frozenset(),
) -> None:
    """Raises RefusedError where something that the drives open is somebody else's, and not agreed to be shared.

    What the VM had already before is not looked for among processes: there it is the VM itself that has it. C(pids): its
    own, as far as they are known.
    """
    refuse_second_name(
        made.vm, config, "Use that config, give the VM another name, or remove that one first (state: absent)."
    )
    wanted = _keys(made)
    others = _definitions(config)
    for other, where in others:
        _refuse_claimed(made, wanted, other, where)
    before = set(_keys(old)) if old is not None else set()
    new = {key: held for key, held in wanted.items() if key not in before and not held.shared and held.claim.local}
    _refuse_open(made.vm, [held.claim for held in new.values()], pids)
    _refuse_bases(made.vm, [held.claim for held in new.values() if held.claim.writes], set(wanted))


def _refused(
    vm: str, drive: str, fact: str, reason: str, way_out: str, evidence: t.Mapping[str, t.Any]
) -> errors.RefusedError:
    asked = "drive %s" % drive if drive else "the drives"
    return errors.RefusedError(
        asked, "VM " + vm, fact, reason=reason, way_out=way_out, evidence=dict(evidence), joined="of"
    )


def refuse_second_name(vm: str, config: str, way_out: str) -> None:
    """Raises RefusedError where a VM of that name is defined in another directory, as its record says."""
    known = os.path.realpath(places.record(vm))
    if known != os.path.realpath(config) and os.path.exists(places.current_file(known, definition.DEFINITION)):
        fact = "a VM of this name is defined in %s already" % known
        raise _refused(vm, "", fact, "name_taken", way_out, {"config": known})


def _definitions(config: str) -> t.List[t.Tuple[definition.VmDefinition, str]]:
    """Those of other VMs; what cannot be read stops the task, as nobody knows what it claims."""
    own = os.path.realpath(config)
    found = [(store.read(each), each) for each in places.known(config) if each != own]
    return [(made, where) for made, where in found if made is not None]


def _keys(made: definition.VmDefinition) -> t.Dict[_Key, _Held]:
    """What is claimed, with the files below images, which are read."""
    found: t.Dict[_Key, _Held] = {}
    for claim in claims.of_spec(made.spec):
        for each in (claim, *_below(claim)):
            known = found.get(_key(each))
            if known is None or (each.writes and not known.claim.writes):
                found[_key(each)] = _Held(each, claim.drive in made.shared)
    return found


def _key(claim: claims.Claim) -> _Key:
    if not claim.local:
        return ("place", claim.name)
    return block_use.identity_of(claim.name) or ("path", os.path.realpath(claim.name))


def _below(claim: claims.Claim) -> t.Iterator[claims.Claim]:
    if not claim.local or claim.format not in _LAYERED:
        return
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import named_files

    try:
        chain = named_files.files_of_chain(claim.name, claim.format)
    except (errors.EngineError, OSError):  # what opens the image says what is wrong with it
        return
    for path in chain[1:]:
        yield claim._replace(name=path, writes=False, format="")


def _refuse_claimed(
    made: definition.VmDefinition, wanted: t.Mapping[_Key, _Held], other: definition.VmDefinition, where: str
) -> None:
    theirs = _keys(other)
    for key, held in wanted.items():
        rival = theirs.get(key)
        if rival is None or (held.shared and rival.shared) or not (held.claim.writes or rival.claim.writes):
            continue
        does = "writes to" if rival.claim.writes else "reads"
        fact = "%s is drive %s of VM %s too, which %s it" % (held.claim.name, rival.claim.drive, other.vm, does)
        evidence = {"vm": other.vm, "config": where, "drive": rival.claim.drive, "place": held.claim.name}
        way_out = "Give each VM its own; or, for a cluster file system, set share: true at that drive in both VMs."
        raise _refused(made.vm, held.claim.drive, fact, "image_claimed", way_out, evidence)


def _refuse_open(vm: str, wanted: t.Sequence[claims.Claim], pids: t.AbstractSet[int]) -> None:
    found = holders.find_holders([claim.name for claim in wanted])
    own: t.Optional[t.AbstractSet[int]] = None
    for claim in wanted:
        using = [each for each in found[claim.name] if claim.writes or each.writes is not False]
        if using and own is None:
            own = running.processes_of(vm) | pids
        using = [each for each in using if each.pid is None or each.pid not in (own or ())]
        if using:
            fact = "%s is in use by %s" % (claim.name, ", ".join(str(each) for each in using[:5]))
            evidence = {"place": claim.name, "in_use_by": [each.to_facts() for each in using]}
            way_out = "Stop what uses it; or set share: true at that drive, if the use is meant."
            raise _refused(vm, claim.drive, fact, "image_in_use", way_out, evidence)


def _refuse_bases(vm: str, wanted: t.Sequence[claims.Claim], own: t.AbstractSet[_Key]) -> None:
    """What is built on an image is damaged by what is written to that."""
    for claim, others in _overlays(wanted, own):
        fact = "%d other images have %s as their backing file: %s" % (len(others), claim.name, ", ".join(others[:5]))
        way_out = "Name the overlay that the VM is to write to, or set read_only: true."
        raise _refused(vm, claim.drive, fact, "has_overlays", way_out, {"overlays": others})


def _overlays(
    wanted: t.Sequence[claims.Claim], own: t.AbstractSet[_Key]
) -> t.Iterator[t.Tuple[claims.Claim, t.List[str]]]:
    """Those with the images in their directories that are built on them. C(own): what the VM has itself, as of its data files."""
    if not wanted:
        return
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents, named_files

    names = {claim.name: claim for claim in wanted}
    directories = sorted({os.path.dirname(os.path.realpath(name)) for name in names})
    found = dependents.find_dependents(list(names), directories, named_files.recorded_base)
    for name, overlays in found.items():
        others = [each for each in overlays if block_use.identity_of(each) not in own]
        if others:
            yield names[name], others


def built_on(made: definition.VmDefinition) -> t.List[t.Tuple[claims.Claim, t.List[str]]]:
    """What the VM would write to with the next start although other images are built on it, as a snapshot makes them."""
    keys = _keys(made)
    writing = [held.claim for held in keys.values() if held.claim.local and held.claim.writes and not held.shared]
    return list(_overlays(writing, set(keys)))


def other_vm(vm: str, there: str, config: str) -> errors.RefusedError:
    """The directory has the definition of another VM."""
    fact = "%s has the definition of VM %s" % (config, there)
    return _refused(vm, "", fact, "name_taken", "Correct vm or config, or remove that VM's definition.", {"vm": there})
