# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The option group of one image: the same at the top of C(disk_image) and in each entry of its list C(images)."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._formats import options, registry
from ansible_collections.platter.qemu.plugins.module_utils._module import secret_files, task_options

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]
_TYPES = {"bool": "bool", "int": "int", "size": "str", "str": "str", "choice": "str"}

#: what an unset option of the module means; an entry of the list that leaves it unset takes the module's value
DEFAULTS: t.Mapping[str, t.Any] = {
    "state": "present",
    "source_policy": "if_absent",
    "on_in_use": "fail",
    "wait_timeout": 60,
    "flatten": False,
    "compressed": False,
    "allow_shrink": False,
    "discard_data": False,
    "allow_rewrite": False,
    "allow_nested_header": False,
    "backup": False,
}


def create_options() -> ArgumentSpec:
    """Every create option of every format, typed; one that formats share accepts what any of them does."""
    spec: ArgumentSpec = {}
    for option in (option for group in options.OPTIONS.values() for option in group):
        if option.managed or option.amend_only:
            continue
        entry = spec.setdefault(option.name, {"type": _TYPES[option.kind]})
        if option.choices:
            entry["choices"] = sorted(set(entry.get("choices", [])) | set(option.choices))
        if "key" in option.name:
            entry["no_log"] = False
    return spec


def image_options() -> ArgumentSpec:
    """The options of one image, without defaults."""
    return {
        "path": {"type": "raw", "aliases": ["dest", "name"]},
        "state": {"type": "str", "choices": ["present", "absent"]},
        "format": {"type": "str", "choices": list(registry.FORMAT_NAMES)},
        "size": {"type": "str"},
        "max_virtual_size": {"type": "str"},
        "options": {"type": "dict", "options": create_options()},
        "backing": {"type": "dict", "options": _backing()},
        "flatten": {"type": "bool"},
        "source": {"type": "dict", "options": _source()},
        "source_policy": {"type": "str", "choices": ["if_absent", "if_changed"]},
        "compressed": {"type": "bool"},
        "encryption": {"type": "dict", "options": _encryption()},
        "repair": {"type": "str", "choices": ["leaks", "all"]},
        "allow_shrink": {"type": "bool"},
        "discard_data": {"type": "bool"},
        "allow_rewrite": {"type": "bool"},
        "current_format": {"type": "str", "choices": list(registry.FORMAT_NAMES)},
        "allow_nested_header": {"type": "bool"},
        **task_options.use_options(),
        "qmp_socket": {"type": "path"},
        "backup": {"type": "bool"},
        **_file_options(),
    }


def _backing() -> ArgumentSpec:
    return {
        "path": {"type": "str", "required": True},
        "format": {"type": "str", "choices": list(registry.FORMAT_NAMES), "required": True},
        "relative": {"type": "bool", "default": False},
        "rebase": {"type": "str", "choices": ["safe", "unsafe"], "default": "safe"},
        "accept_changed": {"type": "bool", "default": False},
    }


def _source() -> ArgumentSpec:
    return {
        "path": {"type": "raw"},
        "url": {"type": "str"},
        "format": {"type": "str", "choices": list(registry.FORMAT_NAMES), "required": True},
        "checksum": {"type": "str"},
        "compression": {"type": "str", "choices": ["auto", "none", "gzip", "bzip2", "xz", "zstd"], "default": "auto"},
        "trusted": {"type": "bool", "default": False},
        "headers": {"type": "dict", "no_log": True},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "validate_certs": {"type": "bool", "default": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "int", "default": 30},
        "secret": {"type": "str", "no_log": True},
        "secret_file": {"type": "path", "no_log": False},
    }


def _encryption() -> ArgumentSpec:
    slot = {
        "slot": {"type": "int", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "new_secret": {"type": "str", "no_log": True},
        "new_secret_file": {"type": "path", "no_log": False},
    }
    return {
        **secret_files.secret_options(),
        "keyslots": {"type": "list", "elements": "dict", "options": slot, "no_log": False},
    }


def _file_options() -> ArgumentSpec:
    """As C(add_file_common_args) adds them, which cannot add them to list entries."""
    spec: ArgumentSpec = {name: {"type": "str"} for name in ("owner", "group", "seuser", "serole", "setype", "selevel")}
    spec["mode"] = {"type": "raw"}
    spec["attributes"] = {"type": "str", "aliases": ["attr"]}
    return spec


def argument_spec() -> ArgumentSpec:
    """The argument spec of C(disk_image)."""
    top = image_options()
    for name, value in DEFAULTS.items():
        top[name]["default"] = value
    return {
        **top,
        "images": {"type": "list", "elements": "dict", "options": image_options()},
        **task_options.task_options(),
        "tool_timeout": {"type": "int", "default": 600},
    }


def items(params: t.Mapping[str, t.Any]) -> t.List[t.Dict[str, t.Any]]:
    """The options of each image of a task: of the one it names, or of each in its list, filled up from the task."""
    return task_options.listed(params, "images", image_options(), ("path",))
