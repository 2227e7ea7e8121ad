# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""How the VM comes to the disk when its file becomes another: what a task says, or what was said before. Pure."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import refuse
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotReading, SnapshotState


def with_switch(spec: SnapshotSpec, reading: SnapshotReading) -> SnapshotSpec:
    """The spec with the switch that counts: the task's own, else that of the task which made the active layer."""
    return spec if spec.switch else replace(spec, switch=reading.switch or "none")


def refuse_switch(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> None:
    """For a step by which the disk moves to another file: the VM must come to it. Raises RefusedError."""
    _refuse_link(spec, state)
    if spec.switch == "none" and reading.switch in ("rename", "symlink") and not spec.overlay:
        raise refuse.refused(
            spec,
            "switch_differs",
            "its layers were made with switch=%s, and the VM would still open the file of now, which is left"
            % reading.switch,
            "Leave switch out; or name in overlay the new file, which the VM is to open from then on.",
            {"switch": reading.switch},
        )
    if spec.switch == "rename" and reading.live is not None:
        raise refuse.refused(
            spec,
            "guest_running",
            "its VM runs, and QEMU knows its files by their names",
            "Stop the VM first; or set switch to none, and name the new file in overlay.",
        )


def _refuse_link(spec: SnapshotSpec, state: SnapshotState) -> None:
    if spec.switch == "symlink" and state.link is None:
        raise refuse.refused(
            spec,
            "no_symlink",
            "it is no symbolic link, so that there is nothing to lead elsewhere",
            "Name the link in image, if there is one; or rename the file and make a link of its old name.",
        )
    if spec.switch != "symlink" and state.link is not None:
        raise refuse.refused(
            spec,
            "is_symlink",
            "it is a symbolic link to %s, which would go on leading there" % state.link,
            "Set switch to symlink, or name the file.",
            {"target": state.link},
        )


def refuse_rename(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> None:
    """For a new overlay that is to take the name of the active file. Raises RefusedError."""
    if spec.switch != "rename":
        return
    children = reading.layers[state.active].children
    if children:
        raise refuse.refused(
            spec,
            "has_overlays",
            "other images have it as their backing file by that name: %s" % ", ".join(children[:5]),
            "Set switch to none.",
            {"overlays": list(children)},
        )
    if spec.overlay:
        raise refuse.refused(
            spec,
            "switch_differs",
            "with switch=rename, as its layers were made, the new overlay has the name of the image",
            "Leave overlay out; or set switch to none, and the VM is to open that file from then on.",
            {"switch": "rename"},
        )
    if reading.named != state.active and reading.switch != "rename":
        raise refuse.refused(
            spec,
            "not_active",
            "the disk is in %s now, and only that name would lead to the new overlay" % state.active,
            "Name that file in image, if the VM opens it by that name; or set switch to none.",
            {"active": state.active},
        )
