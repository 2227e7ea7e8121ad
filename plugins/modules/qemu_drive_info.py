#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""qemu_drive_info: the drives of VMs, as they are defined, as QEMU was started with them, and as it has them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: qemu_drive_info
short_description: The drives of a VM - from its definition, from a running QEMU, or from its command line
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Tells the drives of a VM in the words of P(platter.qemu.qemu_drive#module), from its definition (O(vm) or O(config)), from the
    command line of a process (O(pid)), and from a running QEMU itself (O(qmp_socket)). They can be asked for together.
  - With a definition and O(qmp_socket), the differences are told too.
  - Without any of these, it tells all definitions of the host.
options:
  vm:
    description: The VM, by its name. Its definition is looked for where it is recorded, and in C(/etc/platter/vm).
    type: str
  config:
    description: The directory of the definition.
    type: path
  pid:
    description:
      - The number of a process of QEMU, whoever started it. Its command line is read in all styles, as
        P(platter.qemu.drive_parse#filter) does.
      - Secrets that stand in it are shown as C(***).
    type: int
  qmp_socket:
    description:
      - The QMP socket of a running QEMU. Nobody there is no fault (RV(live.running)). A QEMU serves one client of a socket at a
        time.
      - Sockets that others can write to are refused (C(unsafe_qmp_socket)), and so are VMs of libvirt
        (C(managed_by_libvirt)).
    type: path
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full, details: Nothing is ever changed.}
  diff_mode: {support: none, details: There is no change to show.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.qemu_drive
  - plugin: platter.qemu.drive_parse
    plugin_type: filter
notes:
  - What a command line says is what the VM was started with. Drives that have come or gone since are not in it.
  - QEMU does not tell all options of what it has open, such as C(aio) and C(discard).
"""

EXAMPLES = r"""
- name: How is web1 defined, and does it run
  platter.qemu.qemu_drive_info:
    vm: web1
  register: web1

- name: What has it, that is not as it is defined
  platter.qemu.qemu_drive_info:
    vm: web1
    qmp_socket: /run/platter/web1.qmp
  register: web1
  failed_when: web1 is failed or web1.live.drift | default([]) | length > 0

- name: The drives of a VM that somebody has started by hand
  platter.qemu.qemu_drive_info:
    pid: 4711
  register: old

- name: The same as state from now on
  platter.qemu.qemu_drive:
    vm: old
    machine: "{{ old.started.machine }}"
    drives: "{{ old.started.drives }}"

- name: All VMs of the host
  platter.qemu.qemu_drive_info:
  register: all

- name: Which of them have images in this directory
  ansible.builtin.debug:
    msg: "{{ all.definitions | selectattr('args', 'search', '/srv/images/') | map(attribute='vm') }}"
"""

RETURN = r"""
definition:
  description: >-
    The definition, as RV(platter.qemu.qemu_drive#module:definition) shows it; C(state) is V(absent) where there is none.
  returned: with O(vm) or O(config)
  type: dict
processes:
  description: The processes of QEMU that are called as the VM is (C(-name)).
  returned: with O(vm) or O(config)
  type: list
  elements: int
started:
  description: What the process was started with.
  returned: with O(pid)
  type: dict
  contains:
    pid: {description: The process., type: int, returned: always}
    vm: {description: 'What it is called, null for nothing.', type: str, returned: always}
    machine: {description: 'Its machine type, without a version.', type: str, returned: always}
    drives: {description: Its drives., type: list, elements: dict, returned: always}
    controllers: {description: Controllers of drives., type: list, elements: dict, returned: when there are any}
    objects: {description: Objects that drives need., type: list, elements: dict, returned: when there are any}
    nodes: {description: Nodes of several drives., type: list, elements: dict, returned: when there are any}
    shares: {description: Directories of the host that it shares., type: list, elements: dict, returned: when there are any}
    boot: {description: 'Its kernel, as a file of the host.', type: dict, returned: when there is any}
    shared_memory: {description: Bytes of its memory that others can have., type: int, returned: when it is so}
    notes:
      description: What is worth knowing, such as a format that is not given.
      returned: always
      type: list
      elements: str
live:
  description: What QEMU has now.
  returned: with O(qmp_socket)
  type: dict
  contains:
    qmp_socket: {description: The socket., type: str, returned: always}
    running: {description: Whether there is a QEMU., type: bool, returned: always}
    machine: {description: 'Its machine type, without a version.', type: str, returned: when it runs}
    drives:
      description: Its drives.
      returned: when it runs
      type: list
      elements: dict
      contains:
        id: {description: 'What it is called: by C(-drive), by its device, or by its node.', type: str, returned: always}
        removable: {description: Whether its medium can be changed., type: bool, returned: always}
        device: {description: QEMU's name of what the guest sees., type: str, returned: when a device uses it}
        device_id: {description: The id of that., type: str, returned: when it has one}
        bus: {description: What that is plugged into., type: str, returned: when it is known}
        properties: {description: Properties of the device that were asked for., type: dict, returned: when there are any}
        node: {description: The uppermost node., type: str, returned: when there is a medium}
        format: {description: The driver of the image., type: str, returned: when there is a medium}
        image: {description: Where its data is., type: str, returned: when there is a medium}
        options: {description: Options of the image that QEMU tells., type: dict, returned: when there is a medium}
        size: {description: Bytes., type: int, returned: when it is known}
        limits: {description: Limits of its throughput., type: dict, returned: when there are any}
        throttle: {description: The group that it is throttled with., type: str, returned: when there is one}
        copy_on_read: {description: What is read is kept in the image., type: bool, returned: when it is so}
    controllers: {description: Controllers of drives., type: list, elements: dict, returned: when it runs}
    unused_nodes: {description: Nodes that nobody uses., type: list, elements: str, returned: when it runs}
    drift:
      description: What is not as it is defined, as C(drive), C(what), C(live) and C(declared).
      returned: when it runs, with a definition
      type: list
      elements: dict
    needs_restart:
      description: What of it only a new start can change, as C(drive), C(what) and C(why).
      returned: when it runs, with a definition
      type: list
      elements: dict
    undeclared:
      description: Drives and controllers that are not defined; without the empty drives that its machine has by itself.
      returned: when it runs, with a definition
      type: list
      elements: str
definitions:
  description: All definitions that are in C(/etc/platter/vm), or recorded.
  returned: without O(vm), O(config), O(pid) and O(qmp_socket)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module import run_info
from ansible_collections.platter.qemu.plugins.module_utils._vm import info

ARGUMENT_SPEC = {
    "vm": {"type": "str"},
    "config": {"type": "path"},
    "pid": {"type": "int"},
    "qmp_socket": {"type": "path"},
}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    run_info.run_info(module, lambda m: info.DriveInfoReader(m.params))


if __name__ == "__main__":
    main()
