# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_disks: the disks of VMs as the tasks that they come to. Documented in vm_disks.yml."""

from __future__ import annotations

import posixpath
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.module_utils._core import plain

Told = t.Dict[str, t.Any]

_STATES = ("started", "stopped", "defined", "absent")
_OF_VM = ("name", "state", "disks", "definition", "process", "snapshot_before", "revert_to")
_OF_DISK = ("name", "state", "image", "drive", "keep", "snapshot")
_COMMON = ("state", "image", "drive", "definition", "process", "snapshot_before", "revert_to", "sockets")
#: what says where an image is, and nothing of what it is to be
_PLACE = frozenset(("path", "format"))
#: of a definition, what drives are on
_BESIDES = ("machine", "controllers", "objects", "nodes")
#: what only counts where an image goes back
_OF_REVERT = ("save", "save_as")
#: of an image's encryption, what opens it
_OF_SECRET = ("secret", "secret_file")
#: how an external snapshot is taken so that the image has its name after it, too
_STAYING = ("rename", "symlink")
#: what counts for an image that goes
_OF_REMOVAL = ("path", "backup", "on_in_use", "wait_timeout", "overlay_directories")


def vm_disks(vms: t.Any, common: t.Optional[t.Mapping[str, t.Any]] = None) -> t.Dict[str, t.List[Told]]:
    """For each module the list that it takes."""
    shared = _known(plain.value(common or {}), _COMMON, "what the VMs have in common")
    found: t.Dict[str, t.List[Told]] = {name: [] for name in ("images", "gone", "snapshots", "reverts", "definitions")}
    found.update(stop=[], start=[], drives=[])
    everyone = [_Vm(each, shared) for each in plain.value(vms)]
    for vm in everyone:
        _add(found, vm)
    _refuse_given_up_and_had(found["gone"], everyone)
    return found


def _add(found: t.Dict[str, t.List[Told]], vm: _Vm) -> None:
    for disk in vm.disks:
        image = vm.image(disk)
        if disk.get("state") == "absent" or vm.state == "absent":
            if _is_made(disk) and not disk.get("keep"):
                kept = {name: image[name] for name in _OF_REMOVAL if name in image}
                found["gone"].append({"vm": vm.name, "image": dict(kept, state="absent")})
        elif _is_made(disk):
            found["images"].append({"vm": vm.name, "image": image})
            found["snapshots"] += vm.snapshot(disk)
            found["reverts"] += vm.revert(disk)
    found["definitions"].append(vm.definition())
    if vm.state in ("stopped", "absent"):
        found["stop"].append(vm.process())
    elif vm.state == "started":
        found["start"].append(vm.process())
        if any(each["vm"] == vm.name for each in found["reverts"]):
            found["stop"].append(dict(vm.process(), state="stopped"))
    if vm.state != "absent":
        found["drives"].append({"vm": vm.name, "drives": vm.described()})


class _Vm:
    """One VM with what it has in common with others."""

    def __init__(self, told: t.Any, common: Told) -> None:
        whole = _known(told, _OF_VM, "a VM")
        self.name = _name(whole, "a VM")
        self._common = common
        self.state = whole.get("state") or common.get("state") or "started"
        if self.state not in _STATES:
            raise _error("the state of VM %s is %r, not one of %s" % (self.name, self.state, ", ".join(_STATES)))
        what = "a disk of VM " + self.name
        self.disks = [_known(each, _OF_DISK, what) for each in whole.get("disks") or ()]
        names = [_name(each, what) for each in self.disks]
        _refuse_placeless(self.disks, what)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise _error("VM %s has two disks with the name %s" % (self.name, twice[0]))
        self._definition, self._process, self._snapshot, self._revert = (
            _merged(common.get(name), whole.get(name))
            for name in ("definition", "process", "snapshot_before", "revert_to")
        )

    @property
    def _socket(self) -> str:
        return str(self._process.get("qmp_socket") or "%s/%s.qmp" % (self._common.get("sockets", ""), self.name))

    def image(self, disk: Told) -> Told:
        """For disk_image."""
        return {"qmp_socket": self._socket, **(self._common.get("image") or {}), **(disk.get("image") or {})}

    def snapshot(self, disk: Told) -> t.List[Told]:
        """For image_snapshot."""
        if not self._snapshot.get("name") or disk.get("snapshot") is False:
            return []
        image = self.image(disk)
        _refuse_moved(self._snapshot, image, "VM %s" % self.name, "disk %s" % disk["name"])
        return [self._point(self._snapshot, image)]

    def revert(self, disk: Told) -> t.List[Told]:
        """For image_snapshot, to go back and, of an image that was just made, to have something to go back to."""
        if not self._revert.get("name") or disk.get("snapshot") is False:
            return []
        image = self.image(disk)
        _refuse_no_way_back(self._revert, image, "VM %s" % self.name, "disk %s" % disk["name"])
        told = self._point(self._revert, image)
        take = {name: value for name, value in told.items() if name not in _OF_REVERT}
        if self.state != "defined":  # it is stopped first, and judged so while it runs
            told.pop("memory", None)
        return [{"vm": self.name, "revert": {**told, "state": "reverted"}, "take": {**take, "state": "present"}}]

    def _point(self, wanted: Told, image: Told) -> Told:
        """A snapshot with the options C(wanted). What opens the image is that of the image, if nothing else is said."""
        secret = {name: value for name, value in (image.get("encryption") or {}).items() if name in _OF_SECRET}
        opened = {"encryption": secret} if secret else {}
        return {"qmp_socket": self._socket, **opened, **wanted, "image": image["path"], "format": image.get("format")}

    @property
    def present(self) -> t.List[Told]:
        """The disks that it is to have."""
        return [disk for disk in self.disks if self.state != "absent" and disk.get("state") != "absent"]

    def described(self) -> Told:
        """For the filters: what is there, with what it is on."""
        present = [self._drive(disk) for disk in self.present]
        return {"drives": present, **{name: self._definition[name] for name in _BESIDES if name in self._definition}}

    def _drive(self, disk: Told) -> Told:
        if disk.get("state") == "absent":
            return {"id": disk["name"], "state": "absent"}
        drive = {"id": disk["name"], **(self._common.get("drive") or {}), **(disk.get("drive") or {})}
        return {**drive, "image": _place(self.image(disk))} if disk.get("image") else drive

    def definition(self) -> Told:
        """For qemu_drive."""
        if self.state == "absent":
            return {"vm": self.name, "state": "absent", **self._config()}
        drives = [self._drive(disk) for disk in self.disks]
        return {"purge": True, "qmp_socket": self._socket, **self._definition, "vm": self.name, "drives": drives}

    def process(self) -> Told:
        """For qemu_vm."""
        return {**self._config(), **self._process, "qmp_socket": self._socket, "vm": self.name, "state": self.state}

    def _config(self) -> Told:
        return {name: self._definition[name] for name in ("config",) if name in self._definition}


def _refuse_placeless(disks: t.Sequence[Told], what: str) -> None:
    for disk in disks:
        image = disk.get("image") or {"path": "/"}
        if not isinstance(image, t.Mapping) or not image.get("path"):
            raise _error("%s, %s, has an image without a path" % (what, disk["name"]))


def _refuse_moved(wanted: Told, image: Told, vm: str, disk: str) -> None:
    """An external snapshot after which the disk is another file, or its file of another format, than the role is told."""
    if wanted.get("kind") != "external":
        return
    if image.get("format", "qcow2") != "qcow2":
        fact = "%s: snapshot_before is external, and its %s would be qcow2 after it, and no more %s"
        raise _error(fact % (vm, disk, image["format"]) + ". Write snapshot: false for it, and it changes without one")
    if wanted.get("switch") not in _STAYING:
        told = (vm, wanted.get("switch", "unset"), disk, image["path"])
        fact = "%s: snapshot_before is external with switch %s, after which its %s would be another file than %s" % told
        raise _error(fact + ". Leave kind out, and the snapshot is in the image")


def _refuse_no_way_back(wanted: Told, image: Told, vm: str, disk: str) -> None:
    if wanted.get("kind", "internal") != "internal":
        raise _error("%s: revert_to goes back to internal snapshots, and has kind %s" % (vm, wanted["kind"]))
    if image.get("format", "qcow2") != "qcow2" or not str(image["path"]).startswith("/"):
        told = (vm, disk, image.get("format", "no format"), image["path"])
        fact = "%s is to be set back, and its %s can have no snapshot (%s at %s)" % told
        raise _error(fact + ". Write snapshot: false for it, and it stays as it is")


def _refuse_given_up_and_had(gone: t.Sequence[Told], everyone: t.Sequence[_Vm]) -> None:
    """What one VM gives up is another one's data."""
    had = {_where(vm.image(disk)): vm.name for vm in everyone for disk in vm.present if disk.get("image")}
    for each in gone:
        where, owner = each["image"].get("path"), had.get(_where(each["image"]))
        if owner:
            fact = "VM %s gives up %s, and VM %s has it" % (each["vm"], where, owner)
            raise _error(fact + ". Set keep: true for the disk that goes, so that the image stays")


def _where(image: Told) -> str:
    return posixpath.normpath(str(image.get("path")))


def _is_made(disk: Told) -> bool:
    """Whether anything is said of the image but where it is."""
    return not _PLACE.issuperset(disk.get("image") or ())


def _place(image: Told) -> Told:
    """What QEMU opens, in the words of qemu_drive."""
    path, named = image.get("path"), {name: image[name] for name in ("format",) if image.get(name)}
    if isinstance(path, t.Mapping):
        return {"blockdev": path, **named}
    return {"uri" if "://" in str(path) else "path": path, **named}


def _merged(common: t.Optional[Told], own: t.Optional[Told]) -> Told:
    return {**(common or {}), **(own or {})}


def _known(told: t.Any, names: t.Sequence[str], what: str) -> Told:
    if not isinstance(told, t.Mapping):
        raise _error("%s is no dictionary: %r" % (what, told))
    others = sorted(str(name) for name in told if name not in names)
    if others:
        raise _error("%s has %s, and can have %s" % (what, ", ".join(others), ", ".join(names)))
    return dict(told)


def _name(told: Told, what: str) -> str:
    if not told.get("name"):
        raise _error("%s has no name" % what)
    return str(told["name"])


def _error(fact: str) -> AnsibleFilterError:
    return AnsibleFilterError("platter.qemu.vm_disks: " + fact)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"vm_disks": vm_disks}
