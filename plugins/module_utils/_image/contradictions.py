# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Options of one image that contradict each other or its format. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import find_option
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import EncryptionSpec, ImageSpec, SourceSpec


def refuse_contradictions(spec: ImageSpec) -> None:
    """Raises SpecError for the first thing that cannot be meant."""
    for fact, way_out in _contradictions(spec):
        raise errors.SpecError("the options", spec.path, fact, reason="bad_option", way_out=way_out)


def _contradictions(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    if spec.state == "absent":
        return
    if spec.format is None:
        yield "no format is given, and a format is never guessed for a write", "Set format."
        return
    features = FEATURES[spec.format]
    if not features.create:
        yield "QEMU cannot make %s images" % spec.format, "Choose another format."
    yield from _wrong_data_file(spec)
    yield from _wrong_source(spec)
    if spec.options or spec.backing:
        yield from _wrong_options(spec)
    if spec.place:
        yield from _wrong_for_a_place(spec)
    if spec.backing:
        yield from _backing_contradictions(spec)
    if spec.encryption:
        yield from _encryption_contradictions(spec.format, spec.encryption)
    if spec.repair and spec.repair not in features.repair:
        yield "QEMU has no repair for the format %s" % spec.format, "Leave repair out."
    if spec.compressed:
        yield from _compression_contradictions(spec)


def _compression_contradictions(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    features = FEATURES[str(spec.format)]
    holding = features.compression_subformats
    if not features.compression:
        yield "the format %s holds no compressed data" % spec.format, "Leave compressed out."
    elif holding and spec.option("subformat") not in holding:
        # qemu-img convert -c then writes it plain, and says nothing (7.2)
        fact = "of %s images only %s ones hold compressed data" % (spec.format, " and ".join(holding))
        yield fact, "Set options.subformat to %s, or leave compressed out." % holding[0]
    other = "encryption" if spec.encryption else "options.preallocation"
    if spec.encryption or spec.option("preallocation") not in (None, "off"):
        yield "both compressed and %s are given, which QEMU does not do at the same time" % other, "Set one of them."


def _encryption_contradictions(format_name: str, encryption: EncryptionSpec) -> t.Iterator[t.Tuple[str, str]]:
    if "luks" not in FEATURES[format_name].encryption:
        yield "the format %s is not encrypted" % format_name, "Use luks or qcow2, or leave encryption out."
    numbers = [slot.slot for slot in encryption.keyslots]
    if len(set(numbers)) != len(numbers) or not all(0 <= number <= 7 for number in numbers):
        yield "key slots are numbered 0 to 7, each given once", "Give each key slot a number of its own, from 0 to 7."
    if any(slot.active and slot.slot and not slot.new_secret_file for slot in encryption.keyslots):
        yield "a key slot that is to hold a key has no new secret", "Set new_secret or new_secret_file."


def _backing_contradictions(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    if spec.flatten:
        yield "both backing and flatten are given", "Set one of them."
    if not FEATURES[str(spec.format)].backing:
        yield "the format %s has no backing files" % spec.format, "Use qcow2."
    if spec.format == "qcow" and spec.backing and spec.backing.format == "raw":
        yield "qcow records no format of its base, so that QEMU would guess what a raw one is", "Use qcow2."
    if spec.backing and spec.backing.path == spec.path:
        yield "the image is its own backing file", "Name another base."
    if spec.source:
        yield "both source and backing are given", "Import the base first, then make an overlay of it."


def _wrong_options(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    from ansible_collections.platter.qemu.plugins.module_utils._formats.rules import validate_options

    options = dict(spec.options)
    if spec.backing:
        options.update(backing_file=spec.backing.path, backing_fmt=spec.backing.format)
    known = {name: value for name, value in options.items() if name in dict(spec.options) or _has(spec, name)}
    for problem in _managed_options(spec) + validate_options(str(spec.format), known):
        yield "options: %s" % problem, "Give only options that the format has, with values that it takes."


def _wrong_data_file(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    data_file = spec.option("data_file")
    if data_file is None:
        return
    if not str(data_file).startswith("/") or data_file == spec.path:
        yield (
            "options.data_file is not an absolute path of another file",
            "Write an absolute path, other than that of the image.",
        )
    if spec.source:
        yield "both source and options.data_file are given", "Import the image without a data file."


def _wrong_source(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    source = spec.source
    if source and source.secret_file and "luks" not in FEATURES[source.format].encryption:
        yield "a %s source is not encrypted" % source.format, "Leave source.secret out."
    if source and source.place and source.place.path is None:
        yield from _wrong_far_source(source)


#: what needs a file, a second name or another file
_FILES_ONLY = ("backing", "encryption", "repair", "backup", "compressed", "flatten", "current_format", "allow_rewrite")
_FILE_OPTIONS = ("data_file", "data_file_raw", "nocow", "extent_size_hint", "preallocation")


def _wrong_for_a_place(spec: ImageSpec) -> t.Iterator[t.Tuple[str, str]]:
    if spec.format not in ("raw", "qcow2"):
        yield "the format %s is not made in an NBD export" % spec.format, "Use raw or qcow2."
    if spec.source and spec.source.secret_file:
        way_out = "Import it into a file of this host first, and that file to the export."
        yield "an encrypted source is not written to an NBD export", way_out
    for name in (name for name in _FILES_ONLY if getattr(spec, name)):
        yield "%s is not possible in an NBD export" % name, "Leave %s out." % name
    for name in (name for name in _FILE_OPTIONS if spec.option(name) is not None):
        yield "options.%s is not possible in an NBD export" % name, "Leave it out."
    source = spec.source
    if source and source.place is None:
        yield "what is in an export cannot be compared with a URL", "Import the URL into a file, and that file."
    if source and source.place and source.place.path is None and source.format != "raw" and not source.trusted:
        way_out = "Import it into a file first, or set source.trusted to true."
        yield "a %s source on another host is not inspected" % source.format, way_out


def _wrong_far_source(source: SourceSpec) -> t.Iterator[t.Tuple[str, str]]:
    """QEMU reads it block by block, as what it is."""
    way_out = "Leave source.%s out, or bring the source to this host first (source.url does)."
    if source.checksum:
        yield "source.checksum is not known of a source that is no file of this host", way_out % "checksum"
    if source.compression not in ("auto", "none"):
        yield "a source that is no file of this host is not unpacked", way_out % "compression"


def _has(spec: ImageSpec, name: str) -> bool:
    return find_option(str(spec.format), name) is not None


def _managed_options(spec: ImageSpec) -> t.List[str]:
    """Create options of QEMU's that an option of the module stands for."""
    managed = [name for name, _value in spec.options if getattr(find_option(str(spec.format), name), "managed", False)]
    return ["%s follows from another option of the module" % name for name in managed]
