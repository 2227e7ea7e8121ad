# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether the secret that a task gives opens an image. Read-only. A secret is a pair (id, path of a file that holds it)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, qemu_io
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import image_node

#: crypto/block-luks.c
_WRONG = "Invalid password"

Node = t.Mapping[str, t.Any]
Secrets = t.Sequence[t.Tuple[str, str]]


class SecretProblem(t.NamedTuple):
    """Why an image does not open: what a refusal says."""

    reason: str
    fact: str
    way_out: str


def opened_node(
    header: Header, file: Node, secrets: Secrets, secret_id: str = "sec0"
) -> t.Tuple[t.Dict[str, t.Any], Secrets]:
    """(the node of the image in C(file), the secrets that it takes): none for one that is not encrypted."""
    return image_node(header.format, file, secret_id if header.has_luks else None), secrets if header.has_luks else []


def is_wrong(exc: errors.ToolError) -> bool:
    """Whether QEMU says that the secret opens nothing."""
    return _WRONG in exc.stderr


def secret_problem(
    run_command: process.RunCommand, header: Header, file: Node, secrets: Secrets
) -> t.Optional[SecretProblem]:
    """What keeps an image from opening: no secret, or a wrong one. None when it opens. Raises ToolError for the rest."""
    if not header.has_luks:
        return None
    if not secrets:
        return SecretProblem(
            "secret_missing",
            "it is encrypted, and no secret is given",
            "Set encryption.secret or encryption.secret_file.",
        )
    node, used = opened_node(header, file, secrets)
    if header.backing_file:  # what is below is none of this secret's
        node["backing"] = None
    try:
        qemu_io.GuestView(run_command, node, header.virtual_size, used).open()
    except errors.ToolError as exc:
        if not is_wrong(exc):
            raise
        return SecretProblem("wrong_secret", "the secret opens none of its key slots", "Give another secret.")
    return None
