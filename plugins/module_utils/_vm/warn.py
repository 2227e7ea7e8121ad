# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition is taken with, and may not be meant: said at every run, until it is another one. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import words
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition
from ansible_collections.platter.qemu.plugins.module_utils._vm.spec import VmSpec


def warnings(made: definition.VmDefinition) -> t.List[str]:
    """Sentences."""
    found = []
    lost = made.lost()
    if lost:
        fact = "VM %s is started without %s" % (made.vm, "; ".join(lost))
        found.append("%s: style %s has no words for it, and lossy is set." % (fact, made.style))
    if _is_nothing(made):
        found.append("VM %s is defined without any drive, share, kernel or arguments." % made.vm)
    found += [_without_device(made.vm, each) for each in made.spec.drives if _is_unseen(each, made.spec)]
    return found


def built_on(vm: str, claim: claims.Claim, overlays: t.Sequence[str]) -> str:
    """C(overlays): the images that have the place of that claim as their backing file."""
    fact = "drive %s of VM %s is defined on %s, which is the backing file of %s" % (
        (claim.drive, vm, claim.name, words.listed(overlays, 5))
    )
    way_out = "Set image.path to the active overlay before the next start."
    return "%s. What the VM writes there would damage them, so its program start refuses to start it. %s" % (
        fact,
        way_out,
    )


def left_running(vm: str, pids: t.Collection[int], *, foretold: bool) -> str:
    """A VM that goes on while its definition goes. C(foretold): in a check, which has not stopped it."""
    fact = "VM %s runs (process %s), and goes on with images that no definition claims any more" % (
        (vm, words.listed(sorted(pids), 5))
    )
    if foretold:
        fact += ", unless an earlier task stops it, as this check has not done"
    return fact + ". Stop it (qemu_vm, state: stopped), or define it again."


def misspelt(asked: VmSpec, made: definition.VmDefinition) -> t.List[str]:
    """Drives that are to be absent and are not known, but others of nearly the same name are, of which the task says
    nothing.
    """
    known = {each.id for each in made.spec.drives}
    others = sorted(known - {str(each["id"]) for each in asked.drives})
    near = ((name, other) for name in asked.absent if name not in known for other in others)
    fact = "VM %s has no drive %s that could be made absent, and has a drive %s. Correct its id, if that is meant."
    return [fact % (made.vm, name, other) for name, other in near if _is_slip(name, other)]


def _is_slip(one: str, other: str) -> bool:
    """Two letters in another order, or one too many; other numbers mean others."""
    if [each for each in one if each.isdigit()] != [each for each in other if each.isdigit()]:
        return False
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) == len(longer):
        return sorted(one) == sorted(other)
    return any(longer[:at] + longer[at + 1 :] == shorter for at in range(len(longer)))


def _is_nothing(made: definition.VmDefinition) -> bool:
    spec = made.spec
    parts = (spec.drives, spec.nodes, spec.controllers, spec.objects, spec.shares, spec.boot, spec.shared_memory)
    return not any(parts) and not made.arguments


def _is_unseen(drive: Drive, spec: DrivesSpec) -> bool:
    """A drive without a device is a node that others can name, such as a backing file."""
    if drive.frontend is not None or drive.backend is None:
        return False
    own = {drive.id, *(node.name for node in drive.backend.walk())}
    named = {child for node in spec.all_nodes() for _role, child in node.children if isinstance(child, str)}
    return not own & named


def _without_device(vm: str, drive: Drive) -> str:
    fact = "drive %s of VM %s has no device, so the guest does not see it, and no other drive names its node"
    return (fact + ". Set device, such as virtio-blk-pci.") % (drive.id, vm)
