# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Decides what the definition of a VM's drives is to say, and which steps lead there. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._drive import contradictions, devices, facts, read_spec
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm import actions, definition, keep_places, memory, refuse
from ansible_collections.platter.qemu.plugins.module_utils._vm.spec import VmSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState

_LISTS = ("controllers", "objects", "nodes")


def plan_vm(spec: VmSpec, state: VmState, qemu: str) -> t.List[Action[VmState]]:
    """The steps; none where all is as asked. C(qemu): the program, where neither the task nor a definition names one.

    Raises SpecError.
    """
    if spec.state == "absent":
        return [actions.RemoveDefinition(spec.vm, spec.config)] if state.left else []
    wanted = define(spec, state.defined, qemu)
    if wanted == state.defined and state.whole and state.current:
        return []
    altered = "written anew, as its files were not what they should be"
    outdated = "what looks at its images before a start is of another version"
    changes = differences(state.defined, wanted) or (outdated if state.whole else altered,)
    return [actions.WriteDefinition(spec.vm, spec.config, wanted, changes)]


def define(spec: VmSpec, old: t.Optional[definition.VmDefinition], qemu: str) -> definition.VmDefinition:
    """The definition that a task leads to from C(old). Raises SpecError."""
    before = old or definition.VmDefinition(spec.vm, DrivesSpec(), qemu=qemu)
    machine = _given(spec.machine, before.machine)
    told = _told(spec, before)
    family = devices.family(machine or "pc")
    placed = keep_places.with_places(told, before, family) if old is not None else told
    drives = read_spec.read(dict(placed, machine=machine or None))
    _refuse_parts(drives)
    known = {each.id for each in drives.drives}
    made = definition.VmDefinition(
        spec.vm,
        drives,
        told,
        _given(spec.style, before.style),
        _given(spec.lossy, before.lossy),
        _given(spec.qemu, before.qemu),
        machine,
        _given(spec.arguments, before.arguments),
        frozenset(((before.shared - _listed(spec)) | spec.shared) & known),
    )
    if made.style != "hda":
        contradictions.check(drives)
    refuse.check(made)
    memory.check(made)
    made.drive_words()
    return made


def _refuse_parts(drives: DrivesSpec) -> None:
    """What is written to change one thing of a drive replaces the whole drive: that one is then none."""
    for each in drives.drives:
        if each.backend is None and each.frontend is None:
            fact = "it has neither image nor device, and a listed drive replaces the old one"
            way_out = "Describe all of it; or, to remove it, set its state to absent."
            raise read_spec.refused(each.id, fact, way_out, "image_missing")


def _given(value: t.Any, before: t.Any) -> t.Any:
    return before if value is None else value


def _listed(spec: VmSpec) -> t.Set[str]:
    return {str(each["id"]) for each in spec.drives}


def _told(spec: VmSpec, before: definition.VmDefinition) -> t.Dict[str, t.Any]:
    """The task's own words for all drives: those of this task, and those that stay of earlier ones, in their order."""
    new = {str(each["id"]): each for each in spec.drives}
    kept = [] if spec.purge else [each for each in before.told.get("drives", ()) if each["id"] not in spec.absent]
    drives = [new.pop(str(each["id"]), each) for each in kept]
    told: t.Dict[str, t.Any] = {"drives": drives + list(new.values())}
    for name in _LISTS:
        stays = () if spec.purge else before.told.get(name, ())
        told[name] = list(spec.lists.get(name, stays))
    shares = {str(each["tag"]): each for each in spec.shares}
    kept = (
        [] if spec.purge else [each for each in before.told.get("shares", ()) if each["tag"] not in spec.absent_shares]
    )
    told["shares"] = [shares.pop(str(each["tag"]), each) for each in kept] + list(shares.values())
    told["boot"] = _given(spec.boot, before.told.get("boot"))
    told["shared_memory"] = _given(spec.shared_memory, before.told.get("shared_memory"))
    return {name: value for name, value in told.items() if value or name == "drives"}


def differences(old: t.Optional[definition.VmDefinition], new: definition.VmDefinition) -> t.Tuple[str, ...]:
    """What is new, as parts of a sentence."""
    before = {each["id"]: each for each in _drives(old)} if old is not None else {}
    after = {each["id"]: each for each in _drives(new)}
    found = ["add " + _listed_names(after, before), "remove " + _listed_names(before, after)]
    found += [_changed(name, before[name], each) for name, each in after.items() if before.get(name, each) != each]
    found += _besides(old, new)
    if old is not None:
        found += _of_vm(old, new)
        if list(before) != list(after) and set(before) == set(after):
            found.append("order of the drives")
    return tuple(each for each in found if not each.endswith(" ")) or (() if old is not None else ("no drives",))


def _besides(old: t.Optional[definition.VmDefinition], new: definition.VmDefinition) -> t.Iterator[str]:
    """What the VM starts with besides drives."""
    before, after = (facts.of_spec(each.spec) if each is not None else {} for each in (old, new))
    shares = [{each["tag"]: each for each in shown.get("shares", ())} for shown in (before, after)]
    for tag in {**shares[0], **shares[1]}:
        was, now = (each.get(tag) for each in shares)
        if was != now:
            yield "%s share %s" % ("add" if was is None else "remove" if now is None else "change", tag)
    for name in ("boot", "shared_memory"):
        was, now = before.get(name), after.get(name)
        if was != now:
            yield "%s %s" % ("add" if was is None else "remove" if now is None else "change", name)


def _drives(each: definition.VmDefinition) -> t.Iterator[t.Dict[str, t.Any]]:
    for drive in facts.of_spec(each.spec)["drives"]:
        yield dict(drive, share=drive["id"] in each.shared)


def _listed_names(names: t.Iterable[str], others: t.Container[str]) -> str:
    return ", ".join(name for name in names if name not in others)


def _changed(name: str, old: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> str:
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return "change %s (%s)" % (name, ", ".join(keys))


def _of_vm(old: definition.VmDefinition, new: definition.VmDefinition) -> t.Iterator[str]:
    for name in ("style", "machine", "qemu", "arguments", "lossy"):
        if getattr(old, name) != getattr(new, name):
            yield "change " + name
    shown = [facts.of_spec(each.spec) for each in (old, new)]
    for name in _LISTS:
        if shown[0].get(name) != shown[1].get(name):
            yield "change " + name
