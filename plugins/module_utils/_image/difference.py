# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which create options differ from what is asked, and which of them can be amended in place. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats.options import find_option
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState, Pairs


def observed_options(spec: ImageSpec, reading: ImageReading) -> Pairs:
    """The asked options as the image has them: told by its header, else remembered, else (unprovable) taken as asked.

    What neither QEMU nor a record can tell is left alone: an image made by hand is adopted, not remade.
    """
    header = _told(reading)
    remembered = dict(reading.record.get("options") or {})
    values = []
    for name, asked in spec.options:
        values.append((name, header.get(name, remembered.get(name, asked))))
    return tuple(values)


#: what a header would say: without it the image is not encrypted, and holds its data itself
_SAID_IF_SO = ("encrypt_format", "data_file")


def _told(reading: ImageReading) -> t.Dict[str, t.Any]:
    if reading.header is None:
        return {}
    return {**dict.fromkeys(_SAID_IF_SO), **reading.header.options}


def other_digest(spec: ImageSpec, state: ImageState) -> t.Optional[t.Tuple[str, str]]:
    """(digest of the source that the image was made from, the one that the task names), when they differ for certain."""
    declared = spec.source.checksum if spec.source and spec.source.policy == "if_absent" else None
    if not declared or not state.exists or not state.source or "://" in declared:
        return None
    return (state.source, declared) if of_one_kind(declared, state.source) and declared != state.source else None


def of_one_kind(first: str, second: str) -> bool:
    """Whether two digests (C(algorithm:hex)) can be compared at all."""
    return first.partition(":")[0] == second.partition(":")[0]


def unprovable_options(spec: ImageSpec, reading: ImageReading) -> t.List[str]:
    """Asked options that nothing can confirm."""
    header = _told(reading)
    remembered = reading.record.get("options") or {}
    return [name for name, _asked in spec.options if name not in header and name not in remembered]


def option_differences(spec: ImageSpec, state: ImageState) -> t.List[t.Tuple[str, t.Any, t.Any]]:
    """(name, as it is, as asked) for every asked option that differs."""
    current = dict(state.options)
    return [(name, current.get(name), asked) for name, asked in spec.options if current.get(name) != asked]


def amendable(spec: ImageSpec, reading: ImageReading, name: str, new: t.Any) -> bool:
    """Whether qemu-img amend brings this option to C(new) on this image without loss.

    QEMU 7.2 accepts compat=0.10 for a zstd image, which then has no valid header; and refuses it with snapshots inside.
    """
    option = find_option(t.cast(str, spec.format), name)
    if option is None or not option.amendable:
        return False
    if name == "compat" and new == "0.10":
        return not _needs_version_3(spec, reading)
    return True


def _needs_version_3(spec: ImageSpec, reading: ImageReading) -> bool:
    header = reading.header
    if header is None:
        return True
    options = header.options
    refcount_bits = spec.option("refcount_bits") or options.get("refcount_bits", 16)
    return bool(
        header.snapshots
        or header.bitmaps
        or header.data_file
        or options.get("extended_l2")
        or options.get("compression_type", "zlib") != "zlib"
        or refcount_bits != 16
    )


def kept_options(spec_options: Pairs, format_name: str, reading: ImageReading) -> Pairs:
    """What a rewrite in the same format takes over from the old image besides the asked options."""
    if reading.header is None or reading.header.format != format_name:
        return ()
    asked = dict(spec_options)
    kept = {**dict(reading.record.get("options") or {}), **reading.header.options}
    kept = {name: value for name, value in kept.items() if _kept(format_name, name)}
    return tuple(sorted((k, v) for k, v in kept.items() if k not in asked and v is not None))


def _kept(format_name: str, name: str) -> bool:
    option = find_option(format_name, name)
    return option is not None and not option.managed and name not in _NEVER_KEPT


#: a new file must not be given the old one's data file
_NEVER_KEPT = ("data_file", "data_file_raw")
