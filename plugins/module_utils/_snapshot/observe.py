# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what one image has of snapshots and bitmaps. Read-only."""

from __future__ import annotations

import time
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, moment
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, InternalSnapshot
from ansible_collections.platter.qemu.plugins.module_utils._formats import qcow2_content
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records, state, target
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

#: first-level tables of an image and all its snapshots, in bytes; beyond it contents cannot be told apart
CONTENT_BUDGET = 64 << 20

Observed = t.Tuple[state.SnapshotState, state.SnapshotReading]


class Observer:
    """Observes one image after another. C(commands) gets what was said to running QEMUs."""

    def __init__(self, qemu_img: QemuImg, commands: t.List[t.List[str]]) -> None:
        self._qemu_img = qemu_img
        self._commands = commands
        self._vms: t.Any = None

    def look_anew(self) -> None:
        """Before images are observed together: each running QEMU is then looked at once more, for all of them."""
        self._vms = None

    def _find_live(self, spec: SnapshotSpec, paths: t.Sequence[str], bases: t.Any = None) -> t.Any:
        """The running QEMU that has one of the files open, or None. C(bases): see C(RunningVms.find)."""
        if not spec.qmp_socket:
            return None
        if self._vms is None:
            from ansible_collections.platter.qemu.plugins.module_utils._snapshot.live import RunningVms

            self._vms = RunningVms(self._commands)
        return self._vms.find(spec, paths, bases)

    def observe(self, spec: SnapshotSpec) -> Observed:
        """The state and the reading of C(spec)'s image. Raises RefusedError where nothing sound can be said."""
        path = target.target_of(spec.image)
        if spec.external:
            from ansible_collections.platter.qemu.plugins.module_utils._snapshot.observe_layers import observe_layers

            return observe_layers(spec, path, self._qemu_img, self._find_live)
        seen = image.look_at(path, spec.format, follow=False)
        if seen.header is None:
            return state.SnapshotState(spec.image, spec.kind, path, seen=False), self._reading(path, seen, None)
        live = self._find_live(spec, [path])
        reading = self._reading(path, seen, live)
        reading = replace(reading, other_kind=_external(spec, path, seen, reading))
        return _internal_state(spec, path, seen.header, live), _as_once_stopped(spec, reading)

    @staticmethod
    def _reading(path: str, seen: image.Seen, live: t.Any) -> state.SnapshotReading:
        return state.SnapshotReading(
            header=seen.header,
            identity=seen.facts.identity,
            kind=seen.facts.kind,
            detected=seen.detected,
            shortage=seen.shortage,
            chain_problem=chain.chain_problem(path, seen.header, image.chain_header),
            now=time.time(),
            live=live,
        )


def _as_once_stopped(spec: SnapshotSpec, reading: state.SnapshotReading) -> state.SnapshotReading:
    """A disk goes back only without the VM, or with its memory. So that all that is in the way is known before anybody stops
    the VM, it is judged as what the VM leaves; that this is still there is refused last (C(guard)).
    """
    if spec.state != "reverted" or spec.memory:
        return reading
    return replace(reading, live=None, to_end=reading.live)


def _external(spec: SnapshotSpec, path: str, seen: image.Seen, reading: state.SnapshotReading) -> t.Tuple[str, ...]:
    """The names of its external snapshots. Only the file of one, or an overlay of ours, has any."""
    if reading.chain_problem or not layer_records.is_layer(seen.record):
        return ()
    from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layer_directory import LayerDirectory

    return tuple(LayerDirectory(path, spec).names(path))


def _internal_state(spec: SnapshotSpec, path: str, header: Header, live: t.Any) -> state.SnapshotState:
    contents = None if live is not None else contents_of(path)
    return state.SnapshotState(
        image=spec.image,
        kind=spec.kind,
        active=path,
        virtual_size=header.virtual_size,
        content=contents.active if contents else None,
        points=_points(header, contents),
        bitmaps=bitmaps_of(header) if live is None else live.bitmaps,
    )


def contents_of(path: str) -> t.Optional[qcow2_content.Contents]:
    """What tells the contents of a qcow2 image and its snapshots; None where it cannot be told."""
    try:
        with files.FileReader(path, budget=CONTENT_BUDGET) as reader:
            return qcow2_content.read_contents(reader)
    except (errors.HeaderError, errors.EngineError):
        return None


def _points(header: Header, contents: t.Optional[qcow2_content.Contents]) -> t.Tuple[state.Point, ...]:
    """Oldest first, as the table has them."""
    tokens: t.Sequence[t.Optional[str]] = contents.snapshots if contents else [None] * len(header.snapshots)
    return tuple(_point(each, token, header.virtual_size) for each, token in zip(header.snapshots, tokens))


def _point(snapshot: InternalSnapshot, token: t.Optional[str], size: int) -> state.Point:
    found = size if snapshot.virtual_size is None else snapshot.virtual_size
    date = moment.seconds(snapshot.date_sec + snapshot.date_nsec / 1e9)
    memory = snapshot.vm_state_size
    return state.Point(snapshot.name, snapshot.id, token, found, date=date, vm_state_size=memory)


def bitmaps_of(header: Header) -> t.Tuple[state.BitmapState, ...]:
    """The persistent bitmaps, by name."""
    found = [state.BitmapState(b.name, "auto" in b.flags, b.granularity, "in-use" in b.flags) for b in header.bitmaps]
    return tuple(sorted(found, key=lambda each: each.name))
