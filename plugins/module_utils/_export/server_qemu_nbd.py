# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""C(qemu-nbd): a process for each export, and all that QEMU knows of images. Pure."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export import qemu_nodes
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec

NAME, PROGRAM = "qemu_nbd", "qemu-nbd"


def cannot(spec: ExportSpec) -> str:
    """The first of the things asked that it cannot do."""
    if spec.daemon is not None:
        return "is a process of its own for each export"
    if spec.throttle and spec.snapshot is not None:
        return "does not throttle a snapshot"
    return qemu_nodes.cannot(spec)


def scratch(_options: t.Mapping[str, t.Any]) -> t.Sequence[str]:
    """It has all in memory."""
    return ()


def launcher(_spec: ExportSpec, _ground: Ground) -> t.List[str]:
    """It takes QEMU's lock itself."""
    return []


def command(spec: ExportSpec, ground: Ground) -> t.List[str]:
    """It must not leave with its first client, and is told the format of the image."""
    words = [
        ground.program,
        "--persistent",
        "--shared=%d" % spec.shared,
        "--export-name=" + spec.name,
        "--cache=" + spec.cache,
    ]
    words += ["--socket=%s" % spec.socket] if spec.bind is None else ["--bind=" + spec.bind, "--port=%d" % spec.port]
    words += _tls_words(spec.tls, ground) if spec.tls else []
    words += _object_words(qemu_nodes.objects(spec))
    if spec.read_only:
        words.append("--read-only")
    if spec.snapshot is not None:
        words.append("--load-snapshot=snapshot.name=" + spec.snapshot.replace(",", ",,"))
    words += ["--bitmap=" + name for name in spec.bitmaps]
    if spec.allocation_depth:
        words.append("--allocation-depth")
    if spec.discard:
        words.append("--discard=unmap")
    if spec.description is not None:
        words.append("--description=" + spec.description)
    return [*words, "json:" + json.dumps(qemu_nodes.image_node(spec, ground), sort_keys=True)]


def _tls_words(tls: TlsSpec, ground: Ground) -> t.List[str]:
    """As JSON (QEMU 6.0), commas in names are no separators."""
    made = qemu_nodes.tls_objects(tls, ground)
    return [*_object_words(made), "--tls-creds=" + made[0]["id"], *(["--tls-authz=authz0"] if len(made) > 1 else [])]


def _object_words(objects: t.Sequence[qemu_nodes.Node]) -> t.List[str]:
    return ["--object=" + json.dumps(each, sort_keys=True) for each in objects]
