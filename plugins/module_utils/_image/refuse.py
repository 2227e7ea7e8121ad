# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals that a plan can come to, each with its evidence and one way out. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState

Evidence = t.Optional[t.Mapping[str, t.Any]]


def refused(spec: ImageSpec, reason: str, fact: str, way_out: str, evidence: Evidence = None) -> errors.RefusedError:
    """A refusal of what C(spec) asks."""
    asked, joined = "a %s image" % spec.format if spec.format else "an image", "at"
    if spec.state == "absent":
        asked, joined = "the removal", "of"
    return errors.RefusedError(asked, spec.path, fact, reason=reason, way_out=way_out, evidence=evidence, joined=joined)


def refuse_impossible_file(spec: ImageSpec, reading: ImageReading) -> None:
    """Only regular files and block devices hold images."""
    if reading.kind not in ("absent", "file", "block", "export"):
        raise refused(spec, "not_a_file", "it is a %s" % reading.kind, "Name another path.", {"kind": reading.kind})


def refuse_other_content(spec: ImageSpec, state: ImageState, reading: ImageReading) -> None:
    """Nothing tells who wrote what is in an export: it is written over only when the task follows its source."""
    source = reading.source
    if source is None or spec.source is None or source.changed is False:
        return
    needed, have = source.virtual_size or 0, state.virtual_size or 0
    follows = spec.source.policy == "if_changed"
    if follows and (spec.format != "raw" or needed == have):
        return
    fact = "what is in the export is not what its source holds"
    way_out = "Set source_policy to if_changed to write over it, or leave source out to keep it."
    if follows:
        fact += " (%s there, %s in the source)" % (size.human(have), size.human(needed))
        way_out = "Clear the export first, if it is not needed: the shorter source would leave its end as it is."
    raise refused(spec, "exists_different", fact, way_out, {"source_size": needed, "virtual_size": have})


def refuse_edits(spec: ImageSpec, plan: t.Sequence[t.Any]) -> None:
    """What a kill in the middle would leave in an export nobody could tell from what was there."""
    if plan:
        raise refused(
            spec,
            "exists_different",
            "the image in the export is not as asked (%s), and is not changed there" % str(plan[0]).rstrip("."),
            "Change it on the server, or describe it as it is.",
            {"differences": [str(action) for action in plan]},
        )


def refuse_extent(spec: ImageSpec, reading: ImageReading) -> None:
    """An extent is changed or removed with its image only."""
    extent = reading.extent_of
    if extent:
        raise refused(spec, "vmdk_extent", extent.sentence, extent.way_out, {"descriptor": extent.descriptor or None})


def refuse_foreign_content(spec: ImageSpec, reading: ImageReading) -> None:
    """The bytes must be of the declared format, or of one that a rewrite may start from."""
    if reading.signature:
        _refuse_signature(spec, reading)
        return
    if spec.format == "raw" and _hides_another_format(spec, reading):
        raise refused(
            spec,
            "format_mismatch",
            "it is declared raw, but its first bytes are those of %s" % ", ".join(reading.detected),
            "Correct format; or, if a guest wrote them into its raw disk, set allow_nested_header to true.",
            {"asked": "raw", "found": list(reading.detected)},
        )
    if reading.header is None:
        raise _other_format(spec, reading)
    damaged = damage(spec, reading.header, reading.kind, reading.length)
    if damaged:
        raise damaged
    if reading.lacking:
        way_out = "Put the file back, or restore the image with all its files from a copy."
        raise refused(spec, reading.lacking[0], reading.lacking[1], way_out, {"lacking": reading.lacking[1]})


def _refuse_signature(spec: ImageSpec, reading: ImageReading) -> None:
    """A raw device is its content."""
    if spec.format != "raw":
        raise refused(
            spec,
            "signature_present",
            "the %s carries %s" % (reading.thing, reading.signature),
            "Wipe it with the tool that made it (wipefs, blkdiscard) if it is not needed any more.",
            {"signature": reading.signature},
        )


def _other_format(spec: ImageSpec, reading: ImageReading) -> errors.RefusedError:
    looks = ", but looks like %s" % ", ".join(reading.detected) if reading.detected else ""
    fact = "what is there is not %s%s" % (spec.format, looks)
    way_out = "Set format to what it is; or, to convert it, name its format in current_format and set allow_rewrite."
    if not reading.detected:
        fact += ", nor another format that is known"
        way_out = "Correct path; or, if that is a disk without a format, set format to raw."
    elif spec.format in reading.detected and reading.record.get("format") == "raw":
        fact = "it was made raw, and looks like %s now, as a guest can make it" % spec.format
        way_out = "If a program has made an image over it, make it under another name: the file remembers what it was."
    return refused(spec, "format_mismatch", fact, way_out, {"asked": spec.format, "found": list(reading.detected)})


def damage(spec: ImageSpec, header: Header, kind: str, length: int) -> t.Optional[errors.RefusedError]:
    """Why QEMU is not to open the image at all; C(kind), C(length): of what it is in."""
    if header.shortage(length) and kind == "file":
        return refused(
            spec,
            "image_damaged",
            header.shortage(length),
            "Restore it from a copy.",
            {"length": length, "needed": header.least_length},
        )
    if header.data_file and not header.data_file.startswith("/"):
        return refused(
            spec,
            "relative_data_file",
            "it names its data file %s relative to wherever a program runs" % header.data_file,
            "Name the data file by an absolute path (qemu-img amend -o data_file=, in the directory of the image).",
            {"data_file": header.data_file},
        )
    if header.corrupt and spec.repair != "all":
        return refused(spec, "image_corrupt", "it is marked corrupt", "Set repair to all, after a backup.")
    if header.unknown_features:
        return refused(
            spec,
            "unknown_features",
            "it uses features that are not known here: %s" % ", ".join(header.unknown_features),
            "Use a newer version of this collection.",
            {"unknown_features": list(header.unknown_features)},
        )
    return None


def _hides_another_format(spec: ImageSpec, reading: ImageReading) -> bool:
    """Bytes of another format in what is declared raw, unless we made it raw, or the task says that a guest did it."""
    if spec.allow_nested_header or reading.record.get("format") == "raw":
        return False
    return bool(reading.detected) and reading.header is not None and reading.header.format == "raw"


def refuse_bad_base(spec: ImageSpec, reading: ImageReading) -> None:
    """The base must be there, be what it is declared to be, and lead nowhere back."""
    base = reading.base
    if spec.backing is None or base is None:
        return
    if not base.exists:
        raise refused(
            spec,
            "base_missing",
            "its backing file %s does not exist" % base.path,
            "Make the base first, in the same list of images or in an earlier task (which in check mode has not made it).",
            {"backing_file": base.path},
        )
    _refuse_undeclared_base(spec, reading)
    if base.chain_problem:
        reason, sentence = base.chain_problem
        mend = "Mend the backing chain of %s." % base.path
        way_out = _MENDING[reason] if reason == "import_unfinished" else mend
        raise refused(spec, reason, sentence, way_out, {"backing_file": base.path})
    if spec.path in base.in_chain_of:
        raise refused(
            spec,
            "backing_loop",
            "it is itself in the backing chain of %s" % base.path,
            "Name another base.",
            {"chain": list(base.in_chain_of)},
        )


def _refuse_undeclared_base(spec: ImageSpec, reading: ImageReading) -> None:
    base, backing = reading.base, spec.backing
    if base is None or backing is None:
        return
    declared_raw_looks_else = backing.format == "raw" and base.detected and not spec.allow_nested_header
    if (backing.format != "raw" and backing.format not in base.detected) or declared_raw_looks_else:
        raise refused(
            spec,
            "format_mismatch",
            "its backing file %s is declared %s, but its bytes say %s"
            % (base.path, backing.format, ", ".join(base.detected) or "no known format"),
            "Set backing.format to what it is.",
            {"backing_file": base.path, "asked": backing.format, "found": list(base.detected)},
        )


_MENDING = {
    "backing_format_missing": "Record it: by a task with backing.path and backing.format only; or, where others are built "
    "on that image, by qemu-img rebase -u -b NAME -F FORMAT.",
    "base_missing": "Put it back; or, if it has been moved, name its new place in backing, for the image that names it.",
    "import_unfinished": "Import to it again first, with source_policy: if_changed.",
    "image_encrypted": "Have it flattened by what knows both secrets: its VM (block-stream), or qemu-img convert.",
}


def refuse_broken_chain(spec: ImageSpec, reading: ImageReading, *, present: bool = True, base: bool = False) -> None:
    """QEMU reads a looping chain for ever, what lies under a missing link cannot be read at all, and a link can lead it
    anywhere. It opens the C(present) chain of the image, or the asked C(base), or both.
    """
    problem = reading.chain_problem if present else None
    problem = problem or (reading.base.opening_problem if base and reading.base else None)
    if problem:
        way_out = _MENDING.get(problem[0], "Mend the backing chain first.")
        raise refused(spec, problem[0], problem[1], way_out, {"chain": problem[1]})


def refuse_split_backup(spec: ImageSpec, reading: ImageReading) -> None:
    """The descriptor alone would be no backup, and its extents have one name each."""
    files = list(reading.members) + ([reading.header.data_file] if reading.header and reading.header.data_file else [])
    if spec.backup and files:
        raise refused(
            spec,
            "backup_unsupported",
            "its content is in other files (%s), of which no second copy can be kept under another name" % files[0],
            "Leave backup out, and copy its files first if they are needed.",
            {"members": files},
        )


def refuse_squatted_members(spec: ImageSpec, reading: ImageReading) -> None:
    """A new split image must not take over files that are there."""
    if reading.squatters:
        raise refused(
            spec,
            "member_exists",
            "where its members or its data file would be, there are other files: %s" % ", ".join(reading.squatters[:5]),
            "Remove those files, or choose another name for the image.",
            {"members": list(reading.squatters)},
        )


def refuse_hard_links(spec: ImageSpec, reading: ImageReading, plan: t.Sequence[t.Any]) -> None:
    """A new file takes one name only; the other names would keep the old content."""
    if reading.kind == "file" and reading.other_names and any(action.replaces_file for action in plan):
        raise refused(
            spec,
            "hardlinked",
            "the file has %d names, and only this one would lead to the new file" % (reading.other_names + 1),
            "Remove the other names (find -samefile shows them).",
            {"links": reading.other_names + 1},
        )


#: all that there is beyond the new end. Linux (block/partitions/efi.c) and libfdisk take no first GPT that names sectors
#: beyond the end of its disk: without the copy anew, nobody finds the partitions
GPT_COPY = "nothing but the copy of its partition table (GPT)"


def refuse_shrink(spec: ImageSpec, old: int, data_end: t.Optional[t.Tuple[int, str]], what: str = "it") -> None:
    """A smaller size needs consent; data beyond the new end needs its own."""
    new = t.cast(int, spec.effective_size)
    if not spec.allow_shrink:
        raise refused(
            spec,
            "shrink_refused",
            "%s is %s, and %s would cut off its end" % (what, size.human(old), size.human(new)),
            "Set allow_shrink to true to agree.",
            {"virtual_size": old, "size": new},
        )
    if data_end and data_end[0] > new and not spec.discard_data:
        raise refused(
            spec,
            "shrink_cuts_data",
            "%s reaches to byte %d, and the new end would be byte %d" % (data_end[1], data_end[0], new),
            "Set discard_data to true, and put the table right (sgdisk -e) before the disk is used: as it is then, Linux "
            "finds no partitions on it."
            if data_end[1] == GPT_COPY
            else "Shrink what is inside first, or set discard_data to true to lose it.",
            {"data_end": data_end[0], "size": new, "what": data_end[1]},
        )
