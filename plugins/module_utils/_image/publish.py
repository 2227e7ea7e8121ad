# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Publishes what was built: dressed, remembered, on stable storage, and then given its name in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, backups, data_file, space, state
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.members import member_paths
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, files, records
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock

Making = t.Union[actions.CreateImage, actions.ImportImage, actions.RewriteImage]


class Publisher:
    """Gives built images their names. C(attributes): sets owner, mode and context of finished files."""

    def __init__(self, attributes: t.Any) -> None:
        self._attributes = attributes

    def publish(
        self,
        spec: ImageSpec,
        action: Making,
        build: build_directory.BuildDirectory,
        reading: state.ImageReading,
        record: t.Dict[str, t.Any],
    ) -> t.Dict[str, t.Any]:
        header = self._verified(spec, action, build.path)
        members = member_paths(build.path, header)
        old = files.file_facts(spec.path, follow=False)
        records.write_record(build.path, self._record(action, record), spec.path)
        for member in members:
            self._attributes.dress(spec, member, spec.path if old.kind == "file" else None, reading.identity)
        data_file.finish_data_file(spec, self._attributes)
        for member in members:
            files.fsync_path(member)
        placed: t.List[str] = []
        try:
            for member in members[1:]:
                placed.append(self._place_member(member, spec))
            notes = self._give_name(spec, build.path, reading)
        except BaseException:
            for member in placed:
                os.unlink(member)
            raise
        for member in member_paths(spec.path, image.look_at(spec.path, action.format).header):
            self._attributes.set_flags(spec, member)
        files.fsync_path(os.path.dirname(spec.path))
        return notes

    def _verified(self, spec: ImageSpec, action: Making, path: str) -> t.Any:
        header = image.look_at(path, action.format).header
        named = action.backing.name if action.backing else None
        if header and header.backing_file != named:
            raise errors.FailedError(
                "failed: QEMU recorded the backing file %r instead of %r for %s. Nothing was changed."
                % (header.backing_file, named, spec.path)
            )
        expected = (action.format, action.virtual_size)
        found = (header.format, header.virtual_size) if header else ("nothing readable", 0)
        if found != expected and (action.virtual_size is not None or found[0] != action.format):
            raise errors.FailedError(
                "failed: QEMU made %s of %d bytes instead of %s of %s bytes for %s. Nothing was changed."
                % (*found, *expected, spec.path)
            )
        return header

    @staticmethod
    def _record(action: Making, record: t.Dict[str, t.Any]) -> t.Dict[str, t.Any]:
        options = dict(record.get("options") or {}) if record.get("format") == action.format else {}
        options.update(dict(action.options))
        record = dict(record, format=action.format, options=options)
        record.pop("base", None)
        record.pop("next_base", None)
        if action.backing:
            record["base"] = image.remembered_base(action.backing.path, action.backing.name)
        return record

    @staticmethod
    def _place_member(member: str, spec: ImageSpec) -> str:
        target = os.path.join(os.path.dirname(spec.path), os.path.basename(member))
        if not files.publish_new(member, target):
            raise errors.RefusedError(
                "a split image",
                spec.path,
                "a file with the name of its member %s is there" % target,
                reason="member_exists",
                way_out="Remove that file, or choose another name for the image.",
                evidence={"member": target},
                joined="at",
            )
        return target

    def _give_name(self, spec: ImageSpec, built: str, reading: state.ImageReading) -> t.Dict[str, t.Any]:
        if reading.kind == "absent":
            if not files.publish_new(built, spec.path):
                raise taken(spec)
            return {}
        with image_lock(spec.path, readers=False):
            backup = keep_backup(spec, reading.identity) if spec.backup else None
            if not files.publish_over(built, spec.path, reading.identity):
                raise taken(spec)
        return {"backup_file": backup} if backup else {}


#: the file system, the kernel or the file itself allows no second name
_NO_SECOND_NAME = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def keep_backup(spec: ImageSpec, identity: t.Tuple[int, int]) -> str:
    """Give the present file, C(identity) as it was observed, a second, dated name, on stable storage.

    That costs nothing, as the new image will be another file; where a file cannot have two names, it is copied. The
    name that a killed run has given to it serves as well.
    """
    given = backups.names_of(spec.path, identity)
    name = given[0] if given else backups.new_name(spec.path)
    try:
        if not given:
            os.link(spec.path, name, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_SECOND_NAME:
            raise
        _copy(spec, identity, name)
    files.fsync_path(os.path.dirname(name))
    return name


def _copy(spec: ImageSpec, identity: t.Tuple[int, int], name: str) -> None:
    """From the very file to a name that only root knows: in a user's own directory links can take the place of both."""
    from ansible_collections.platter.qemu.plugins.module_utils._tools import copy

    descriptor = os.open(spec.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if (facts.st_dev, facts.st_ino) != identity:
            raise taken(spec)
        space.require_space(spec, facts.st_blocks * 512)
        with build_directory.BuildDirectory(spec.path) as build:
            same = "/proc/self/fd/%d" % descriptor
            copy.copy_file(same, build.path)
            with contextlib.suppress(PermissionError):  # an ordinary user keeps a copy of one's own
                os.chown(build.path, facts.st_uid, facts.st_gid)
            shutil.copystat(same, build.path)
            files.fsync_path(build.path)
            if not files.publish_new(build.path, name):
                raise taken(spec)
    finally:
        os.close(descriptor)


def taken(spec: ImageSpec) -> errors.RefusedError:
    """Somebody else has changed the image's place since it was looked at."""
    return errors.RefusedError(
        "a new image",
        spec.path,
        "something else has appeared there meanwhile",
        reason="changed_meanwhile",
        way_out="Run the task again.",
        joined="at",
    )
