# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Changes an image in place, where QEMU does that without rewriting the data."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import words
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import options
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, data_file, publish, refuse, state
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec, Keyslot
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image, members
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    build_directory,
    copy,
    files,
    pinned,
    process,
    records,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.image_lock import image_lock
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg, image_node

Notes = t.Dict[str, t.Any]


class Editor:
    """One method per action; each ends with the image on stable storage and returns notes for the result."""

    def __init__(self, run_command: process.RunCommand, qemu_img: QemuImg, attributes: t.Any) -> None:
        self._run_command = run_command
        self._qemu_img = qemu_img
        self._attributes = attributes

    def _node(self, spec: ImageSpec, format_name: str, reading: state.ImageReading) -> t.Dict[str, t.Any]:
        protocol = {"driver": "host_device" if reading.kind == "block" else "file", "filename": spec.path}
        return image_node(format_name, protocol, "sec0" if spec.encryption else None)

    def resize(self, spec: ImageSpec, action: actions.ResizeImage, reading: state.ImageReading) -> Notes:
        """Grow or shrink."""
        if reading.live is not None:
            from ansible_collections.platter.qemu.plugins.module_utils._image import live

            told = live.grow(spec, action.virtual_size, reading.live)
            t.cast(process.Runner, self._run_command).commands.extend(told)
            return self._durable(spec)
        self._qemu_img.resize(
            self._node(spec, action.format, reading),
            action.virtual_size,
            shrink=action.shrink,
            secrets=spec.secrets,
        )
        return self._durable(spec)

    def amend(self, spec: ImageSpec, action: actions.AmendImage, reading: state.ImageReading) -> Notes:
        """Change options of the header."""
        arguments = [options.to_argument(name, value) for name, value in action.changes]
        self._qemu_img.amend(self._node(spec, action.format, reading), arguments, secrets=spec.secrets)
        record = records.read_record(spec.path)  # as it is now: a change of the base before this one has noted that
        record["options"] = dict(record.get("options") or {}, **dict(action.changes))
        if reading.kind == "file":
            records.write_record(spec.path, record)
        return self._durable(spec)

    def rebase(self, spec: ImageSpec, action: actions.RebaseImage, reading: state.ImageReading) -> Notes:
        """Change or drop the backing file."""
        node = self._node(spec, action.format, reading)
        if reading.kind == "file" and action.backing:
            self._announce_base(spec.path, action.backing)
        name, format_name = (action.backing.name, action.backing.format) if action.backing else ("", None)
        change = self._qemu_img.rebase if action.safe else self._qemu_img.unsafe_rebase
        change(node, name, format_name or "", spec.secrets)
        if reading.kind == "file":
            self.remember_base(spec.path, action.backing)
        return self._durable(spec)

    @staticmethod
    def _announce_base(path: str, base: state.Backing) -> None:
        """Written before the rebase, so that whichever base a killed run leaves the overlay with is known."""
        record = records.read_record(path)
        records.write_record(path, dict(record, next_base=image.remembered_base(base.path, base.name)))

    @staticmethod
    def remember_base(path: str, base: t.Optional[state.Backing]) -> None:
        """Keep the fingerprint of the base as it is now in the overlay's record."""
        record = records.read_record(path)
        record.pop("base", None)
        record.pop("next_base", None)
        if base:
            record["base"] = image.remembered_base(base.path, base.name)
        records.write_record(path, record)

    def accept_base(self, spec: ImageSpec, action: actions.AcceptBase, reading: state.ImageReading) -> Notes:
        """Remember the changed base as the right one."""
        name = (reading.header.backing_file if reading.header else None) or action.base
        self.remember_base(spec.path, state.Backing(action.base, None, name))
        return self._durable(spec)

    def repair(self, spec: ImageSpec, action: actions.RepairImage, reading: state.ImageReading) -> Notes:
        """Repair in a copy where there is more than leaks: check -r all may make things worse (QEMU 7.2), and -r leaks
        gives back what nothing but a damaged table leads to.
        """
        if not action.replaces_file:
            self._qemu_img.check(self._node(spec, action.format, reading), repair="leaks", secrets=spec.secrets)
            return self._durable(spec)
        with image_lock(spec.path), build_directory.BuildDirectory(spec.path) as build:
            copy.copy_file(spec.path, build.path)
            protocol = {"driver": "file", "filename": build.path}
            node = image_node(action.format, protocol, "sec0" if spec.encryption else None)
            if reading.header and reading.header.backing_file:  # a relative name leads nowhere from there
                node = dict(node, backing=None)
            _refuse_left_damage(spec, self._qemu_img.check(node, repair=action.repair, secrets=spec.secrets))
            self._attributes.dress(spec, build.path, spec.path, reading.identity)
            records.write_record(build.path, dict(reading.record), spec.path)
            files.fsync_path(build.path)
            backup = publish.keep_backup(spec, reading.identity)
            if not files.publish_over(build.path, spec.path, reading.identity):
                raise publish.taken(spec)
        self._attributes.set_flags(spec, spec.path)
        return dict(self._durable(spec), backup_file=backup)

    def change_keyslots(self, spec: ImageSpec, action: actions.ChangeKeyslots, reading: state.ImageReading) -> Notes:
        """Set new slots, then erase; each step is one amend of its own."""
        for slot in self._in_order(spec, action, reading):
            self._change_keyslot(spec, action.format, slot, reading)
        return self._durable(spec)

    def _in_order(
        self, spec: ImageSpec, action: actions.ChangeKeyslots, reading: state.ImageReading
    ) -> t.Sequence[Keyslot]:
        """The slot that the secret opens is erased last: once it is, nothing opens the image for the others."""
        erased = [slot.slot for slot in action.changes if not slot.active]
        if len(erased) < 2 or reading.header is None:
            return action.changes
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_slots

        # where it opens none but the last, they are in order as they are
        opened = luks_slots.opened_slot(self._run_command, spec.path, reading.header, spec.secrets, erased[:-1])
        return sorted(action.changes, key=lambda slot: slot.slot == opened and not slot.active)

    def _change_keyslot(self, spec: ImageSpec, format_name: str, slot: Keyslot, reading: state.ImageReading) -> None:
        prefix = "" if format_name == "luks" else "encrypt."
        secrets = list(spec.secrets)
        change = ["state=active" if slot.active else "state=inactive", "keyslot=%d" % slot.slot]
        if slot.active:
            secrets.append(("sec1", str(slot.new_secret_file)))
            change.append("new-secret=sec1")
            iter_time = spec.option("iter_time" if format_name == "luks" else "encrypt_iter_time")
            change += ["iter-time=%d" % iter_time] if iter_time else []
        self._qemu_img.amend(self._node(spec, format_name, reading), [prefix + c for c in change], secrets=secrets)

    def set_attributes(self, spec: ImageSpec, action: actions.SetAttributes, reading: state.ImageReading) -> Notes:
        """Owner, group, mode, context and file attributes of every file of the image."""
        paths = members.member_paths(spec.path, reading.header)
        if reading.own_data_file:  # in another user's directory that is refused
            paths.append(reading.own_data_file)
        if not pinned.is_pinned(spec.path):
            self._set_attributes(spec, paths)
            return {}
        with build_directory.BuildDirectory(spec.path) as private:
            own = [private.adopt(member) for member in paths]
            if files.file_facts(own[0]).identity != reading.identity:
                raise publish.taken(spec)
            self._set_attributes(spec, own)
        return {}

    def _set_attributes(self, spec: ImageSpec, paths: t.Sequence[str]) -> None:
        for path in paths:
            self._attributes.apply(spec, path)
            self._attributes.set_flags(spec, path)

    def remove(self, spec: ImageSpec, action: actions.RemoveImage, reading: state.ImageReading) -> Notes:
        """The image itself last: as long as it is there, a next run finds its members and data file to remove."""
        if not os.path.lexists(spec.path):  # it has gone with the image whose data file it was
            return {}
        header = image.look_at(spec.path, spec.format).header
        with image_lock(spec.path, readers=False):
            if files.file_facts(spec.path, follow=False).identity != reading.identity:
                raise publish.taken(spec)
            backup = publish.keep_backup(spec, reading.identity) if spec.backup else None
            _remove_files(spec, header)
        records.remove_record(spec.path)
        files.fsync_path(os.path.dirname(spec.path))
        return {"backup_file": backup} if backup else {}

    @staticmethod
    def _durable(spec: ImageSpec) -> Notes:
        files.fsync_path(spec.path)
        return {}


def _refuse_left_damage(spec: ImageSpec, report: t.Mapping[str, t.Any]) -> None:
    """C(report): of a repair. The copy would take the name, and what comes next in the plan would write to it."""
    if report.get("corruptions") and spec.repair == "leaks":
        raise refuse.refused(
            spec,
            "image_corrupt",
            "%s would be left in it, and what nothing but those lead to would be given back as leaked"
            % words.counted(report["corruptions"], "corruption"),
            "Restore it from a copy; or set repair to all, which repairs in a copy, and keeps the damaged file.",
            {"corruptions": report["corruptions"]},
        )
    if report.get("corruptions"):
        raise refuse.refused(
            spec,
            "image_corrupt",
            "qemu-img cannot repair %s in it" % words.counted(report["corruptions"], "corruption"),
            "Restore it from a copy; or copy what can be read of it by hand (qemu-img convert).",
            {"corruptions": report["corruptions"]},
        )


def _remove_files(spec: ImageSpec, header: t.Optional[Header]) -> None:
    data = header.data_file if header else None
    # where the image may have to stay (chattr +i, a file system that is read-only), its data stays until it has gone
    if all(os.access(path, os.W_OK) for path in (spec.path, os.path.dirname(spec.path))):
        data_file.remove_data_file(spec.name, data)
    for member in reversed(members.member_paths(spec.path, header)):
        if os.path.lexists(member):
            os.unlink(member)
    data_file.remove_data_file(spec.name, data)
