#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""md_keeper: a program on the host that brings the legs of an array back, as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: md_keeper
short_description: Have the legs of an array over NBD come back by themselves
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "something looks after this array" a state. When the server of a leg has gone, the array goes on without it; when it
    is back, somebody has to attach the leg and add it to the array again. That is what the keeper does, also at boot.
  - The keeper is a program of this collection that is written to the host and needs nothing but Python there. It runs as a
    unit of systemd, or as a process under a supervisor of this collection. With other options, or after an update of this
    collection, it is exchanged for another, and goes on until that is written.
  - It does what M(platter.qemu.host_device) and M(platter.qemu.md_array) would do, by the same code and with the same refusals.
    A leg comes back if it is the export of that name, of the right size, carries this array's UUID, and has not gone on without
    the others. It never uses C(--force), never fills a blank disk that replaces a leg, and never starts an array from legs that
    may be out of date.
  - What it finds and does is in its log (C(journalctl --unit=platter-array-NAME), or C(/var/lib/platter/arrays/NAME/log)), in
    C(/run/platter.qemu/arrays/NAME.json), and told to O(alarm).
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - Linux 5.14 or later, with md and the kernel's NBD
  - root
  - C(mdadm) 4.0 or later
  - for legs over TLS, what M(platter.qemu.host_device) needs for them
options:
  name:
    description:
      - The name of the array, as of O(platter.qemu.md_array#module:name).
    type: str
    required: true
  uuid:
    description:
      - Its UUID, as of O(platter.qemu.md_array#module:uuid). Needed for O(state=present).
    type: str
  state:
    description:
      - V(present) - it runs, with these settings.
      - V(absent) - it does not run, and nothing of it is on the host. The array stays as it is.
    type: str
    choices: [present, absent]
    default: present
  level:
    description:
      - As of O(platter.qemu.md_array#module:level).
    type: str
    choices: [raid1, raid5, raid10]
    default: raid1
  legs:
    description:
      - The legs, and the exports that they are attached from. Needed for O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The name of the leg; as a device it is C(/dev/platter/NAME).
        type: str
        required: true
      source:
        description:
          - The URI of the export, C(nbd://host[:port]/export) for example.
        type: str
        required: true
      server:
        description:
          - What the leg is lost with. Without it, the host in O(legs[].source).
        type: str
      tls_certificates:
        description:
          - As of O(platter.qemu.host_device#module:tls_certificates).
        type: path
      tls_hostname:
        description:
          - As of O(platter.qemu.host_device#module:tls_hostname).
        type: str
      tls_psk_file:
        description:
          - As of O(platter.qemu.host_device#module:tls_psk_file).
        type: path
      tls_username:
        description:
          - As of O(platter.qemu.host_device#module:tls_username).
        type: str
  size:
    description:
      - The size that each export must have, for example V(20G). Without it, any.
    type: str
  consistency_policy:
    description:
      - As of O(platter.qemu.md_array#module:consistency_policy).
    type: str
    choices: [bitmap, ppl]
    default: bitmap
  io_timeout:
    description:
      - Seconds after which a leg is given up whose server answers nothing. V(0) - it is waited for, and everybody waits with it.
    type: int
    default: 10
  interval:
    description:
      - Seconds between two looks. A look at an array that is well reads a few files of the kernel.
    type: int
    default: 5
  on_all_lost:
    description:
      - What to do when so many legs are lost that the array reads and writes nothing.
      - V(restart) - stop the array if nobody has it open, and start it again when the legs are back and none can be out of date.
        While it is mounted it stays, and that is told.
      - V(leave) - tell it, and do nothing.
    type: str
    choices: [restart, leave]
    default: restart
  alarm:
    description:
      - A command that is run when the array's condition changes, and when a leg is refused - the absolute path of a program, and
        its arguments. At its standard input is a JSON object with C(name), C(condition), C(before), C(legs) and C(problems).
      - It may take 60 seconds.
    type: list
    elements: str
  supervisor:
    description:
      - What keeps it running. V(auto) is systemd where that runs.
      - A process does not come back when the host is started anew.
    type: str
    choices: [auto, systemd, process]
    default: auto
  timeout:
    description:
      - Seconds that each step may take, of this module and of the keeper.
    type: int
    default: 30
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same keeper.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: Shows the settings before and after.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.md_array
  - module: platter.qemu.host_device
notes:
  - After an update of this collection the keeper is changed too, and started anew. The array and its legs notice nothing.
"""

EXAMPLES = r"""
- name: The legs of the array come back by themselves
  platter.qemu.md_keeper:
    name: data
    uuid: 6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11
    legs:
      - {name: data-a, source: nbd://store1.example.org/web1}
      - {name: data-b, source: nbd://store2.example.org/web1}
    size: 20G
    alarm: [/usr/local/sbin/tell-the-admins]

- name: Not any more
  platter.qemu.md_keeper:
    name: data
    state: absent
"""

RETURN = r"""
keeper:
  description: The keeper as it is now (in check mode, as it would be).
  returned: always
  type: dict
  contains:
    name: {description: The name of its array., type: str, returned: always}
    state: {description: 'V(present) or V(absent).', type: str, returned: always}
    supervisor: {description: 'V(systemd) or V(process).', type: str, returned: when it is present}
    running: {description: Whether it runs., type: bool, returned: when it is present}
    program: {description: The SHA-256 of its program., type: str, returned: when it is present}
    status:
      description:
        - What it said last of its array - its condition, its legs, and what is wrong with them (C(problems), by leg, each with
          C(reason) and C(message)). V(null) before its first look.
      type: dict
      returned: always
      contains:
        condition: {description: 'As of RV(platter.qemu.md_array#module:array.condition).', type: str, returned: always}
  sample:
    name: data
    state: present
    supervisor: systemd
    running: true
    program: 3f0b8f3a7c0a...
    status: {name: data, condition: clean, problems: {}}
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: [Write the keeper of array data., Start the keeper of array data.]
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The keeper before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: legs_share_server
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._keeper import engine
from ansible_collections.platter.qemu.plugins.module_utils._keeper.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._module import keeper_options, run
from ansible_collections.platter.qemu.plugins.module_utils._tools import systemd


def make_engine(module: AnsibleModule) -> engine.KeeperEngine:
    """The parts put together."""
    return engine.KeeperEngine(read_spec(module.params, systemd.runs()), lock_timeout=module.params["lock_timeout"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=keeper_options.argument_spec(),
        required_if=[("state", "present", ["uuid", "legs"])],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
