# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of an initramfs. Pure; what must not be done is refused here."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._initramfs import actions
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.spec import NBD_RAID, InitramfsSpec, Root
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.state import InitramfsReading, InitramfsState

Plan = t.List[Action[InitramfsState]]


def plan_initramfs(spec: InitramfsSpec, state: InitramfsState, reading: InitramfsReading, foreign: str = "") -> Plan:
    """The steps to what C(spec) asks. C(foreign): why what lies there is not ours."""
    if reading.problem:
        reason, fact, way_out = reading.problem
        raise _refused(spec, reason, fact, way_out, reading.evidence)
    if foreign:
        raise _refused(spec, "initramfs_foreign", foreign, "Move it away, or correct path.", {"path": spec.path})
    if spec.root is None:
        return [actions.RemoveInitramfs(spec.path)] if state.present else []
    if state.sha256 == reading.sha256:
        return []
    length, root = len(reading.content), root_of(spec.root)
    return [
        actions.WriteInitramfs(spec.path, reading.sha256, length, spec.release, root, new=not state.present),
    ]


def root_of(root: Root) -> str:
    """How a root is called in a sentence."""
    if root.kind == NBD_RAID:
        return "an array over NBD (%s, %d legs)" % (root.uuid, len(root.legs))
    return "%s (%s)" % (root.kind, root.source)


def _refused(
    spec: InitramfsSpec, reason: str, fact: str, way_out: str, evidence: t.Mapping[str, t.Any]
) -> errors.RefusedError:
    return errors.RefusedError(
        "the initramfs", spec.path, fact, reason=reason, way_out=way_out, evidence=evidence, joined=""
    )
