# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a run is told, as plain data in a file: images, and what is asked of their snapshots. Pure."""

from __future__ import annotations

import json
import re
import typing as t
from datetime import datetime

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec

Entry = t.Dict[str, t.Any]
#: what the date of a run is written with; all of them have one length, whatever the date is
_DIRECTIVE = re.compile(r"%([YmdHMS%])")
#: from the longest to the shortest: without what is before it, each comes again
_PARTS = "YmdHMS"
#: any date, to look at what names become
_SOME_DAY = datetime(2026, 1, 2, 3, 4, 5)


def from_params(params: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """The settings of a task. Raises SpecError, of C(image_snapshot) too."""
    entries = [_entry(_without_nothing(entry)) for entry in params.get("snapshots") or ()]
    return {"name": params["name"], "snapshots": entries, "lock_timeout": int(params.get("lock_timeout", 30))}


def to_text(settings: t.Mapping[str, t.Any]) -> str:
    """For the file, the same each time."""
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"


def dated(name: str, moment: datetime) -> str:
    """The name of a snapshot that is taken now."""
    return _DIRECTIVE.sub(lambda found: "%" if found[1] == "%" else moment.strftime(found[0]), name)


def spec_of(entry: Entry, moment: datetime) -> SnapshotSpec:
    """What C(image_snapshot) would be asked. Raises SpecError."""
    named = dict(entry, name=dated(entry["name"], moment)) if "name" in entry else entry
    return read_spec.read_spec(named)


def rounds(entries: t.Sequence[Entry]) -> t.List[t.List[t.List[Entry]]]:
    """Entries of one image are done one after the other, in their order: the first of each in the first round, and so on.
    Of a round, those of one VM are done together, all its disks at one moment.
    """
    found: t.List[t.Dict[str, t.List[Entry]]] = []
    seen: t.Dict[str, int] = {}
    for entry in entries:
        number = seen[entry["image"]] = seen.get(entry["image"], -1) + 1
        if number == len(found):
            found.append({})
        found[number].setdefault(entry.get("qmp_socket") or entry["image"], []).append(entry)
    return [list(groups.values()) for groups in found]


def _entry(entry: Entry) -> Entry:
    """With its image by the one name that a path has. Raises SpecError."""
    _refuse_contradictions(entry)
    return dict(entry, image=spec_of(entry, _SOME_DAY).image)


def _without_nothing(entry: t.Mapping[str, t.Any]) -> Entry:
    """What was not said is not written down."""
    kept = {key: value for key, value in entry.items() if value is not None}
    if "retention" in kept:
        kept["retention"] = {key: value for key, value in kept["retention"].items() if value is not None}
    return kept


def _refuse_contradictions(entry: Entry) -> None:
    takes, name = entry.get("state") != "pruned", entry.get("name") or ""
    if takes:
        _refuse_name_that_comes_again(entry, name)
    if "%" in _DIRECTIVE.sub("", name):
        way_out = "Write %Y, %m, %d, %H, %M and %S for the date, and %% for a percent sign."
        raise _refused(entry, "bad_name", "name %r has a %% that is no part of a date" % name, way_out)
    if takes and entry.get("kind") == "external" and "switch" not in entry:
        fact = "nobody is there to tell the VM the name of the new overlay"
        raise _refused(entry, "bad_option", fact, "Set switch to symlink, or to rename.")
    if not takes and "match" not in entry:
        fact = "without match, what a person has taken by hand would go too, at night"
        way_out = "Set match to what the names of this timer begin with, as in nightly-*; or to '*' for all."
        raise _refused(entry, "bad_option", fact, way_out)


def _refuse_name_that_comes_again(entry: Entry, name: str) -> None:
    """A name that is there is not taken anew: a day of the month would be, once, and never again, and no run would fail."""
    given = set(_DIRECTIVE.findall(name)).intersection(_PARTS)
    missing = [part for part in _PARTS[: max(map(_PARTS.index, given), default=0) + 1] if part not in given]
    if missing:
        fact = "name %r comes again, as it has no %%%s, and a name that is there is not taken anew" % (name, missing[0])
        way_out = "Write the date into it from the year on, as in nightly-%Y%m%d-%H%M%S."
        raise _refused(entry, "bad_name", fact, way_out)


def _refused(entry: Entry, reason: str, fact: str, way_out: str) -> errors.SpecError:
    return errors.SpecError("the options", str(entry.get("image")), fact, reason=reason, way_out=way_out)
