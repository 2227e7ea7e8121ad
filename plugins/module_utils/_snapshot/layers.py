# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes the layers of an image that nobody has open: overlays put on, merged, and left.

Every step is ordered so that the disk is old or new at any moment, and that a next run can tell what a killed one left:
what a file is in the family stands in its own record (C(snapshot)): C(made) for an overlay of ours; C(name) and C(date)
for a point, with C(leaf) when it was left rather than built on; C(merging), the overlay that is being copied into it,
and C(heir), the point that it will be after that.
"""

from __future__ import annotations

import os
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import fingerprint, look_at
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layer_actions import (
    AddOverlay,
    CommitOverlay,
    RemoveLayer,
    RevertOverlay,
    StreamBase,
    SwitchLink,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import SnapshotReading
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import (
    BuildDirectory,
    file_facts,
    fsync_path,
    publish_new,
    publish_over,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node
from ansible_collections.platter.qemu.plugins.module_utils._tools.records import (
    read_record,
    remove_record,
    write_record,
)

Notes = t.Dict[str, t.Any]


class LayerEditor:
    """One method per action. C(dress(built, like)): gives a new file the owner, mode and label of another."""

    def __init__(self, qemu_img: QemuImg, dress: t.Callable[[str, str], None]) -> None:
        self._qemu_img = qemu_img
        self._dress = dress

    # --- overlays

    def add(self, spec: SnapshotSpec, action: AddOverlay, reading: SnapshotReading) -> Notes:
        """Freeze the active file and put an overlay on it."""
        base = str(action.point.path)
        with image_lock(action.active, readers=False):
            self._still_there(spec, action.active, reading)
            note_point(action.active, action.point.name)
            with self.built(action.overlay, action.active, base, action.format, action.relative) as build:
                if action.renames:
                    self._give_second_name(spec, action.active, base)
                    _publish_over(spec, build.path, action.overlay, reading.identity)
                else:
                    self.publish(spec, build.path, action.overlay, reading)
        fsync_path(os.path.dirname(action.overlay))
        return {}

    def built(self, overlay: str, like: str, base: str, base_format: str, relative: bool = False) -> _Overlay:
        """A context with a finished overlay on C(base), in a private directory beside its place."""
        return _Overlay(self._qemu_img, self._dress, overlay, like, base, base_format, relative)

    @staticmethod
    def publish(spec: SnapshotSpec, built: str, overlay: str, reading: SnapshotReading) -> None:
        """Give a new overlay its name; an empty one of ours that was never used is replaced."""
        if overlay in reading.unused_overlays:
            os.unlink(overlay)
        if not publish_new(built, overlay):
            raise _taken(spec, overlay)

    @staticmethod
    def _still_there(spec: SnapshotSpec, path: str, reading: SnapshotReading) -> None:
        if file_facts(path, follow=False).identity != reading.identity:
            raise _taken(spec, path)

    @staticmethod
    def _give_second_name(spec: SnapshotSpec, path: str, second: str) -> None:
        """A killed run may have given it already."""
        if not os.path.lexists(second):
            os.link(path, second)
        elif not os.path.samefile(path, second):
            raise _taken(spec, second)
        write_record(second, read_record(path))  # where there are no attributes, what is remembered goes by the name
        fsync_path(os.path.dirname(second))

    def revert(self, spec: SnapshotSpec, action: RevertOverlay, reading: SnapshotReading) -> Notes:
        """Put an empty overlay on a point, in the place of the active file, which is kept as a point or goes."""
        base = str(action.point.path)
        with image_lock(action.active, readers=False), image_lock(base):
            self._still_there(spec, action.active, reading)
            with self.built(action.active, action.active, base, action.format) as build:
                if action.saved:
                    note_point(action.active, action.saved.name, leaf=True)
                    self._give_second_name(spec, action.active, str(action.saved.path))
                _publish_over(spec, build.path, action.active, reading.identity)
        fsync_path(os.path.dirname(action.active))
        return {}

    @staticmethod
    def switch_link(spec: SnapshotSpec, action: SwitchLink, reading: SnapshotReading) -> Notes:
        """Lead the symbolic link to the active file, in one step."""
        switch_link(spec.image, action.target)
        return {}

    # --- merges

    def commit(self, spec: SnapshotSpec, action: CommitOverlay, reading: SnapshotReading) -> Notes:
        """Copy the overlay down into the point's file, put what is above onto it, and let the overlay go."""
        begin_merge(action.base, action.overlay)
        top = image_node("qcow2", {"driver": "file", "filename": action.overlay})
        self._qemu_img.commit(top)
        fsync_path(action.base)
        for above in action.above:
            self._put_onto(above, action.base, action.base_format)
        if action.renames:
            os.rename(action.base, action.overlay)
            remove_record(action.base)
        else:
            remove_layer(action.overlay)
        end_merge(action.overlay if action.renames else action.base)
        fsync_path(os.path.dirname(action.base))
        return {}

    def _put_onto(self, overlay: str, base: str, base_format: str) -> None:
        """Only the name changes: the two bases hold the same now."""
        node = image_node("qcow2", {"driver": "file", "filename": overlay})
        self._qemu_img.unsafe_rebase(node, base, base_format)
        remember_base(overlay, base)
        fsync_path(overlay)

    def stream(self, spec: SnapshotSpec, action: StreamBase, reading: SnapshotReading) -> Notes:
        """Copy what the point's file holds up into the overlay; the file goes, or is no point any more."""
        node = image_node("qcow2", {"driver": "file", "filename": action.overlay})
        self._qemu_img.rebase(node, action.new_base or "", action.new_base_format or "")
        fsync_path(action.overlay)
        remember_base(action.overlay, action.new_base)
        if action.keeps:
            forget_point(action.base)
        else:
            remove_layer(action.base)
        return {}

    @staticmethod
    def remove(spec: SnapshotSpec, action: RemoveLayer, reading: SnapshotReading) -> Notes:
        """Remove a point's file that nothing is built on."""
        remove_layer(str(action.point.path))
        return {}


class _Overlay:
    """See LayerEditor.built."""

    def __init__(
        self,
        qemu_img: QemuImg,
        dress: t.Callable[[str, str], None],
        overlay: str,
        like: str,
        base: str,
        base_format: str,
        relative: bool,
    ) -> None:
        self._make = (qemu_img, dress, overlay, like, base, base_format, relative)
        self._build = BuildDirectory(overlay)

    def __enter__(self) -> BuildDirectory:
        qemu_img, dress, overlay, like, base, base_format, relative = self._make
        build = self._build.__enter__()
        try:
            there = base if os.path.lexists(base) else like  # it may be about to get that name
            header = look_at(there, base_format).header
            size = header.virtual_size if header else None
            name = os.path.relpath(base, os.path.dirname(overlay)) if relative else base
            qemu_img.create(build.path, "qcow2", size, backing=(name, base_format), open_backing=False)
            record = {"format": "qcow2", "options": {}, "snapshot": {"made": time.time()}}
            write_record(build.path, dict(record, base=fingerprint(file_facts(there))), overlay)
            dress(build.path, like)
            fsync_path(build.path)
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
    with BuildDirectory(place) as build:
        os.symlink(os.path.relpath(target, directory) if relative else target, build.path)
        os.rename(build.path, place)
    fsync_path(directory)


def _publish_over(spec: SnapshotSpec, built: str, path: str, identity: t.Tuple[int, int]) -> None:
    if not publish_over(built, path, identity):
        raise _taken(spec, path)


def _taken(spec: SnapshotSpec, path: str) -> RefusedError:
    return RefusedError(
        "a new layer",
        spec.image,
        "something else has appeared at %s meanwhile" % path,
        reason="changed_meanwhile",
        way_out="Run the task again.",
    )


def remove_layer(path: str) -> None:
    """Remove a file with what is remembered of it."""
    if os.path.lexists(path):
        os.unlink(path)
    remove_record(path)
    fsync_path(os.path.dirname(path))


# --- what is remembered


def note_point(path: str, name: str, *, leaf: bool = False) -> None:
    """Remember that the file is a point from now on; it counts only once something is built on it, or it is left."""
    snapshot = dict(_made(path), name=name, date=time.time())
    _remember(path, dict(snapshot, leaf=True) if leaf else snapshot)


def _made(path: str) -> t.Dict[str, t.Any]:
    """Whether it is an overlay of ours does not change with what it holds."""
    snapshot = read_record(path).get("snapshot") or {}
    return {name: snapshot[name] for name in ("made",) if name in snapshot}


def forget_point(path: str) -> None:
    """The file is no point any more."""
    _remember(path, _made(path))


def begin_merge(path: str, overlay: str) -> None:
    """Remember, on stable storage, that the file holds neither then nor now until the merge has ended."""
    heir = read_record(overlay).get("snapshot") or {}
    snapshot = dict(read_record(path).get("snapshot") or {}, merging=overlay)
    if heir.get("name"):
        snapshot.update(heir=heir["name"], heir_date=heir.get("date"))
    _remember(path, snapshot)


def end_merge(path: str) -> None:
    """The merge has ended: the file is what its overlay was, the active one or a point."""
    snapshot = read_record(path).get("snapshot") or {}
    heir = {"name": snapshot["heir"], "date": snapshot.get("heir_date")} if snapshot.get("heir") else {}
    _remember(path, dict(_made(path), **heir))


def _remember(path: str, snapshot: t.Mapping[str, t.Any]) -> None:
    record = read_record(path)
    record.pop("snapshot", None)
    write_record(path, dict(record, snapshot=dict(snapshot)) if snapshot else record)
    fsync_path(path)


def remember_base(path: str, base: t.Optional[str]) -> None:
    """Keep the fingerprint of an overlay's base as it is now in its record."""
    record = read_record(path)
    record.pop("base", None)
    record.pop("next_base", None)
    write_record(path, dict(record, base=fingerprint(file_facts(base))) if base else record)
