#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""md_array: a RAID array over block devices, mostly NBD exports of several servers, as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: md_array
short_description: Have a RAID array over block devices of several servers
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "this array runs on this host, of these legs" a state. It is for legs that come and go - exports of NBD servers,
    attached with M(platter.qemu.host_device).
  - Legs that are blank become a new array. Blank is what carries nothing that is recognised, and only zeros at its
    beginning, at its end, and in 1024 samples between (of up to 64 MiB, in all of it).
  - An array that is there is started, if what is there cannot be older than what is not. A leg of it that was away is added
    again, and gets what was written without it.
  - An array is known by its O(uuid). A disk that carries anything else is never touched, and of a leg that has gone on
    without the others neither side is given up.
  - What C(mdadm) has C(--force) and C(--zero-superblock) for is refused here, and left to a person.
  - A leg that is missing is no failure while the array has all its data. The array is degraded then, which is told as a
    warning and by RV(array.condition).
  - What is so is read from the kernel, and from what md has written on the legs, each time.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - Linux 4.14 or later, with md
  - root
  - C(mdadm) 4.0 or later, for what changes anything
options:
  name:
    description:
      - What the array is called. It is found under C(/dev/md/NAME).
      - 1 to 31 letters, digits, dots, underscores and minus signs; the first is a letter or a digit.
    type: str
    required: true
  uuid:
    description:
      - What the array is known by, on this host and on its legs. A new array gets it.
      - Take another one for each array, for example from C(uuidgen), or P(ansible.builtin.to_uuid#filter) of the name of the
        host and the array.
    type: str
    required: true
  state:
    description:
      - V(present) - it runs, of all its legs that are there.
      - V(absent) - it does not run on this host. What is on the legs stays, so that it can be started again, here or
        elsewhere. An array that is mounted, or that anything else has open, is not stopped (C(array_busy)).
    type: str
    choices: [present, absent]
    default: present
  level:
    description:
      - V(raid1) - each leg has all the data. V(raid5) - one leg can be missing, at the price of one.
      - V(raid10) - two copies; the first leg has the same data as the second, the third as the fourth, and so on.
    type: str
    choices: [raid1, raid5, raid10]
    default: raid1
  legs:
    description:
      - The disks that it is made of, all of them, whether or not they are there at the moment. Needed for O(state=present).
      - Their order counts for a new array only.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - What messages call the leg. Without it, the last part of O(legs[].device). One of both is needed.
        type: str
      device:
        description:
          - A path that leads to the block device. Without it, C(/dev/platter/NAME), as M(platter.qemu.host_device) names it.
        type: path
      source:
        description:
          - The URI of the export that the leg is attached from. Nothing is done with it, but its host is the leg's
            O(legs[].server) if that is not set.
        type: str
      server:
        description:
          - What the leg is lost with - the name of its server, rack or power supply.
          - Legs that must not be lost together are refused if they have the same one (C(legs_share_server)). With V(raid10)
            that are the two copies of the same data (of an odd number of legs, any neighbours), else any two legs.
        type: str
  consistency_policy:
    description:
      - How the legs become equal again after a crash.
      - V(bitmap) - md notes where it writes (write-intent bitmap), and compares only that. A leg that was away gets only
        what was written without it.
      - V(ppl) - a log of partial parity, for O(level=raid5) - no data is lost where a crash and the loss of a leg come
        together (the write hole). A leg that was away gets everything.
    type: str
    choices: [bitmap, ppl]
    default: bitmap
  start_degraded:
    description:
      - Whether it may be started although a leg is missing that was in it when the others were written last. That leg may
        have been written to since, by another host, and such writes would be lost.
    type: bool
    default: false
  fill:
    description:
      - Names of legs that replace lost ones. If they are blank they are filled with what the array holds.
    type: list
    elements: str
  timeout:
    description:
      - Seconds that each step of C(mdadm) may take. It does not wait until legs are filled.
    type: int
    default: 60
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same array.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full, details: 'The path of the array is not predicted, only its link.'}
  diff_mode: {support: full, details: Shows the array before and after.}
  idempotent: {support: full, details: Also while legs are being filled.}
seealso:
  - module: platter.qemu.host_device
  - module: platter.qemu.nbd_export
notes:
  - The legs of a new array are compared and made equal by md after the task; the array can be used meanwhile.
  - Legs need a limit of time (O(platter.qemu.host_device#module:io_timeout)). Without one, all who use the array wait for a
    server that is frozen.
  - Where udev assembles arrays by itself (the rules of C(mdadm)), it may have started the array before the task does. That is
    no change then.
  - When all legs are lost, reads and writes fail, and do so until the array was stopped and started again.
"""

EXAMPLES = r"""
- name: The legs, from two servers
  platter.qemu.host_device:
    read_only: false
    io_timeout: 10
    devices:
      - name: data-a
        source: nbd://store1.example.org/web1
        identity: {signature: [none, linux_raid_member], uuid: 6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11}
      - name: data-b
        source: nbd://store2.example.org/web1
        identity: {signature: [none, linux_raid_member], uuid: 6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11}

- name: The array
  platter.qemu.md_array:
    name: data
    uuid: 6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11
    legs:
      - {name: data-a, server: store1}
      - {name: data-b, server: store2}
  register: data

- name: Not on with the play while a leg is missing or being filled
  ansible.builtin.assert:
    that: data.array.condition in ['clean', 'resyncing']
"""

RETURN = r"""
array:
  description: The array as it is now (in check mode, as it would be).
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    uuid: {description: Its UUID., type: str, returned: always}
    state: {description: 'V(present) or V(absent).', type: str, returned: always}
    link: {description: Where it is found., type: str, returned: when it runs}
    level: {description: Its level., type: str, returned: when it runs}
    consistency_policy: {description: How its legs become equal after a crash., type: str, returned: when it runs}
    members: {description: Names of the legs that are in it., type: list, elements: str, returned: when it runs}
    faulty: {description: Devices that failed and are still in it., type: list, elements: str, returned: when it runs}
    condition:
      description:
        - V(clean) - all legs have all data. V(resyncing) - they are being made equal. V(checking) - they are being compared.
        - V(degraded) - a leg is missing. V(recovering) - one is being filled.
        - V(failed) - too many legs are lost to read or write. V(absent) - it does not run.
        - In check mode, as it is now.
      type: str
      returned: always
    percent:
      description: How far md has come with what it is doing; V(null) while it does nothing.
      type: float
      returned: always
    legs:
      description: Each of O(legs).
      type: list
      elements: dict
      returned: always
      contains:
        name: {description: Its name., type: str, returned: always}
        server: {description: 'As O(legs[].server).', type: str, returned: always}
        device: {description: 'As O(legs[].device).', type: str, returned: always}
        state:
          description:
            - V(in_sync), V(recovering), V(faulty) or V(spare) in the array.
            - V(away) - a leg of the array that is not in it. V(blank), V(foreign) - none of its legs. V(lost) - its server has
              gone. V(missing) - there is no such device.
          type: str
          returned: always
        slot: {description: Its place in the array., type: int, returned: always}
    path: {description: The device of the kernel., type: str, returned: 'when it runs, not for a change in check mode'}
    size: {description: Its bytes., type: int, returned: with RV(array.path)}
  sample:
    name: data
    uuid: 6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11
    state: present
    link: /dev/md/data
    path: /dev/md127
    size: 1071644672
    level: raid1
    consistency_policy: bitmap
    members: [data-a, data-b]
    faulty: []
    condition: recovering
    percent: 41.2
    legs:
      - {name: data-a, server: store1, device: /dev/platter/data-a, state: in_sync, slot: 0}
      - {name: data-b, server: store2, device: /dev/platter/data-b, state: recovering, slot: 1}
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: ['Take nbd1, which failed, out of array data.', 'Add leg data-b to array data again.']
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The facts of the array before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: leg_foreign
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._array import engine
from ansible_collections.platter.qemu.plugins.module_utils._array.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._module import array_options, run


def make_engine(module: AnsibleModule) -> engine.ArrayEngine:
    """The parts put together."""
    return engine.ArrayEngine(
        read_spec(module.params), module.get_bin_path("mdadm"), lock_timeout=module.params["lock_timeout"]
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=array_options.argument_spec(),
        required_if=[("state", "present", ["legs"])],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
