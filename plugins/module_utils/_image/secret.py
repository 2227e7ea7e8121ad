# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether the secret that a task gives opens the image that is there: asked before anything is done. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, refuse
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_secret
from ansible_collections.platter.qemu.plugins.module_utils._tools import process


def opened_node(
    spec: ImageSpec, header: Header, file: luks_secret.Node
) -> t.Tuple[t.Dict[str, t.Any], luks_secret.Secrets]:
    """(the node of the image in C(file), the secrets that it takes): none for one that is not encrypted."""
    return luks_secret.opened_node(header, file, spec.secrets)


def source_node(
    spec: ImageSpec, header: Header, file: luks_secret.Node
) -> t.Tuple[t.Dict[str, t.Any], luks_secret.Secrets]:
    """As C(opened_node), of the source of an import."""
    return luks_secret.opened_node(header, file, spec.import_secrets, "sec1")


def refuse_closed(run_command: process.RunCommand, spec: ImageSpec, header: Header, file: luks_secret.Node) -> None:
    """An image that is to be read or changed must open: no secret, and a wrong one, are refused."""
    problem = luks_secret.secret_problem(run_command, header, file, spec.secrets)
    if problem is not None:
        raise refuse.refused(spec, problem.reason, problem.fact, problem.way_out)


def refuse_losing_access(
    run_command: process.RunCommand, spec: ImageSpec, header: Header, change: actions.ChangeKeyslots
) -> None:
    """Some secret of the task opens a slot that stays: what is in a slot in use cannot be seen, so it is tried."""
    gone = [slot.slot for slot in change.changes if not slot.active]
    staying = [slot for slot in header.keyslots if slot not in gone]
    if not gone or len(gone) < len(change.changes):  # a slot that is set has a secret of the task's
        return
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_slots

    for secrets, slots in _known_keys(spec, staying):
        if luks_slots.opened_slot(run_command, spec.path, header, secrets, slots) is not None:
            return
    raise refuse.refused(
        spec,
        "last_keyslot",
        "no secret of the task opens a key slot that would be left (%s)" % ", ".join(map(str, staying)),
        "Give one that does: as encryption.secret, or as new_secret of its slot, which is then left as it is.",
        {"keyslots": staying},
    )


def _known_keys(spec: ImageSpec, staying: t.Sequence[int]) -> t.Iterator[t.Tuple[luks_secret.Secrets, t.Sequence[int]]]:
    """(a secret, the slots that it may open): the likely ones first, as each try costs the time of a key."""
    for slot in spec.encryption.keyslots if spec.encryption else ():
        if slot.slot in staying and slot.new_secret_file:
            yield [("sec0", slot.new_secret_file)], [slot.slot]
    yield spec.secrets, staying
