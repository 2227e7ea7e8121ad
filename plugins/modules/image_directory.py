#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""image_directory: directories for images, with an owner and a mode, through no link of another user's."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: image_directory
short_description: Have directories for images, given to their owners safely
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes directories, and those above them that are missing, and gives them an owner, a group, a mode.
  - Who owns a directory can put a symbolic link into it at any time, and root would give away what that leads to. So each step of
    the way is taken once, by a descriptor, and owner and mode are those of what was opened. A link that another user has
    made is refused (C(unsafe_directory)), at the end of the way and on it. Links of root's are followed.
  - What is in the directories is never touched, and none is removed.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence); of a list, nothing was changed then.
options:
  path:
    description:
      - The directory, an absolute path of the host.
    type: path
  owner: &owner
    description:
      - The user that it belongs to. Without it, the owner stays, and what is made is the task's own user's.
    type: str
  group: &group
    description:
      - The group.
    type: str
  mode: &mode
    description:
      - The permissions, for example V('0750'). Write them in quotes. Without it, the mode stays, and what is made has V('0755').
    type: raw
  setype: &setype
    description:
      - The SELinux type, for example V(virt_image_t). It has no effect where SELinux is off.
    type: str
  directories:
    description:
      - Many directories instead, in the order in which they are made.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - As O(path).
        type: path
        required: true
      owner: *owner
      group: *group
      mode: *mode
      setype: *setype
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same directory.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full, details: A user whom only an earlier task of the run would make is not known yet.}
  diff_mode: {support: full}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.disk_image
  - module: ansible.builtin.file
    description: Other directories.
"""

EXAMPLES = r"""
- name: A directory for images
  platter.qemu.image_directory:
    path: /srv/images
    mode: '0755'

- name: One for each user who has VMs
  platter.qemu.image_directory:
    directories:
      - path: /srv/vms/root
        owner: root
        group: root
        mode: '0700'
      - path: /srv/vms/daemon
        owner: daemon
        group: daemon
        mode: '0750'
"""

RETURN = r"""
directory:
  description: What it is now (in check mode, what it would be), with those of owner, group, mode and type that the task names.
  returned: without O(directories)
  type: dict
  sample: {path: /srv/images, state: present, mode: '0755'}
directories:
  description: A result like that of one directory for each, in the order of the task.
  returned: with O(directories)
  type: list
  elements: dict
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: [Make directory /srv/images.]
commands:
  description: Every command that was run, as a list of arguments - none.
  returned: always
  type: list
  elements: list
diff:
  description: The facts before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: unsafe_directory
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._directory import engine, spec
from ansible_collections.platter.qemu.plugins.module_utils._module import directory_options, file_attributes, run


def make_engine(module: AnsibleModule) -> engine.DirectoryEngine:
    """The parts put together."""
    entries = directory_options.entries(module.params)
    specs = [spec.read_spec(entry) for entry in entries]
    known = {each.path: entry for each, entry in zip(specs, entries)}
    attributes = file_attributes.FileAttributes(module, known, file_attributes.OF_DIRECTORIES)
    return engine.DirectoryEngine(specs, attributes, lock_timeout=module.params["lock_timeout"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=directory_options.argument_spec(),
        mutually_exclusive=[("directories", name) for name in directory_options.NAMES],
        required_one_of=[("path", "directories")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
