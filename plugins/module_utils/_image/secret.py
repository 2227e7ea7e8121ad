# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether the secret that a task gives opens the image that is there: asked before anything is done. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, qemu_io
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import image_node

#: crypto/block-luks.c
_WRONG = "Invalid password"

Node = t.Mapping[str, t.Any]


def has_luks(header: Header) -> bool:
    """Whether it takes a secret to read the image. (The old AES of qcow and qcow2 is no LUKS, and takes any secret.)"""
    return header.format == "luks" or header.options.get("encrypt_format") == "luks"


def opened_node(spec: ImageSpec, header: Header, file: Node) -> t.Tuple[t.Dict[str, t.Any], t.List[t.Tuple[str, str]]]:
    """(the node of the image in C(file), the secrets that it takes): none for one that is not encrypted."""
    encrypted = has_luks(header)
    return image_node(header.format, file, "sec0" if encrypted else None), spec.secrets if encrypted else []


def source_node(spec: ImageSpec, header: Header, file: Node) -> t.Tuple[t.Dict[str, t.Any], t.List[t.Tuple[str, str]]]:
    """As C(opened_node), of the source of an import."""
    encrypted = has_luks(header)
    return image_node(header.format, file, "sec1" if encrypted else None), spec.import_secrets if encrypted else []


def is_wrong(exc: errors.ToolError) -> bool:
    """Whether QEMU says that the secret opens nothing."""
    return _WRONG in exc.stderr


def refuse_closed(run_command: process.RunCommand, spec: ImageSpec, header: Header, file: Node) -> None:
    """An image that is to be read or changed must open: no secret, and a wrong one, are refused."""
    if not has_luks(header):
        return
    if not spec.secrets:
        raise refuse.refused(
            spec, "secret_missing", "it is encrypted, and no secret is given", "Set encryption.secret."
        )
    node, secrets = opened_node(spec, header, file)
    try:
        qemu_io.GuestView(run_command, node, header.virtual_size, secrets).open()
    except errors.ToolError as exc:
        if not is_wrong(exc):
            raise
        raise refuse.refused(
            spec, "wrong_secret", "the secret opens none of its key slots", "Correct encryption.secret."
        ) from exc
