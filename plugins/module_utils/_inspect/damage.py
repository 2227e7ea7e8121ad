# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether an image is whole, as far as QEMU can tell: it reads as zeros what lies beyond the end of a file. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import features
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import Node, QemuImg, image_node

Secrets = t.Sequence[t.Tuple[str, str]]
#: bytes of tables that are read of a qcow image: those of a TiB
_TABLES = 2 << 30


class Damage(t.NamedTuple):
    """What is wrong, as a sentence, and what of the report says so."""

    fact: str
    report: t.Mapping[str, t.Any]


def damage_of(qemu_img: QemuImg, node: Node, secrets: Secrets = ()) -> t.Optional[Damage]:
    """What C(qemu-img check) finds in the image of C(node); None when nothing. Where it has no check of the format, the
    image must open. Raises ToolError when QEMU cannot read it.
    """
    if not features.FEATURES[node["driver"]].check:
        qemu_img.measure(node, "raw", secrets)
        return _qcow_damage(node["file"]["filename"]) if node["driver"] == "qcow" else None
    report = qemu_img.check(node, secrets=secrets)
    found = {key: report[key] for key in ("corruptions", "check-errors") if report.get(key)}
    counts = [words.counted(int(number), key.rstrip("s").replace("-", " ")) for key, number in found.items()]
    return Damage("qemu-img check finds %s" % " and ".join(counts), report) if found else None


def damage_alone(qemu_img: QemuImg, path: str, header: Header, secrets: Secrets = ()) -> t.Optional[Damage]:
    """As C(damage_of), of one link of a chain without what is below it. An image that QEMU cannot open is damaged."""
    if header.format == "raw":
        return None
    file = files.local_node(files.file_facts(path))
    node = image_node(header.format, file, "sec0" if header.has_luks else None)
    try:
        return damage_of(qemu_img, dict(node, backing=None), secrets if header.has_luks else ())
    except (errors.ToolTimeoutError, errors.ImageLockedError):  # what is going to read it says so
        return None
    except errors.ToolError as exc:
        return Damage("qemu-img cannot read it: %s" % exc.stderr.strip(), {})


def _qcow_damage(path: str) -> t.Optional[Damage]:
    from ansible_collections.platter.qemu.plugins.module_utils._formats import qcow

    with files.FileReader(path, budget=_TABLES) as reader:
        needed = qcow.data_end(reader)
        if needed <= reader.length:
            return None
    report = {"length": reader.length, "needed": needed}
    return Damage("the file has %d bytes, and by its tables it needs %d" % (report["length"], needed), report)
