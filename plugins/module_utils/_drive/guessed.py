# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Drives whose format QEMU would guess. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import words
from ansible_collections.platter.qemu.plugins.module_utils._drive import finding, nodes
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec, Node

#: of what a message lists
_MOST_NAMED = 10


def found(spec: DrivesSpec) -> t.Iterator[finding.Finding]:
    """All of them at once, so that one task corrects them all."""
    drives = [(each.id, each.backend) for each in spec.drives if each.backend is not None and _is_guessed(each.backend)]
    if not drives:
        return
    images = {name: nodes.local_file(node) for name, node in drives}
    fact = "its format is not given, and QEMU would guess it from the first bytes"
    if all(node.option("read-only") is True for _name, node in drives):
        fact += ", which can be made to name other files of the host"
    else:
        fact += ": a guest that writes a header into a raw disk chooses what QEMU guesses"
    named = words.listed(["%s (%s)" % each if each[1] else each[0] for each in list(images.items())[1:]], _MOST_NAMED)
    fact += ". Nor are the formats of %s" % named if named else ""
    way_out = "Set image.format of each; of an ISO image it is raw." if named else "Set image.format."
    yield finding.Finding(drives[0][0], "format_missing", fact, way_out, more={"images": images})


def _is_guessed(node: Node) -> bool:
    return any(not each.driver for each in node.walk())
