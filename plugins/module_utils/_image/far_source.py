# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Sources that are no files of this host and that QEMU reads where they are (NBD, SSH): their size, and its limits."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place
from ansible_collections.platter.qemu.plugins.module_utils._image import gate
from ansible_collections.platter.qemu.plugins.module_utils._image.source import source_refused
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec, SourceSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import Node, QemuImg, image_node


def is_read_there(source: SourceSpec) -> bool:
    """Whether QEMU reads it there. What is neither raw nor trusted is fetched first, and inspected here."""
    far = source.place is not None and source.place.path is None
    return far and (source.format == "raw" or source.trusted)


def node_of(source: SourceSpec) -> Node:
    """The node of a source that QEMU reads where it is."""
    return image_node(source.format, t.cast(Place, source.place).node(), "sec1" if source.secret_file else None)


def size_of(qemu_img: QemuImg, spec: ImageSpec) -> int:
    """The virtual size in bytes. Raises RefusedError where nobody answers, or where it is more than the task allows."""
    source = t.cast(SourceSpec, spec.source)
    try:
        found = int(qemu_img.info(node_of(source), spec.import_secrets)["virtual-size"])
    except errors.ToolTimeoutError:
        raise
    except errors.ToolError as exc:
        said = str(exc.facts.get("stderr") or exc.message).strip().splitlines()
        fact = "it cannot be opened (%s)" % said[-1].rsplit("': ", 1)[-1]
        way_out = "Start the server, or correct source. In check mode an earlier task has not started it."
        raise source_refused(spec, "place_unreachable", fact, way_out, place=source.text) from exc
    if not source.trusted:
        gate.Gate(source.text, spec.path, spec.max_virtual_size).check_size(found)
    return found
