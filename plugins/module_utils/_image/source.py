# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Sources of images: what can be told of one before anything is fetched, and fetching it into a private place."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._image import difference, gate, state
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec, SourceSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import descriptor, luks_secret
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import (
    Seen,
    chain_header,
    half_filled,
    look_at,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process, records, still
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

#: how far disk labels and a CD's descriptor reach into a file, in bytes
_LABELS = 33 << 10


def source_refused(spec: ImageSpec, reason: str, fact: str, way_out: str, **evidence: t.Any) -> errors.RefusedError:
    """A refusal that is about the source."""
    source = t.cast(SourceSpec, spec.source)
    asked = "the import of %s" % source.text
    return errors.RefusedError(asked, spec.path, fact, reason=reason, way_out=way_out, evidence=evidence, joined="to")


def read_source(
    run_command: process.RunCommand, qemu_img: QemuImg, spec: ImageSpec, image: Seen, occupied: bool
) -> state.SourceReading:
    """What can be told before the import. Reads nothing when the image is there and is not to follow its source.

    C(occupied): there is something at the image's place, so that nothing is imported unless the source has changed.
    """
    source = t.cast(SourceSpec, spec.source)
    there = image.facts.kind == "file"
    if there and source.policy == "if_absent":
        return state.SourceReading()
    remembered = dict(image.record.get("source") or {})
    if source.url:
        from ansible_collections.platter.qemu.plugins.module_utils._image.fetch import read_remote

        return read_remote(spec, remembered if occupied else None)
    if source.place is None or source.place.path is None:
        return state.SourceReading(changed=False) if occupied else _read_far(qemu_img, spec, source)
    return _read_local(run_command, spec, source.place.path, remembered if there else None)


def _read_far(qemu_img: QemuImg, spec: ImageSpec, source: SourceSpec) -> state.SourceReading:
    from ansible_collections.platter.qemu.plugins.module_utils._image import far_source

    known = far_source.size_of(qemu_img, spec) if far_source.is_read_there(source) else None
    return state.SourceReading(known, changed=False)


def _read_local(
    run_command: process.RunCommand, spec: ImageSpec, path: str, remembered: t.Optional[t.Dict[str, t.Any]]
) -> state.SourceReading:
    source = t.cast(SourceSpec, spec.source)
    facts = files.file_facts(path)
    if facts.kind in ("file", "block") and not source.trusted:
        with still.StillFile(path, lease=False) as found:
            refuse_strangers(spec, found)
    if facts.kind not in ("file", "block"):
        raise missing_source(spec, path, facts.kind)
    changed, why = _local_change(source, facts, remembered)
    if remembered is not None and not changed:
        return state.SourceReading(changed=changed)
    from ansible_collections.platter.qemu.plugins.module_utils._image.fetch import compression_of, verified_digest

    digest = verified_digest(spec, path) if source.checksum else None
    if compression_of(source, path):
        return state.SourceReading(digest=digest, changed=changed, why=why)
    header = inspect_source(spec, path)
    if source.secret_file:
        _refuse_closed(run_command, spec, path, header)
    return state.SourceReading(header.virtual_size, digest, changed, why, chain=_chain_of(path, header))


def _chain_of(path: str, header: Header) -> t.Tuple[str, ...]:
    """Every image that is read with a trusted source, itself first."""
    if not header.backing_file:
        return ()
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain

    return chain.files_of(chain.walk_chain(path, header.format, chain_header))


def _refuse_closed(run_command: process.RunCommand, spec: ImageSpec, path: str, header: Header) -> None:
    """The wrong secret is found before anything is done.

    QEMU does not open by this what others can write to at the same time: that is done where it is held (fetch.py).
    """
    from ansible_collections.platter.qemu.plugins.module_utils._image import secret
    from ansible_collections.platter.qemu.plugins.module_utils._tools import qemu_io

    with still.StillFile(path) as found:
        if found.others_write and not found.leased and not t.cast(SourceSpec, spec.source).trusted:
            return
        node, secrets = secret.source_node(spec, header, files.local_node(files.file_facts(found.path)))
        try:
            qemu_io.GuestView(run_command, node, header.virtual_size, secrets).open()
        except errors.ToolError as exc:
            raise closed_source(spec, exc) from exc


def closed_source(spec: ImageSpec, exc: errors.ToolError) -> errors.EngineError:
    """The refusal of a source that QEMU cannot open: by a wrong secret, or for what it is. Nothing is known of one that
    takes too long.
    """
    if isinstance(exc, errors.ToolTimeoutError):
        return exc
    if luks_secret.is_wrong(exc):
        fact, way_out = "the secret opens none of its key slots", "Correct source.secret."
        return source_refused(spec, "wrong_secret", fact, way_out)
    return source_refused(
        spec, "source_damaged", "qemu-img cannot read it: %s" % exc.stderr.strip(), "Get the source again."
    )


def missing_source(spec: ImageSpec, path: str, kind: str) -> errors.RefusedError:
    """The refusal of a source that is no file (C(kind) of FileFacts)."""
    if kind != "absent":
        fact, way_out = "the source file %s is a %s" % (path, kind), "Name a file or block device in source.path."
        return source_refused(spec, "source_missing", fact, way_out)
    return source_refused(
        spec,
        "source_missing",
        "the source file %s does not exist" % path,
        "Put it there, or correct source.path. In check mode an earlier task has not made it.",
    )


def refuse_strangers(spec: ImageSpec, found: still.StillFile) -> None:
    """A user's symbolic link may lead to that user's own files, and not to what only root can read."""
    if found.strangers:
        raise source_refused(
            spec,
            "unsafe_directory",
            "a symbolic link of another user (%d) leads to it" % found.strangers[0],
            "Name the file that it leads to; or set source.trusted to true.",
            owner=found.strangers[0],
        )


def _local_change(
    source: SourceSpec, facts: files.FileFacts, remembered: t.Optional[t.Dict[str, t.Any]]
) -> t.Tuple[t.Optional[bool], str]:
    """(changed, why), from the declared digest if one of its kind is known, else from length and time of the last write."""
    if not remembered:
        return None, ""
    declared, known = source.checksum or "", str(remembered.get("digest") or "")
    if "://" not in declared and known and difference.of_one_kind(declared, known):
        return declared != known, "the checksum of the source is another"
    now = facts.written
    return any(remembered.get(key) != now[key] for key in now), "the source file has changed"


def inspect_source(spec: ImageSpec, path: str) -> t.Any:
    """The header of the source file at C(path), after the gate if it is not trusted."""
    source = t.cast(SourceSpec, spec.source)
    seen = look_at(path, source.format)
    half = half_filled(path) if seen.facts.kind == "block" else ""
    if half:
        raise source_refused(spec, "import_unfinished", half, "Import to it again, with source_policy: if_changed.")
    if seen.header is None or seen.header.format != source.format:
        raise _unreadable(spec, seen)
    if source.format == "raw":
        _refuse_extent(spec, seen)
    if not source.trusted:
        gate.Gate(source.text, spec.path, spec.max_virtual_size).check(
            seen.header, source.format, _claims(source, path, seen)
        )
    elif seen.header.backing_file:
        _refuse_broken_chain(spec, path)
    _refuse_missing_members(spec, path, seen)
    if seen.shortage:
        raise _cut_off(spec, path, seen.facts.length, seen.header.least_length)
    if seen.header.corrupt:
        raise source_refused(spec, "source_damaged", "it is marked corrupt", "Repair it, or get the source again.")
    if seen.header.encrypted:
        _refuse_without_secret(spec, seen.header)
    return seen.header


def _refuse_without_secret(spec: ImageSpec, header: Header) -> None:

    if not header.has_luks:
        fact = "it is encrypted by the old AES of qcow and qcow2, which is not read here"
        raise source_refused(spec, "format_not_allowed", fact, "Decrypt it with qemu-img convert first.")
    if not t.cast(SourceSpec, spec.source).secret_file:
        way_out = "Set source.secret or source.secret_file."
        if spec.place:
            way_out = "Import it into a file of this host first, and that file to the export."
        raise source_refused(spec, "secret_missing", "it is encrypted, and no secret for it is given", way_out)


def _cut_off(spec: ImageSpec, path: str, length: int, needed: int) -> errors.RefusedError:
    """QEMU (7.2) reads what is missing as zeros, without a word."""
    fact = "it is damaged: %s has %d bytes, and needs %d" % (path, length, needed)
    return source_refused(spec, "source_damaged", fact, "Get the source again.", length=length, needed=needed)


def _unreadable(spec: ImageSpec, seen: Seen) -> errors.RefusedError:
    source = t.cast(SourceSpec, spec.source)
    _refuse_extent(spec, seen)
    if seen.header is None and (seen.problem or source.format in seen.detected):
        fact = "it is damaged: %s" % (seen.problem or "its header cannot be read")
        return source_refused(spec, seen.reason or "source_damaged", fact, "Get the source again.")
    return source_refused(
        spec,
        "format_mismatch",
        "it is declared %s, but its bytes say %s" % (source.format, ", ".join(seen.detected) or "no known format"),
        "Set source.format to what it is.",
        asked=source.format,
        found=list(seen.detected),
    )


def _refuse_extent(spec: ImageSpec, seen: Seen) -> None:
    """A part of a split VMDK is not the disk; the one extent of a flat one is, and can be read as raw."""
    extent = descriptor.split_extent(seen.facts.path, seen)
    if extent and not (seen.header and descriptor.is_whole_disk(extent.descriptor)):
        raise source_refused(spec, "vmdk_extent", extent.sentence, extent.way_out, descriptor=extent.descriptor or None)


def _claims(source: SourceSpec, path: str, seen: Seen) -> t.Tuple[str, ...]:
    """Everything that the bytes say the source is.

    A file that we wrote as raw may begin with whatever its guest put there, and so does a fixed VHD.
    """
    header = seen.header
    if header is None or "raw" in (seen.record.get("format"), _record_of(source).get("format")):
        return ()
    if header.format == "raw" or header.options.get("subformat") == "fixed":
        return seen.detected
    with files.FileReader(path) as reader:
        return seen.detected + registry.foreign_signatures(reader.read(0, _LABELS))


def _record_of(source: SourceSpec) -> t.Mapping[str, t.Any]:
    """A sidecar is found by the name of the file, which is opened by another one."""
    return records.read_record(source.place.path) if source.place and source.place.path else {}


def _refuse_broken_chain(spec: ImageSpec, path: str) -> None:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import encrypted_base, walk_chain

    source = t.cast(SourceSpec, spec.source)
    chain = walk_chain(path, source.format, chain_header)
    if chain.problem:
        raise source_refused(spec, chain.problem.reason, chain.problem.fact, "Mend the backing chain of the source.")
    locked = encrypted_base(chain.links[1:])
    if locked:
        raise source_refused(
            spec, locked[0], locked[1], "Flatten the source first, with a program that knows its secret."
        )


def _refuse_missing_members(spec: ImageSpec, path: str, seen: Seen) -> None:
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import whole
    from ansible_collections.platter.qemu.plugins.module_utils._inspect.members import nested_descriptor

    nested = nested_descriptor(path, seen.header)
    if nested:
        fact = "its extent %s is a descriptor itself, which leads QEMU on to other files" % nested
        raise source_refused(spec, "image_references_file", fact, "Get the source again.", extent=nested)
    lack = whole.lacking(path, seen.header)
    if lack:
        raise source_refused(spec, "source_damaged", lack[1], "Bring all files of the image.", lacking=lack[1])
