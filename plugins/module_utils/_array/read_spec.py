# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of one array into what is asked of it, and refuses contradictions. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array import copies
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec, Leg
from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri

#: as md keeps it in 32 bytes, and a part of a file's name
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,30}\Z")
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
#: where C(host_device) has the links to its devices
_LINKS = "/dev/platter/"
#: the fewest legs that are worth it
_LEAST = {"raid1": 2, "raid5": 3, "raid10": 2}


def read_spec(params: t.Mapping[str, t.Any]) -> ArraySpec:
    """The spec of a task's options. Raises SpecError."""
    spec = ArraySpec(
        name=str(params["name"]),
        uuid=str(params["uuid"]).lower(),
        state=params.get("state") or "present",
        level=params.get("level") or "raid1",
        legs=tuple(_leg(each) for each in params.get("legs") or ()),
        policy=params.get("consistency_policy") or "bitmap",
        start_degraded=bool(params.get("start_degraded")),
        fill=tuple(params.get("fill") or ()),
        timeout=60.0 if params.get("timeout") is None else float(params["timeout"]),
    )
    for is_so, reason, fact, way_out in (*_contradictions(spec), *_of_legs(spec)):
        if is_so:
            raise errors.SpecError("array", spec.name, fact, reason=reason, way_out=way_out, joined="")
    return spec


def _leg(given: t.Mapping[str, t.Any]) -> Leg:
    name, device = given.get("name") or "", given.get("device") or ""
    name = name or device.rpartition("/")[2]
    return Leg(name, device or _LINKS + name, given.get("server") or _server_of(given.get("source") or ""))


def _server_of(uri: str) -> str:
    """The host of an export, or the socket there."""
    try:
        address = nbd_uri.parse(uri)
    except ValueError:  # that is refused where it is attached
        return ""
    return address.host or address.socket


_Contradiction = t.Tuple[t.Any, str, str, str]


def _contradictions(spec: ArraySpec) -> t.Iterator[_Contradiction]:
    way_out = "Set name to 1 to 31 letters, digits, dots, underscores and minus signs."
    yield not _NAME.match(spec.name), "bad_name", "%r is no good name for an array" % spec.name, way_out
    way_out = "Write one as uuidgen does."
    yield not _UUID.match(spec.uuid), "bad_option", "%r is no UUID" % spec.uuid, way_out
    ppl = spec.policy == "ppl" and spec.level != "raid5"
    yield ppl, "bad_option", "only raid5 has a partial parity log (ppl)", "Set consistency_policy: bitmap."
    yield spec.timeout < 1, "bad_option", "timeout is less than a second", "Give mdadm time."


def _of_legs(spec: ArraySpec) -> t.Iterator[_Contradiction]:
    if spec.state != "present":
        return
    least = _LEAST[spec.level]
    fact = "%s needs %d legs or more, and %d are listed" % (spec.level, least, len(spec.legs))
    yield len(spec.legs) < least, "bad_option", fact, "List more legs."
    nameless = any(not leg.name for leg in spec.legs)
    yield nameless, "bad_option", "a leg has neither a name nor a device", "Give it one."
    for what in ("name", "device"):
        values = [getattr(leg, what) for leg in spec.legs]
        twice = next((value for value in values if values.count(value) > 1), "")
        yield twice, "duplicate_item", "two legs have the %s %s" % (what, twice), "Give each its own."
    wrong = next((leg.device for leg in spec.legs if not leg.device.startswith("/")), "")
    yield wrong, "bad_path", "the device %r of a leg is no absolute path" % wrong, "Correct it."
    unknown = ", ".join(sorted(set(spec.fill) - {leg.name for leg in spec.legs}))
    yield unknown, "bad_option", "fill names %s, which is no leg" % unknown, "Correct it."
    yield from _fates(spec)


def _fates(spec: ArraySpec) -> t.Iterator[_Contradiction]:
    """Two legs of one server are lost together."""
    for one, other in copies.partners(spec.level, len(spec.legs)):
        first, second = spec.legs[one], spec.legs[other]
        fact = "legs %s and %s are both on server %s, with which both would be lost" % (
            first.name,
            second.name,
            first.server,
        )
        shared = first.server and first.server == second.server
        yield shared, "legs_share_server", fact, "Put them on different servers."
