# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whither the drives lead the QEMU that opens them, and who else decides that or can read its secrets. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import opening
from ansible_collections.platter.qemu.plugins.module_utils._vm import besides, claims, definition, held


def refuse(made: definition.VmDefinition, opened: t.Iterable[held.Held]) -> None:
    """Raises RefusedError where others than root decide what root's QEMU opens (unsafe_directory, image_references_file),
    where an image leads to what only QEMU knows, and where others can read a secret (key_permissions).
    """
    for each in opened:
        if each.claim.local:
            _refuse(made.vm, "drive " + each.claim.drive, opening.to_name(each.claim.name))
        if each.claim.local and each.claim.format:
            _refuse(made.vm, "drive " + each.claim.drive, _to_image(each.claim))
    for key in besides.keys(made.spec):
        if not key.shared or os.path.exists(key.path):
            _refuse(made.vm, "drive " + key.of, opening.to_name(key.path))
            opening.refuse_readable(key.path, shared=key.shared, subject="VM " + made.vm)
    for asked, path in besides.paths(made.spec):
        _refuse(made.vm, asked, opening.to_name(path))


def _refuse(vm: str, asked: str, found: t.Optional[opening.Objection]) -> None:
    if found is not None:
        raise errors.RefusedError(
            asked,
            "VM " + vm,
            found.fact,
            reason=found.reason,
            way_out=found.way_out,
            evidence=found.evidence,
            joined="of",
        )


def _to_image(claim: claims.Claim) -> t.Optional[opening.Objection]:
    return opening.to_image(claim.name, claim.declared, writes=claim.writes, below=claim.chain)
