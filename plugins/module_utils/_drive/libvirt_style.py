# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives in libvirt's XML, as one more style: written, and read. Pure.

Apart from C(styles), so that what has to do with QEMU only is not sent to hosts with all that knows libvirt's words.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    contradictions,
    libvirt,
    libvirt_read,
    read_spec,
    styles,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec, Node, sorted_options

#: what cannot stand in XML, escaped or not (its C(Char))
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def disks(spec: DrivesSpec, *, lossy: bool = False, controllers: bool = False) -> t.List[str]:
    """A C(<disk>) for each drive, behind a C(<controller>) for each of theirs. Raises SpecError as C(styles.render) does."""
    contradictions.check(spec)
    spec = replace(spec, drives=tuple(_with_format(each) for each in spec.drives))
    taken: t.Set[str] = set()
    try:
        disks = [libvirt.text_of(libvirt.disk(each, spec, taken)) for each in spec.drives]
        _refuse_unwritable("".join(disks))
    except libvirt.NoWordsError as exc:
        raise styles.cannot("libvirt", [str(exc)], ".") from exc
    lost = styles.lost_in(spec, read("".join(disks), spec.machine)[0])
    styles.refuse_loss("libvirt", lost, lossy)
    found = [libvirt.controller(each) for each in spec.controllers if controllers]
    return [libvirt.text_of(each) for each in found if each is not None] + disks


def _refuse_unwritable(text: str) -> None:
    found = _NOT_XML.search(text)
    if found:
        raise libvirt.NoWordsError("%r, for which XML has no place" % found[0])


def _with_format(drive: Drive) -> Drive:
    """libvirt has always a format: a protocol node alone is C(raw) to it, which is the same disk."""
    node = drive.backend
    if node is None or node.driver not in block_options.PROTOCOLS:
        return drive
    common = {key: value for key, value in node.options if key in block_options.COMMON}
    below = Node(node.driver, tuple(pair for pair in node.options if pair[0] not in common))
    return replace(drive, backend=Node("raw", sorted_options(common), (("file", below),), node.name))


def read(text: str, machine: str = "") -> t.Tuple[DrivesSpec, t.List[str]]:
    """The drives of libvirt's XML, and notes. Raises ValueError (a sentence), SpecError.

    C(machine): its type, where the XML does not say it, as a C(<disk>) alone does not.
    """
    tasks, family, notes = libvirt_read.parse(text, machine)
    return read_spec.read(tasks, family), notes
