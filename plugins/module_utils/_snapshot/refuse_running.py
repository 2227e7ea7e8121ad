# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals of what somebody has open, and of going back under a VM that runs: how that can be stopped. Pure."""

from __future__ import annotations

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.refuse import Evidence, refused
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import Point


def guest_running(spec: SnapshotSpec, point: Point) -> errors.RefusedError:
    """The memory of a running guest does not fit a disk of another time."""
    fact = "its VM runs, and the memory of the guest would not fit the disk of then"
    return refused(spec, "guest_running", fact, _stop_first(spec, point), {"qmp_socket": spec.qmp_socket})


def _stop_first(spec: SnapshotSpec, point: Point) -> str:
    warm = " Or set memory to true: the snapshot was taken so." if point.vm_state_size and not spec.external else ""
    return "Stop the VM first%s.%s" % (_how_to_stop(spec), warm)


def _how_to_stop(spec: SnapshotSpec) -> str:
    """The role knows no external snapshots."""
    of_role = "" if spec.external else "; the role vm_storage stops it by itself, with vm_storage_revert_to"
    return " (qemu_vm with state: stopped, if that has started it%s)" % of_role


def in_use(spec: SnapshotSpec, fact: str, evidence: Evidence = None) -> errors.RefusedError:
    """Somebody has the image, and that is no QEMU behind C(qmp_socket). To go back there, it would have to be stopped."""
    way_out = "Stop what uses it; or, for a running QEMU, set qmp_socket to its socket."
    if spec.state == "reverted" and not spec.memory:
        way_out = "Stop what uses it; of a running VM, that is the VM itself%s." % _how_to_stop(spec)
    return refused(spec, "image_in_use", fact, way_out, evidence)
