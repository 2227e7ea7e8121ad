# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of C(qemu_drive), the same for one VM and in its list C(vms); and QEMU as it is called on this host."""

from __future__ import annotations

import platform
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._module import task_options

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]

#: what an unset option of the module means; an entry of the list that leaves it unset takes the module's value
DEFAULTS: t.Mapping[str, t.Any] = {
    "state": "present",
    "purge": False,
    "validate": "device",
    "timeout": 30,
    "unplug_timeout": 30,
}
#: what is one VM's own
_OWN = ("vm", "config", "qmp_socket")
#: kinds of machines that QEMU has another name for than the kernel
_TARGETS = {"i686": "i386", "i586": "i386", "armv7l": "arm", "ppc64le": "ppc64", "amd64": "x86_64", "arm64": "aarch64"}
#: options of a drive by their types; C(raw) where a word, a number with a unit or a dictionary will do
_OF_DRIVE = {
    "str": (
        "id device device_id bus addr serial bootindex wwn port unit index scsi_id lun channel logical_block_size"
        " physical_block_size discard_granularity rotation_rate queues queue_size iothread rerror werror"
        " l2_cache_size aio reconnect_delay open_timeout"
    ),
    "bool": "share_rw read_only auto_read_only copy_on_read snapshot share",
    "dict": "image encryption properties",
    "raw": "cache throttle discard detect_zeroes locking",
}


def drive_options() -> ArgumentSpec:
    """The options of one drive."""
    found: ArgumentSpec = {name: {"type": kind} for kind, names in _OF_DRIVE.items() for name in names.split()}
    found["id"]["required"] = True
    found["state"] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    return found


def share_options() -> ArgumentSpec:
    """The options of one share."""
    names = "tag id driver path socket security_model multidevs fmode dmode device bus addr"
    found: ArgumentSpec = {name: {"type": "str"} for name in names.split()}
    found["tag"]["required"] = True
    for name, choices in (("driver", "9p virtiofs"), ("multidevs", "remap forbid warn")):
        found[name]["choices"] = choices.split()
    found["security_model"]["choices"] = ["mapped-xattr", "mapped-file", "passthrough", "none"]
    found.update(
        read_only={"type": "bool"}, properties={"type": "dict"}, path={"type": "path"}, socket={"type": "path"}
    )
    found["state"] = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    return found


def vm_options() -> ArgumentSpec:
    """The options of one VM, without defaults."""
    lists: ArgumentSpec = {name: {"type": "list", "elements": "dict"} for name in ("controllers", "objects", "nodes")}
    boot: ArgumentSpec = {"kernel": {"type": "path"}, "initrd": {"type": "path"}, "append": {"type": "str"}}
    return {
        "vm": {"type": "str"},
        "config": {"type": "path"},
        "state": {"type": "str", "choices": ["present", "absent"]},
        "drives": {"type": "list", "elements": "dict", "options": drive_options()},
        **lists,
        "shares": {"type": "list", "elements": "dict", "options": share_options()},
        "boot": {"type": "dict", "options": boot},
        "shared_memory": {"type": "str"},
        "purge": {"type": "bool"},
        "style": {"type": "str", "choices": ["blockdev", "drive_device", "drive", "hda"]},
        "lossy": {"type": "bool"},
        "machine": {"type": "str"},
        "arguments": {"type": "list", "elements": "str"},
        "qemu": {"type": "path"},
        "validate": {"type": "str", "choices": ["none", "syntax", "open", "device"]},
        "timeout": {"type": "int"},
        "qmp_socket": {"type": "path"},
        "unplug_timeout": {"type": "int"},
    }


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(qemu_drive)."""
    top = vm_options()
    for name, value in DEFAULTS.items():
        top[name]["default"] = value
    return {
        **top,
        "vms": {"type": "list", "elements": "dict", "options": vm_options()},
        **task_options.task_options(),
    }


def items(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each VM of a task: of the one it names, or of each in its list, filled up from the task."""
    return task_options.listed(params, "vms", vm_options(), _OWN)


def find_qemu(module: AnsibleModule) -> str:
    """The path of QEMU for machines of this host's kind; where it is not installed, its name."""
    kind = platform.machine().lower()
    name = "qemu-system-" + _TARGETS.get(kind, kind)
    paths = (module.get_bin_path(each, opt_dirs=["/usr/libexec"]) for each in (name, "qemu-kvm"))
    return next(filter(None, paths), name)
