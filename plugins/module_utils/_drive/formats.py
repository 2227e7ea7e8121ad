# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Formats that a line does not say, and somebody knows: told by the paths of the images. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._drive import link, nodes

#: that an image as a whole can have
_FORMATS_TEXT = "raw qcow2 qcow qed luks vmdk vdi vhdx vpc parallels bochs cloop dmg"
_FORMATS = frozenset(_FORMATS_TEXT.split())


def fill_in(found: link.Found, formats: t.Mapping[str, str]) -> None:
    """Give the drives of C(-hda), C(-drive) and the like the format that C(formats) has for their path. Raises ValueError (a
    sentence) for a path that is not waiting for one, and for what is no format.
    """
    for path, format in formats.items():
        if str(format) not in _FORMATS:
            raise ValueError("formats has %r for %s, which is none of %s" % (format, path, ", ".join(sorted(_FORMATS))))
    used: t.Set[str] = set()
    for line in found.lines:
        path = "" if line.node is None or line.node.driver else nodes.local_file(line.node)
        if line.node is not None and path and path in formats:
            used.add(path)
            line.node = replace(line.node, driver=formats[path])
    unused = sorted(set(formats) - used)
    if unused:
        raise ValueError("formats names %s, which no drive has without a format" % ", ".join(unused))
