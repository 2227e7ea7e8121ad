# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether the files of this host are there with which a VM starts. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, proof


class _Needed(t.NamedTuple):
    """A path, and what to say where it is not there. C(whose): key and value of the evidence, beside the path."""

    path: str
    asked: str
    reason: str
    option: str
    whose: t.Tuple[str, str]


def refuse(made: definition.VmDefinition) -> None:
    """Raises RefusedError (image_missing, secret_missing, share_missing, kernel_missing)."""
    for each in _needed(made):
        if not os.path.exists(each.path):
            way_out = "Make it in an earlier task (which in check mode has not made it), or correct %s." % each.option
            evidence = {each.whose[0]: each.whose[1], "path": each.path}
            raise errors.RefusedError(
                each.asked,
                "VM " + made.vm,
                "%s does not exist" % each.path,
                reason=each.reason,
                way_out=way_out,
                evidence=evidence,
                joined="of",
            )


def _needed(made: definition.VmDefinition) -> t.Iterator[_Needed]:
    not_opened = proof.not_opened(made.spec)
    for claim in claims.of_spec(made.spec):
        if claim.local and claim.name and claim.drive not in not_opened:
            yield _Needed(claim.name, "drive " + claim.drive, "image_missing", "image.path", ("drive", claim.drive))
    for each in made.spec.objects:
        path = str(each.property("file") or "") if each.kind == "secret" else ""
        if path:
            yield _Needed(path, "object " + each.id, "secret_missing", "encryption.secret_file", ("object", each.id))
    for name, path, is_share in proof.paths(made.spec):
        if is_share:
            yield _Needed(path, "share " + name, "share_missing", "shares.path", ("share", name))
        else:
            yield _Needed(path, "the " + name, "kernel_missing", "boot." + name, ("option", "boot." + name))
