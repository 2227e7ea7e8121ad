# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The objects of a VM: those that a task describes, and those that its drives need. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import contradictions, keyval, link
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, Object, sorted_options


def read(
    told: t.Sequence[t.Mapping[str, t.Any]], made: t.Sequence[Object], drives: t.Sequence[Drive]
) -> t.Tuple[Object, ...]:
    """C(told): of the task; C(made): what drives have described. Raises SpecError."""
    found = {each.id: each for each in map(_object, told)}
    for new in made:
        known = found.get(new.id, new)
        _refuse_kind(known, new)
        if known != new and known.properties and new.properties:
            fact = "its throttling of the group %s is not that of the others in it" % new.id
            raise _refused(new.id, "duplicate_name", fact, "Give the limits of a group once.")
        found[new.id] = known if known.properties else new
    for drive in drives:
        thread = drive.frontend.property("iothread") if drive.frontend is not None else None
        if thread:
            new = Object("iothread", str(thread))
            _refuse_kind(found.setdefault(new.id, new), new)
    return tuple(sorted(found.values(), key=lambda each: (each.kind == "throttle-group", each.id)))


def _object(told: t.Mapping[str, t.Any]) -> Object:
    try:
        flat = dict(keyval.flatten(told))
        kind, name = keyval.plain(flat.pop("qom-type", "")), keyval.plain(flat.pop("id", ""))
        return Object(kind, name, sorted_options(link.object_properties(flat)))
    except ValueError as exc:
        raise _refused(str(told.get("id")), "bad_option", "an object: %s" % exc, "Correct it.") from exc


def _refuse_kind(known: Object, wanted: Object) -> None:
    if known.kind != wanted.kind:
        fact = "%s is a %s, and is named as a %s" % (known.id, known.kind, wanted.kind)
        raise _refused(known.id, "duplicate_name", fact, "Give each object a name of its own.")


def _refused(name: str, reason: str, fact: str, way_out: str) -> Exception:
    return contradictions.Finding(name, reason, fact, way_out).error()
