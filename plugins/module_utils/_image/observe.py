# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads the world for one image: what is there, and what decides about it. Read-only."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._image import difference, look, refuse, state, surroundings
from ansible_collections.platter.qemu.plugins.module_utils._image.data_file import data_file_is_taken, own_data_file
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.target import refuse_foreign_owner, refuse_opening
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.members import (
    foreign_extents,
    is_split,
    member_paths,
    squatters,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect.points import Points

Attributes = t.Any  # _module/file_attributes.py: FileAttributes


def _real_directory(path: str) -> str:
    try:
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    except ValueError:  # a header can say what is no name of a file
        return path


class Observer:
    """Observes one image after another. C(attributes) answers for owner, mode and the like; C(coming): paths of images
    that this task makes, so that they may be missing yet.

    What only some images need is imported where it is used: most runs are over images that need none of it.
    """

    def __init__(
        self,
        run_command: process.RunCommand,
        qemu_img: QemuImg,
        attributes: Attributes,
        coming: t.AbstractSet[str] = frozenset(),
    ) -> None:
        self._run_command = run_command
        self._coming = coming
        self._qemu_img = qemu_img
        self._attributes = attributes

    def observe(self, spec: ImageSpec) -> t.Tuple[state.ImageState, state.ImageReading]:
        """The state and the reading of C(spec)'s image. Raises RefusedError where nothing sound can be said."""
        if spec.place is not None:
            from ansible_collections.platter.qemu.plugins.module_utils._image.place_observe import PlaceObserver

            return PlaceObserver(self._run_command, self._qemu_img).observe(spec)
        seen = look.look(spec)
        refuse_foreign_owner(spec, seen)
        note = _note_of_import(spec.path) if seen.facts.kind == "block" else ""
        if note:
            half = seen._replace(header=None, detected=())  # nothing counts of what a killed run has left
            return state.ImageState(spec.path), replace(self._reading(spec, half, None), unfinished=note)
        reading = self._checked(spec, seen, self._reading(spec, seen, self._signature(spec, seen)))
        return self._state(spec, seen, reading), reading

    @staticmethod
    def _signature(spec: ImageSpec, seen: image.Seen) -> t.Optional[str]:
        """What a block device without an image of the asked format carries; None when it is blank, or a file."""
        if seen.facts.kind != "block" or (seen.header and seen.header.format != "raw"):
            return None
        if spec.format == "raw" and spec.source is None:
            return None  # a raw image is its device, whatever is on it
        from ansible_collections.platter.qemu.plugins.module_utils._inspect.signatures import content_of

        return content_of(spec.path)

    def _reading(self, spec: ImageSpec, seen: image.Seen, signature: t.Optional[str]) -> state.ImageReading:
        points = self._points(spec, seen)
        backing = self._backing(spec, seen)
        members = member_paths(spec.path, seen.header)
        problem, base_size, chain = surroundings.chain_of(spec.path, seen)
        current = surroundings.base_facts(backing.path) if backing and os.path.isabs(backing.path) else None
        base = self._base(spec)
        asked = files.file_facts(spec.backing.path) if spec.backing else None
        return state.ImageReading(
            kind=seen.facts.kind,
            length=seen.facts.length,
            nlink=seen.facts.nlink,
            backups=surroundings.backups_of(spec, seen.facts),
            identity=seen.facts.identity,
            header=seen.header,
            detected=seen.detected,
            record=seen.record,
            chain_problem=problem,
            lacking=surroundings.lacking(spec.path, seen),
            signature=signature,
            members=tuple(members[1:]),
            own_data_file=own_data_file(spec.path, spec.name, seen.header),
            extent_of=surroundings.extent_of(spec, seen),
            foreign_extents=foreign_extents(spec.path, seen.header),
            squatters=self._squatters(spec, seen),
            base=base,
            current_base_exists=bool(current and current.kind != "absent"),
            current_base_is_asked=bool(
                current and asked and current.kind != "absent" and current.identity == asked.identity
            ),
            current_base_size=base_size,
            chain=chain,
            current_base_fingerprint=image.fingerprint(current) if current else None,
            remembered_bases=_remembered_bases(points.seen if points else seen),
            points=points.names if points else (),
            source=self._source(spec, seen, signature),
            data_end=self._data_end(spec, seen) if _opens(spec, seen, problem) else None,
            desired_attributes=self._attributes.desired(spec, members),
        )

    def _state(self, spec: ImageSpec, seen: image.Seen, reading: state.ImageReading) -> state.ImageState:
        header = seen.header
        if seen.facts.kind == "absent" or _is_blank(spec, reading.kind, header, reading.signature):
            return state.ImageState(spec.path)
        if header is None:
            return state.ImageState(spec.path, format=seen.detected[0] if seen.detected else "unknown")
        return state.ImageState(
            path=spec.path,
            format=header.format,
            virtual_size=header.virtual_size,
            options=difference.observed_options(spec, reading),
            backing=self._backing(spec, seen),
            keyslots=self._keyslots(spec, seen),
            source=seen.record.get("source", {}).get("digest"),
            leaks=int(reading.check.get("leaks", 0)),
            corruptions=int(reading.check.get("corruptions", 0)),
            base_unchanged=_base_unchanged(reading),
            attributes=self._attributes.current([spec.path, *reading.other_files], reading.desired_attributes),
        )

    def _source(self, spec: ImageSpec, seen: image.Seen, signature: t.Optional[str]) -> t.Optional[state.SourceReading]:
        if not spec.source or spec.state != "present":
            return None
        place = spec.source.place
        if place and place.path and files.file_facts(place.path).kind == "absent" and self._is_coming(place.path):
            return state.SourceReading()
        from ansible_collections.platter.qemu.plugins.module_utils._image.source import read_source

        blank = seen.facts.kind == "absent" or _is_blank(spec, seen.facts.kind, seen.header, signature)
        return read_source(self._run_command, self._qemu_img, spec, seen, occupied=not blank)

    def _is_coming(self, path: str) -> bool:
        return os.path.realpath(path) in self._coming

    @staticmethod
    def _squatters(spec: ImageSpec, seen: image.Seen) -> t.Tuple[str, ...]:
        data_file = spec.option("data_file")
        if data_file and seen.facts.kind == "absent" and data_file_is_taken(data_file, spec.path):
            return (data_file,)
        return squatters(spec.path, seen.header) if is_split(spec.option("subformat")) else ()

    @staticmethod
    def _points(spec: ImageSpec, seen: image.Seen) -> t.Optional[Points]:
        if not seen.record.get("snapshot"):
            return None
        from ansible_collections.platter.qemu.plugins.module_utils._inspect.points import points_below

        return points_below(spec.path, seen)

    def _backing(self, spec: ImageSpec, seen: image.Seen) -> t.Optional[state.Backing]:
        """What the disk is built on, below its snapshots."""
        points = self._points(spec, seen)
        path, seen = (points.path, points.seen) if points else (spec.path, seen)
        if seen.header is None or not seen.header.backing_file:
            return None
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain as chains

        kind, target = chains.resolve_backing(path, seen.header.backing_file)
        if kind == "file":
            target = _real_directory(target)
        recorded = seen.header.backing_format
        if recorded is None and seen.header.format in chains.NO_PLACE_FOR_FORMAT and spec.backing:
            recorded = spec.backing.format
        return state.Backing(target, recorded, seen.header.backing_file)

    @staticmethod
    def _keyslots(spec: ImageSpec, seen: image.Seen) -> t.Optional[t.Tuple[int, ...]]:
        if not spec.encryption or not spec.encryption.keyslots or seen.header is None:
            return None
        return seen.header.keyslots

    def _base(self, spec: ImageSpec) -> t.Optional[state.BaseReading]:
        if not spec.backing:
            return None
        seen = image.look_at(spec.backing.path, spec.backing.format)
        if seen.facts.kind == "absent":
            return state.BaseReading(spec.backing.path, exists=False)
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain as chains

        chain = chains.walk_chain(spec.backing.path, spec.backing.format, image.chain_header)
        return state.BaseReading(
            path=spec.backing.path,
            exists=True,
            detected=seen.detected,
            virtual_size=seen.header.virtual_size if seen.header else None,
            fingerprint=image.fingerprint(seen.facts),
            chain_problem=(chain.problem.reason, chain.problem.fact) if chain.problem else None,
            opening_problem=chains.led_elsewhere(chain.links) or chains.encrypted_base(chain.links),
            in_chain_of=block_use.resolved([link.path for link in chain.links], spec.path),
        )

    def _checked(self, spec: ImageSpec, seen: image.Seen, reading: state.ImageReading) -> state.ImageReading:
        """With the report of a check, if the task asks for one: not where the image is still of another format, which QEMU
        may not even check, as it is to be rewritten.
        """
        repairs = seen.header is not None and spec.repair in FEATURES[seen.header.format].repair
        if not repairs or not _opens(spec, seen, reading.chain_problem):
            return reading
        try:
            return replace(reading, check=self._check(spec, seen))
        except errors.ImageLockedError as exc:
            return replace(reading, locked=exc.stderr.strip().splitlines()[-1])

    def _check(self, spec: ImageSpec, seen: image.Seen) -> t.Dict[str, t.Any]:
        from ansible_collections.platter.qemu.plugins.module_utils._image import secret

        header, file = t.cast(Header, seen.header), files.local_node(seen.facts)
        _refuse_opening(spec, header, below=False)
        secret.refuse_closed(self._run_command, spec, header, file)
        node, secrets = secret.opened_node(spec, header, file)
        return self._qemu_img.check(node, secrets=secrets)

    def _data_end(self, spec: ImageSpec, seen: image.Seen) -> t.Optional[t.Tuple[int, str]]:
        """Only looked for when the task may cut: the last byte that holds something."""
        size = spec.effective_size
        if size is None or seen.header is None or size >= seen.header.virtual_size or not spec.allow_shrink:
            return None
        if spec.discard_data:  # whatever it is, the task agrees
            return None
        from ansible_collections.platter.qemu.plugins.module_utils._image import secret
        from ansible_collections.platter.qemu.plugins.module_utils._image.data_end import find_data_end

        _refuse_opening(spec, seen.header, below=True)
        secret.refuse_closed(self._run_command, spec, seen.header, files.local_node(seen.facts))
        return find_data_end(self._qemu_img, self._run_command, spec, seen, size)


def _remembered_bases(seen: image.Seen) -> t.Tuple[t.Mapping[str, t.Any], ...]:
    return tuple(image.bases_remembered(seen.record, seen.header.backing_file if seen.header else None))


def _base_unchanged(reading: state.ImageReading) -> bool:
    known, now = reading.remembered_bases, reading.current_base_fingerprint
    return not known or not now or any(image.same_content(remembered, now) for remembered in known)


def _refuse_opening(spec: ImageSpec, header: Header, *, below: bool) -> None:
    """For QEMU that is to open the image before there is a plan: as the guard of the plan. C(below): and to read its bases."""
    refuse_opening(spec)
    from ansible_collections.platter.qemu.plugins.module_utils._image import led

    refusal = led.refusal(spec, header, changes=False, below=below)
    if refusal:
        raise refusal


def _opens(spec: ImageSpec, seen: image.Seen, chain_problem: t.Optional[t.Tuple[str, str]]) -> bool:
    """Whether QEMU may open the image for an answer: not where the plan will be a refusal for what headers say."""
    if seen.header is None or chain_problem or spec.state == "absent":
        return False
    return refuse.damage(spec, seen.header, seen.facts.kind, seen.facts.length) is None


def _note_of_import(device: str) -> str:
    from ansible_collections.platter.qemu.plugins.module_utils._tools import unfinished

    return unfinished.note_of(device) if unfinished.is_unfinished(device) else ""


def _is_blank(spec: ImageSpec, kind: str, header: t.Optional[Header], signature: t.Optional[str]) -> bool:
    """A device without any content is as good as absent, except that a raw image is just its device."""
    if kind != "block" or signature:
        return False
    return spec.source is not None if spec.format == "raw" else header is None
