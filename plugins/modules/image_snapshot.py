#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""image_snapshot: the snapshots, layers and dirty bitmaps of QEMU disk images."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: image_snapshot
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module.file_attributes import copy_attributes
from ansible_collections.platter.qemu.plugins.module_utils._module.run import run_module
from ansible_collections.platter.qemu.plugins.module_utils._module.snapshot_options import argument_spec, items
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.engine import SnapshotEngine
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.read_spec import read_spec


def make_engine(module: AnsibleModule) -> SnapshotEngine:
    """The engine for the images of this task."""
    return SnapshotEngine(
        [read_spec(entry) for entry in items(module.params)],
        copy_attributes,
        qemu_img=module.get_bin_path("qemu-img"),
        workers=module.params["workers"],
        fail_fast=module.params["fail_fast"],
        lock_timeout=module.params["lock_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("image", "snapshots")],
        required_one_of=[("image", "snapshots")],
        supports_check_mode=True,
    )
    run_module(module, make_engine)


if __name__ == "__main__":
    main()
