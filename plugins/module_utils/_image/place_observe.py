# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Observes an NBD export as the place of an image. QEMU reads it as raw bytes only, as its server can answer each reader
otherwise: our own parser reads what is in it, and what is to be compared with a source is copied first. Read-only.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import ByteSource, Header
from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._image import difference, refuse, space, state
from ansible_collections.platter.qemu.plugins.module_utils._image.source import (
    inspect_source,
    missing_source,
    source_refused,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec, SourceSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    file_system,
    files,
    process,
    qemu_io,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import Node, QemuImg, image_node

_EDGE = 512
#: the most that a qcow2 image has besides its data and a sixteenth of that (clusters of 512 bytes, refcounts of 64 bits)
_TABLES = 64 << 20


class PlaceObserver:
    """Observes one export after another."""

    def __init__(self, run_command: process.RunCommand, qemu_img: QemuImg) -> None:
        self._run_command = run_command
        self._qemu_img = qemu_img

    def observe(self, spec: ImageSpec) -> t.Tuple[state.ImageState, state.ImageReading]:
        """The state and the reading of the export. Raises RefusedError where nothing sound can be said."""
        if spec.state == "absent":
            return state.ImageState(spec.path), state.ImageReading(kind="export")  # it is refused, whatever is there
        length = self._length(spec)
        view = qemu_io.GuestView(self._run_command, target_node(spec), length)
        detected = registry.detect(view.read(0, _EDGE), view.read(max(0, length - _EDGE), _EDGE))
        header = _header(spec, view, detected)
        source = self._source(spec, header, length)
        blank = self._is_blank(spec, header, detected, length, source)
        reading = state.ImageReading(
            kind="export",
            length=length,
            header=header,
            detected=detected,
            source=source,
            signature=None if header or blank or detected else "data that is no %s image" % spec.format,
        )
        if blank:
            return state.ImageState(spec.path), reading
        if header is None:
            return state.ImageState(spec.path, format=detected[0] if detected else "unknown"), reading
        options = difference.observed_options(spec, reading)
        return state.ImageState(spec.path, header.format, header.virtual_size, options), reading

    def _length(self, spec: ImageSpec) -> int:
        try:
            return int(self._qemu_img.info(target_node(spec))["virtual-size"])
        except errors.EngineError as exc:
            if exc.facts.get("reason") == "tool_missing":
                raise
            raise _unreachable(spec, exc) from exc

    def _is_blank(
        self,
        spec: ImageSpec,
        header: t.Optional[Header],
        detected: t.Tuple[str, ...],
        length: int,
        source: t.Optional[state.SourceReading],
    ) -> bool:
        """An export without any content is as good as absent, except that a raw image is just its export."""
        if detected or (spec.format == "raw" and (source is None or source.changed is False)):
            return False
        if header is not None and header.format != "raw":
            return False
        zeros = image_node("raw", {"driver": "null-co", "size": length, "read-zeroes": True})
        return self._qemu_img.compare(target_node(spec), zeros)

    def _source(self, spec: ImageSpec, header: t.Optional[Header], length: int) -> t.Optional[state.SourceReading]:
        """Whether the image shows what its source does; C(changed) None: there is no image to compare."""
        if spec.source is None or spec.state != "present":
            return None
        with open_source(spec, self._qemu_img) as source:
            if header is None or header.format != spec.format or source.virtual_size > header.virtual_size:
                return state.SourceReading(source.virtual_size)
            same = self._is_same(spec, source.node, header, length)
            source.refuse_disturbed()
        return state.SourceReading(source.virtual_size, changed=not same, why="its content is not that of the source")

    def _is_same(self, spec: ImageSpec, source: Node, header: Header, length: int) -> bool:
        try:
            if header.format == "raw":
                return self._qemu_img.compare(source, target_node(spec))
            with build_directory.BuildDirectory(file_system.build_place(spec.path)) as private:
                return self._qemu_img.compare(source, self._copied(spec, header, length, private.spare("image")))
        except errors.ImageLockedError as exc:
            fact, way_out = "another process has it open and may write to it", "Stop what writes to it."
            raise source_refused(spec, "image_in_use", fact, way_out) from exc

    def _copied(self, spec: ImageSpec, header: Header, length: int, path: str) -> Node:
        """The image as a local copy at C(path), of which QEMU sees what our parser has seen."""
        full = header.virtual_size + header.virtual_size // 16 + _TABLES
        there = {**target_node(spec), "size": min(length, full)}
        space.require_space(spec, int(self._qemu_img.measure(there, "qcow2")["required"]))
        self._qemu_img.convert(there, path, "raw")
        with files.FileReader(path) as reader:
            edges = reader.read(0, _EDGE), reader.read(max(0, reader.length - _EDGE), _EDGE)
            seen = _header(spec, reader, registry.detect(*edges))
        if seen is None or seen.virtual_size != header.virtual_size:
            raise _unreachable(spec, errors.EngineError("it shows another image each time that it is read"))
        return image_node(header.format, files.local_node(files.file_facts(path)))


def target_node(spec: ImageSpec) -> t.Dict[str, t.Any]:
    """The node of the export itself."""
    return image_node("raw", t.cast(Place, spec.place).node())


class OpenSource(t.NamedTuple):
    """The source of an export after its gate, as long as it is held still. C(virtual_size): in bytes."""

    virtual_size: int
    node: Node
    #: raises RefusedError when it did not stay what it was
    refuse_disturbed: t.Callable[[], None]


@contextlib.contextmanager
def open_source(spec: ImageSpec, qemu_img: QemuImg) -> t.Iterator[OpenSource]:
    """The source while the block runs. One that has to be fetched cannot be compared."""
    source = t.cast(SourceSpec, spec.source)
    place = t.cast(Place, source.place)
    if place.path is None:
        node = image_node(source.format, place.node())
        yield OpenSource(int(qemu_img.info(node)["virtual-size"]), node, lambda: None)
        return
    facts = files.file_facts(place.path)
    if facts.kind not in ("file", "block"):
        raise missing_source(spec, place.path, facts.kind)
    from ansible_collections.platter.qemu.plugins.module_utils._image.held_source import held_source

    with contextlib.ExitStack() as stack:
        held = stack.enter_context(held_source(spec, source, None))
        yield OpenSource(*_inspected(spec, held.path), held.refuse_disturbed)


def _inspected(spec: ImageSpec, path: str) -> t.Tuple[int, Node]:
    """(virtual size, node) of the local source that is read at C(path), after its gate."""
    from ansible_collections.platter.qemu.plugins.module_utils._image.fetch import compression_of, verified_digest

    source = t.cast(SourceSpec, spec.source)
    if compression_of(source, path):
        way_out = "Import it into a file of this host first, and that file to the export."
        raise source_refused(spec, "bad_option", "a packed source cannot be compared with an export", way_out)
    if source.checksum:
        verified_digest(spec, path)
    size = inspect_source(spec, path).virtual_size
    return size, image_node(source.format, files.local_node(files.file_facts(path)))


def _header(spec: ImageSpec, view: ByteSource, detected: t.Tuple[str, ...]) -> t.Optional[Header]:
    """The header as our own parser reads it, if the bytes are of the asked format. It must name no other file."""
    name = t.cast(str, spec.format)
    if name != "raw" and name not in detected:
        return None
    try:
        header = registry.read_header(name, view)
    except errors.HeaderError as exc:
        raise refuse.refused(spec, "header_unreadable", exc.message, "Clear the export, if it is not needed.") from exc
    if header.references:
        names = [reference.target for reference in header.references]
        raise refuse.refused(
            spec,
            "image_references_file",
            "the image there refers to other files: %s" % ", ".join(names[:5]),
            "Clear the export, if it is not needed.",
            {"references": names},
        )
    return header


def _unreachable(spec: ImageSpec, exc: errors.EngineError) -> errors.RefusedError:
    said = str(exc.facts.get("stderr") or exc.message).strip().splitlines()
    told = next((line.rsplit("': ", 1)[-1] for line in said if line.startswith("qemu-img: ")), said[-1] if said else "")
    return refuse.refused(
        spec,
        "place_unreachable",
        "the export cannot be opened (%s)" % told,
        "Start the server, or correct the address and the name of the export.",
        {"place": spec.path},
    )


def refuse_too_little_room(spec: ImageSpec, needed: int, length: int) -> None:
    """An export has the size that its server gave it."""
    if needed > length:
        raise refuse.refused(
            spec,
            "would_exceed_space",
            "it may need %s, and the export has %s" % (human(needed), human(length)),
            "Use a larger export.",
            {"needed_bytes": needed, "free_bytes": length},
        )
