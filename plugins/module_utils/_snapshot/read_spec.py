# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of one image into what is asked of its snapshots, and refuses contradictions. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.place import parse_place
from ansible_collections.platter.qemu.plugins.module_utils._core.size import parse_size
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import (
    LONGEST_NAME,
    BitmapSpec,
    Retention,
    SnapshotSpec,
)

#: docs/interop/qcow2.txt: bitmap names have at most 1023 bytes
_LONGEST_BITMAP_NAME = 1023
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"^([0-9]+)([smhdw]?)\Z")
_PLAIN = ("state", "kind", "switch", "quiesce", "match", "on_in_use")
_FLAGS = ("memory", "relative", "allow_altered")


def read_spec(params: t.Mapping[str, t.Any]) -> SnapshotSpec:
    """The spec of one item's options. Raises SpecError."""
    reader = _Reader(params)
    given = {name: params[name] for name in _PLAIN if params.get(name) is not None}
    given.update({name: bool(params.get(name)) for name in _FLAGS})
    spec = SnapshotSpec(
        image=reader.local("image"),
        format=reader.format(),
        name=params.get("name"),
        save=params.get("save") is not False,
        save_as=params.get("save_as"),
        overlay=reader.local("overlay") if params.get("overlay") else None,
        qmp_socket=params.get("qmp_socket"),
        agent_socket=params.get("agent_socket"),
        retention=reader.retention(),
        bitmaps=reader.bitmaps(),
        secret_file=(params.get("encryption") or {}).get("secret_file"),
        overlay_directories=tuple(params.get("overlay_directories") or ()),
        wait_timeout=float(60 if params.get("wait_timeout") is None else params["wait_timeout"]),
        job_timeout=float(params.get("job_timeout") or 3600),
        **given,
    )
    _refuse_contradictions(spec, reader)
    return spec


class _Reader:
    """Turns options into values; every refusal names the image."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._params = params

    def refuse(self, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
        return errors.SpecError("the options", str(self._params.get("image")), fact, reason=reason, way_out=way_out)

    def local(self, option: str) -> str:
        value = self._params.get(option)
        if not value:
            raise self.refuse("no %s is given" % option, "Set %s, or list images in snapshots." % option)
        try:
            place = parse_place(value)
        except ValueError as exc:
            raise self.refuse("%s: %s" % (option, exc), "Write an absolute path.", "bad_path") from exc
        if place.path is None:
            raise self.refuse("%s is not on this host" % place, "Name a file of this host.", "place_not_writable")
        return place.path

    def format(self) -> str:
        if not self._params.get("format"):
            raise self.refuse("no format is given, and none is guessed", "Set format.")
        return str(self._params["format"])

    def retention(self) -> t.Optional[Retention]:
        given = {name: value for name, value in (self._params.get("retention") or {}).items() if value is not None}
        if not given:
            return None
        if "max_age" in given:
            given["max_age"] = self._seconds(given["max_age"])
        low = [name for name, value in given.items() if value < (1 if name == "max_depth" else 0)]
        if low:
            raise self.refuse("retention.%s is too small" % low[0], "Write a larger number.")
        counts = [value for name, value in given.items() if name.startswith("keep_")]
        if given.get("keep_last") == 0 or (counts and not any(counts)):
            fact = "its retention would keep none, but the newest snapshot never goes"
            raise self.refuse(fact, "Set retention.keep_last to 1; or remove all by their names (state=absent).")
        return Retention(**given)

    def _seconds(self, text: str) -> float:
        match = _AGE.match(str(text).strip())
        if not match:
            raise self.refuse("retention.max_age %r is no time" % text, "Write seconds, or a number with m, h, d or w.")
        return float(int(match.group(1)) * _SECONDS[match.group(2)])

    def bitmaps(self) -> t.Tuple[BitmapSpec, ...]:
        found = tuple(self._bitmap(entry) for entry in self._params.get("bitmaps") or ())
        if len({bitmap.name for bitmap in found}) < len(found):
            raise self.refuse("a bitmap is listed twice", "List each bitmap once.", "duplicate_item")
        return found

    def _bitmap(self, entry: t.Mapping[str, t.Any]) -> BitmapSpec:
        name = str(entry["name"])
        if not name or len(name.encode("utf-8", "surrogateescape")) > _LONGEST_BITMAP_NAME or not name.isprintable():
            raise self.refuse("%r is no name for a bitmap" % name, "Write 1 to 1023 printable characters.", "bad_name")
        sources = tuple(entry.get("sources") or ())
        present = entry.get("state") != "absent"
        if name in sources or (sources and not present):
            raise self.refuse(
                "bitmap %s is to be merged from itself, or to be absent" % name, "Leave sources out, or name others."
            )
        return BitmapSpec(name, present, entry.get("enabled"), self._granularity(entry), sources)

    def _granularity(self, entry: t.Mapping[str, t.Any]) -> t.Optional[int]:
        """docs/interop/qcow2.txt: a power of two from 512 bytes to 2 GiB."""
        if entry.get("granularity") is None:
            return None
        try:
            size = parse_size(entry["granularity"])
        except ValueError as exc:
            raise self.refuse(
                "granularity: %s" % exc, "Write bytes, or a number with a unit (64K).", "bad_size"
            ) from exc
        if size & (size - 1) or not 512 <= size <= 2 << 30:
            raise self.refuse("a granularity of %d bytes" % size, "Write a power of two from 512 to 2G.", "bad_size")
        return size


def _refuse_contradictions(spec: SnapshotSpec, reader: _Reader) -> None:
    for is_so, fact, way_out in (*_about_kind(spec), *_about_state(spec), *_about_the_vm(spec)):
        if is_so:
            raise reader.refuse(fact, way_out)
    if spec.name is not None:
        _refuse_bad_name(spec.name, spec.external, reader)
    if spec.save_as is not None:
        _refuse_bad_name(spec.save_as, spec.external, reader)


Contradictions = t.Sequence[t.Tuple[t.Any, str, str]]


def _about_kind(spec: SnapshotSpec) -> Contradictions:
    elsewhere = spec.overlay or spec.relative or (spec.switch or "none") != "none" or spec.allow_altered
    return (
        (
            not spec.external and spec.format != "qcow2",
            "%s images have no internal snapshots" % spec.format,
            "Set kind to external.",
        ),
        (
            spec.secret_file and spec.external,
            "encryption is for internal snapshots, as the overlay of an external one would not be encrypted",
            "Set kind to internal, or leave encryption out.",
        ),
        (spec.bitmaps and spec.format != "qcow2", "only qcow2 images have bitmaps", "Leave bitmaps out."),
        (
            spec.state in ("committed", "streamed") and not spec.external,
            "%s is about layers, which internal snapshots do not have" % spec.state,
            "Set kind to external, or state to absent.",
        ),
        (
            spec.overlay and spec.switch == "rename",
            "with switch=rename the new overlay has the name of the image",
            "Leave overlay out.",
        ),
        (
            elsewhere and not spec.external,
            "overlay, relative, switch and allow_altered are for external snapshots",
            "Set kind to external, or leave them out.",
        ),
        (
            not spec.external and spec.retention and spec.retention.max_depth is not None,
            "retention.max_depth counts layers, which internal snapshots do not have",
            "Set retention.keep_last instead.",
        ),
    )


def _about_state(spec: SnapshotSpec) -> Contradictions:
    return (
        (
            spec.state not in ("present", "pruned") and spec.name is None,
            "state=%s needs a name" % spec.state,
            "Set name.",
        ),
        (
            spec.state == "present" and spec.name is None and not spec.bitmaps,
            "neither a name nor bitmaps are given",
            "Set name.",
        ),
        (spec.state == "pruned" and spec.name is not None, "state=pruned is about all that match", "Set match."),
        (spec.state == "pruned" and spec.retention is None, "no retention is given", "Set retention."),
        (spec.state != "pruned" and spec.retention is not None, "retention is given", "Set state to pruned."),
        (
            spec.bitmaps and spec.external and spec.name is not None,
            "a new overlay and bitmaps are asked for at once",
            "Give bitmaps in a task of their own, without name.",
        ),
        (spec.bitmaps and spec.state != "present", "bitmaps are given", "Give them in a task with state=present."),
        (
            spec.state != "reverted" and (spec.save_as or not spec.save),
            "save and save_as are for state=reverted",
            "Leave them out.",
        ),
        (spec.save_as and not spec.save, "save_as is given, and save is false", "Leave one of them out."),
        (spec.save_as is not None and spec.save_as == spec.name, "save_as is the name itself", "Choose another."),
    )


def _about_the_vm(spec: SnapshotSpec) -> Contradictions:
    return (
        (
            spec.quiesce != "no" and not (spec.qmp_socket and spec.agent_socket),
            "quiesce needs the sockets of QEMU and of the guest agent",
            "Set qmp_socket and agent_socket.",
        ),
        (
            spec.memory and (spec.external or not spec.qmp_socket),
            "memory is for internal snapshots of a running VM",
            "Set qmp_socket and kind=internal, or leave memory out.",
        ),
    )


def _refuse_bad_name(name: str, external: bool, reader: _Reader) -> None:
    length = len(name.encode("utf-8", "surrogateescape"))
    bad = not name or length > LONGEST_NAME or name.isdigit() or not name.isprintable() or name != name.strip()
    if bad or (external and ("/" in name or length > 200)):
        raise reader.refuse(
            "%r is no good name for a snapshot" % name,
            "Write 1 to 255 bytes, not digits only (that would be an ID), without control characters and outer spaces; "
            "and for external ones a part of a file name.",
            "bad_name",
        )
