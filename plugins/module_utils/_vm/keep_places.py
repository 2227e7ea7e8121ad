# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Places that drives were given stay theirs, whatever comes and goes beside them: guests know disks by them. Pure.

C(controllers.completed) counts drives to give places to those that name none; so removing one would move the others.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options, devices, facts
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition

Told = t.Dict[str, t.Any]
#: a drive that says one of these has chosen its place on a SCSI bus
_CHOSEN = ("scsi_id", "lun", "channel")


def with_places(told: Told, old: definition.VmDefinition, family: str) -> Told:
    """C(told) with the places and the controllers that the same drives have in C(old), and places beside them for new
    ones. C(family): of the machine; of another one places are others.
    """
    if old.spec.machine != family:
        return told
    before = {str(each.get("id")): each for each in old.told.get("drives", ())}
    frontends = {each.id: each.frontend for each in old.spec.drives if each.frontend is not None}
    drives = [_kept(each, before, frontends) for each in told.get("drives", ())]
    kept = _controllers(told, old, drives)
    drives = _beside(told.get("drives", ()), drives, kept)
    return dict(told, drives=drives, controllers=[*told.get("controllers", ()), *kept])


def _says(told: t.Mapping[str, t.Any], name: str) -> bool:
    """An empty text is what a template leaves of nothing."""
    return told.get(name) not in (None, "") or name.replace("_", "-") in (told.get("properties") or {})


def _kept(told: Told, before: t.Mapping[str, Told], frontends: t.Mapping[str, Device]) -> Told:
    """With that of its place which neither says, now or before."""
    name = str(told.get("id"))
    frontend, earlier = frontends.get(name), before.get(name)
    if frontend is None or earlier is None or devices.full_name(str(told.get("device"))) != frontend.device:
        return told
    place = {"bus": frontend.bus or None, "unit": frontend.property("unit"), "scsi_id": frontend.property("scsi-id")}
    given = {key: value for key, value in place.items() if value is not None}
    return dict(told, **{key: given[key] for key in given if not (_says(told, key) or _says(earlier, key))})


def _controllers(told: Told, old: definition.VmDefinition, drives: t.Sequence[Told]) -> t.List[Told]:
    """Those that were made for drives that are still on them."""
    used = {_controller_of(each) for each in drives}
    known = {str(each.get("id")) for each in (*told.get("controllers", ()), *old.told.get("controllers", ()))}
    shown = facts.of_spec(old.spec).get("controllers", ())
    return [each for each in shown if each.get("id") in used and each.get("id") not in known]


def _controller_of(told: Told) -> str:
    return str(told.get("bus") or "").partition(".")[0]


def _beside(told: t.Sequence[Told], drives: t.Sequence[Told], kept: t.Sequence[Told]) -> t.List[Told]:
    """Drives that say no place and have none get one on what is there. C(told): the same, with what they say only."""
    buses = {devices.CONTROLLERS.get(str(each["device"])): "%s.0" % each["id"] for each in reversed(kept)}
    found: t.List[Told] = []
    for said, each in zip(told, drives):
        kind = devices.kind(devices.full_name(str(each.get("device"))))
        bus = each.get("bus") or buses.get(kind) if kind in ("scsi", "usb") and not _says(said, "bus") else None
        if bus:
            number = kind == "scsi" and not any(_says(each, name) for name in _CHOSEN)
            on_it = [other for other in (*drives, *found) if other.get("bus") in (None, "", bus)]
            each = dict(each, bus=bus, **({"scsi_id": _free_id(on_it)} if number else {}))
        found.append(each)
    return found


def _free_id(drives: t.Sequence[Told]) -> int:
    taken = {_scsi_id(each) for each in drives}
    return next(number for number in range(len(drives) + 1) if number not in taken)


def _scsi_id(told: Told) -> t.Optional[int]:
    """The target that a drive says, as a number; None for what is none, which is refused later."""
    said = told.get("scsi_id")
    said = (told.get("properties") or {}).get("scsi-id") if said is None else said
    try:
        return None if said is None else block_options.integer("scsi_id", said)
    except ValueError:
        return None
