# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes the layers of an image that nobody has open: overlays put on, and left. C(merge) takes them out.

Every step is ordered so that the disk is old or new at any moment, and that a next run can tell what a killed one left:
see layer_records.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.place import relative_name
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    clones,
    family,
    layer_actions,
    layer_records,
    merge_actions,
    merge_stages,
    point_records,
    state,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, files, records
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

Notes = t.Dict[str, t.Any]


class LayerEditor:
    """One method per action. C(dress(like, built)): gives a new file the owner, mode and label of another."""

    def __init__(self, qemu_img: QemuImg, dress: t.Callable[[str, str], None]) -> None:
        self._qemu_img = qemu_img
        self._dress = dress

    # --- overlays

    def add(self, spec: SnapshotSpec, action: layer_actions.AddOverlay, reading: state.SnapshotReading) -> Notes:
        """Freeze the active file and put an overlay on it."""
        base = str(action.point.path)
        with image_lock(action.active, readers=False):
            self._still_there(spec, action.active, reading)
            clones.refuse_clones(spec, reading, clones.harmed(action))
            point_records.settle_left(family.points(reading.layers))
            noted = {"overlay": action.overlay, "called": base}
            with point_records.becoming_point(action.active, action.point.name, **noted), self.built(
                spec, action.overlay, action.active, base, action.format
            ) as build:
                if action.renames:
                    self._give_second_name(spec, action.active, base, reading)
                    _publish_over(spec, build.path, action.overlay, reading.identity)
                else:
                    self.publish(spec, build.path, action.overlay)
            files.fsync_path(os.path.dirname(action.overlay))  # before anything leads there
            layer_records.settle_point(base)
            if spec.switch == "symlink":  # before the lock goes: a VM must not start from what is frozen now
                switch_link(spec.image, action.overlay)
        return {}

    def built(self, spec: SnapshotSpec, overlay: str, like: str, base: str, base_format: str) -> _Overlay:
        """A context with a finished overlay on C(base), in a private directory beside its place."""
        return _Overlay(self._qemu_img, self._dress, spec, overlay, like, base, base_format)

    @staticmethod
    def publish(spec: SnapshotSpec, built: str, overlay: str) -> None:
        """Give a new overlay its name."""
        if not files.publish_new(built, overlay):
            raise _taken(spec, overlay)

    @staticmethod
    def _still_there(spec: SnapshotSpec, path: str, reading: state.SnapshotReading) -> None:
        if files.file_facts(path, follow=False).identity != reading.identity:
            raise _taken(spec, path)

    @staticmethod
    def _give_second_name(spec: SnapshotSpec, path: str, second: str, reading: state.SnapshotReading) -> None:
        """A killed run may have given it already."""
        layer_records.note_overlay(reading.layers[path].base, second, path)
        if os.path.lexists(second) and not os.path.samefile(path, second):
            raise _taken(spec, second)
        # before: where there are no attributes, what is remembered goes by the name
        records.write_record(path, records.read_record(path), second)
        if not os.path.lexists(second):
            os.link(path, second)
        files.fsync_path(os.path.dirname(second))

    def revert(self, spec: SnapshotSpec, action: layer_actions.RevertOverlay, reading: state.SnapshotReading) -> Notes:
        """Put an empty overlay on a point, in the place of the active file, which is kept as a point or goes."""
        base = str(action.point.path)
        relative = spec.relative or _is_relative(action.active)
        as_before = replace(spec, relative=relative, switch=reading.switch or spec.switch)
        with image_lock(action.active, readers=False), image_lock(base):
            self._still_there(spec, action.active, reading)
            _refuse_written(spec, action.active, reading)
            clones.refuse_clones(spec, reading, clones.harmed(action))
            layer_records.keep_leaf(reading.layers[action.active].base)
            layer_records.change_overlays(base, new=(action.active,))
            with contextlib.ExitStack() as noted:
                if action.saved:  # before the overlay has its record, which may go by the same name
                    how = {"leaf": True, "called": action.saved.path}
                    noted.enter_context(point_records.becoming_point(action.active, action.saved.name, **how))
                build = noted.enter_context(self.built(as_before, action.active, action.active, base, action.format))
                if action.saved:
                    self._give_second_name(spec, action.active, str(action.saved.path), reading)
                _publish_over(spec, build.path, action.active, reading.identity)
            if action.saved:
                layer_records.settle_point(str(action.saved.path))
            files.fsync_path(os.path.dirname(action.active))
        return {}

    @staticmethod
    def remove_unused(spec: SnapshotSpec, action: layer_actions.RemoveUnused, reading: state.SnapshotReading) -> Notes:
        """Remove an overlay that was never used; the image's name leads to what is below it from then on."""
        with image_lock(action.overlay, readers=False):
            if files.file_facts(action.overlay).stamp != action.stamp:
                raise changed_meanwhile(spec, "somebody has written to %s" % action.overlay)
            clones.refuse_clones(spec, reading, [action.overlay])
            if action.linked:
                switch_link(spec.image, action.active)
            layer_records.remove_layer(action.overlay)
            layer_records.change_overlays(action.active, gone=(action.overlay,))
        return {}

    @staticmethod
    def switch_link(spec: SnapshotSpec, action: layer_actions.SwitchLink, reading: state.SnapshotReading) -> Notes:
        """Lead the symbolic link to the active file, in one step."""
        if os.path.realpath(spec.image) != action.target:  # a merge, or a running VM, needed it earlier
            switch_link(spec.image, action.target)
        return {}


class _Overlay:
    """See LayerEditor.built."""

    def __init__(
        self,
        qemu_img: QemuImg,
        dress: t.Callable[[str, str], None],
        spec: SnapshotSpec,
        overlay: str,
        like: str,
        base: str,
        base_format: str,
    ) -> None:
        self._make = (qemu_img, dress, spec, overlay, like, base, base_format)
        self._build = build_directory.BuildDirectory(overlay, owner=like)

    def __enter__(self) -> build_directory.BuildDirectory:
        qemu_img, dress, spec, overlay, like, base, base_format = self._make
        build = self._build.__enter__()
        try:
            there = base if os.path.lexists(base) else like  # it may be about to get that name
            header = image.look_at(there, base_format).header
            size = header.virtual_size if header else None
            name = relative_name(base, os.path.dirname(overlay)) if spec.relative else base
            qemu_img.create(build.path, "qcow2", size, backing=(name, base_format), open_backing=False)
            record = {"format": "qcow2", "options": {}, "snapshot": {"made": time.time(), "switch": spec.switch}}
            records.write_record(build.path, dict(record, base=image.remembered_base(there, name)), overlay)
            dress(like, build.path)
            files.fsync_path(build.path)
        except BaseException:
            self._build.__exit__()
            raise
        return build

    def __exit__(self, *_unused: t.Any) -> None:
        self._build.__exit__()


def switch_link(link: str, target: str) -> None:
    """Lead a symbolic link elsewhere, in one durable step; as it was, relative or absolute."""
    relative = not os.path.isabs(os.readlink(link))
    directory = os.path.realpath(os.path.dirname(link))
    place = os.path.join(directory, os.path.basename(link))
    with build_directory.BuildDirectory(place) as build:
        os.symlink(os.path.relpath(target, directory) if relative else target, build.path)
        os.rename(build.path, place)
    files.fsync_path(directory)


def lead_to_base(spec: SnapshotSpec, action: t.Union[merge_actions.CommitOverlay, merge_actions.FinishMerge]) -> None:
    """Lead the image's name to the base, where it is a symbolic link to the overlay, whatever that is called now."""
    if os.path.islink(spec.image) and os.path.realpath(spec.image) in merge_stages.both_names(action.overlay):
        switch_link(spec.image, action.base)


def _is_relative(overlay: str) -> bool:
    """Whether an overlay names its base relative to its own directory."""
    header = image.look_at(overlay, None).header
    return bool(header and header.backing_file and not os.path.isabs(header.backing_file))


def as_before(overlay: str, base: str) -> str:
    """The name for a base of an overlay, relative if that of the base until now is."""
    return relative_name(base, os.path.dirname(overlay)) if _is_relative(overlay) else base


def _publish_over(spec: SnapshotSpec, built: str, path: str, identity: t.Tuple[int, int]) -> None:
    if not files.publish_over(built, path, identity):
        raise _taken(spec, path)


def _refuse_written(spec: SnapshotSpec, path: str, reading: state.SnapshotReading) -> None:
    """What was seen to be empty, or to be thrown away, must be that still."""
    if files.file_facts(path).stamp != reading.layers[path].stamp:
        raise changed_meanwhile(spec, "somebody has written to %s" % path)


def _taken(spec: SnapshotSpec, path: str) -> errors.RefusedError:
    return changed_meanwhile(spec, "something else has appeared at %s" % path)


def changed_meanwhile(spec: SnapshotSpec, fact: str) -> errors.RefusedError:
    """The refusal when something is not any more as it was observed."""
    return errors.RefusedError(
        "a change of its layers",
        spec.image,
        "%s meanwhile" % fact,
        reason="changed_meanwhile",
        way_out="Run the task again.",
    )
