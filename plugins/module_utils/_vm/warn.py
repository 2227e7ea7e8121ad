# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition is taken with, and may not be meant: said at every run, until it is another one. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition


def warnings(made: definition.VmDefinition) -> t.List[str]:
    """Sentences."""
    found = []
    lost = made.lost()
    if lost:
        fact = "VM %s is started without %s" % (made.vm, "; ".join(lost))
        found.append("%s: style %s has no words for it, and lossy is set." % (fact, made.style))
    found += [_without_device(made.vm, each) for each in made.spec.drives if _is_unseen(each, made.spec)]
    return found


def built_on(vm: str, claim: claims.Claim, overlays: t.Sequence[str]) -> str:
    """C(overlays): the images that have the place of that claim as their backing file."""
    fact = "drive %s of VM %s is defined on %s, which is the backing file of %s" % (
        (claim.drive, vm, claim.name, ", ".join(overlays[:5]))
    )
    return (
        fact
        + ": what the VM writes there damages them, so start ends. Set image.path to the active overlay before the next start."
    )


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
