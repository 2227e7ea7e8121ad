#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""qemu_vm: the process of a VM as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: qemu_vm
short_description: Start and stop a VM that qemu_drive has defined
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "this VM runs" a state of the host, for one VM or many. What is started is what M(platter.qemu.qemu_drive) has defined,
    with a monitor (QMP) at a socket that only its owner can connect to.
  - A QEMU that fails or is killed is started again, by systemd where that runs (see O(supervisor)). A guest that powers itself
    off stays off.
  - A guest is stopped by its power button. QEMU is told to end without it only if the task says so, and is never killed.
  - What is so is read from the host each time - from the processes, from systemd, and from how the VM was declared.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - QEMU 5.2 or later
  - Linux 3.15 or later
  - systemd 239 or later for O(supervisor=systemd)
options:
  vms:
    description:
      - Many VMs in one task, instead of O(vm). Each entry takes the same options; what an entry leaves unset is taken from the
        task, except O(vms[].config) and O(vms[].qmp_socket), which are those of one VM.
      - All are planned first; if one is refused, none is changed (see O(fail_fast)). They are started, and stopped, side by side.
    type: list
    elements: dict
    suboptions:
      vm: &vm
        description:
          - What the VM is called, as in M(platter.qemu.qemu_drive).
        type: str
      config: &config
        description:
          - The directory of its definition, an absolute path; without it C(/etc/platter/vm/) and the name of the VM.
          - Only O(state=started) needs it. A VM without definition is refused (C(definition_missing)).
        type: path
      state: &state
        description:
          - V(started) - it runs. One that runs already goes on, also when its definition has changed (see
            RV(vm.needs_restart)). With systemd it is started at boot as well.
          - V(stopped) - it does not. With systemd it is not started at boot, and its unit stays.
          - V(absent) - it does not, and its unit, or what the supervisor has of it with the log, is gone. Its definition stays.
          - A VM of that name that something else has started is refused (C(already_running)) and not taken over, also one that
            was started by hand with the program C(start) of its definition. The message says how it is ended; then start it here.
        type: str
        choices: [started, stopped, absent]
      qmp_socket: &qmp_socket
        description:
          - The Unix socket of its monitor, in a directory that exists and that others cannot write to. Its mode is 0600.
          - Without it, C(/run/platter/VM.qmp); for others than root, C(platter/VM.qmp) in the directory C($XDG_RUNTIME_DIR), or
            C(/tmp/platter-UID/VM.qmp) where that is not set.
          - Arguments of the definition that make this monitor already are enough.
        type: path
      supervisor: &supervisor
        description:
          - What starts the VM, again when QEMU fails, and has its guest power down with the host.
          - V(systemd) - a unit C(platter-vm-VM.service), which is there again after the host was started anew. Only root can have
            it. When the host is shut down, the guest has O(stop_timeout) to power down; then QEMU is told to quit.
          - V(process) - a small program of this collection. It knows nothing of a shutdown of the host; stop the VM before. After
            the host was started anew, run the task again.
          - V(auto) - V(systemd) where it runs and root runs the task, else V(process). A VM that runs keeps what it has.
        type: str
        choices: [auto, systemd, process]
      start_timeout: &start_timeout
        description:
          - Seconds until QEMU must answer at O(qmp_socket). Else the task fails (C(start_failed)), with the end of its log, and
            nothing is left running.
        type: int
      stop_timeout: &stop_timeout
        description:
          - Seconds that the guest has to power down; the power button is pressed every few seconds. Then the task fails
            (C(stop_timeout)), and the VM goes on.
        type: int
      allow_power_off: &allow_power_off
        description:
          - Whether QEMU is told to quit when the guest has not powered down in time. QEMU writes out what it holds; what the
            guest has not written is lost, as with a cut of power.
        type: bool
  vm: *vm
  config: *config
  state:
    <<: *state
    default: started
  qmp_socket: *qmp_socket
  supervisor:
    <<: *supervisor
    default: auto
  start_timeout:
    <<: *start_timeout
    default: 30
  stop_timeout:
    <<: *stop_timeout
    default: 120
  allow_power_off:
    <<: *allow_power_off
    default: false
  workers:
    description:
      - How many VMs are worked on at a time; V(0) lets the module choose.
    type: int
    default: 0
  fail_fast:
    description:
      - With V(true), one refusal stops the task, and nothing is begun.
      - With V(false), the other VMs are carried out all the same, and the task fails at its end.
    type: bool
    default: true
  lock_timeout:
    description:
      - Seconds to wait for another run of this module that works on the same VM.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: Shows each VM before and after.}
  idempotent: {support: full, details: The guest notices nothing of the second run.}
seealso:
  - module: platter.qemu.qemu_drive
  - module: platter.qemu.qemu_drive_info
  - name: The QEMU Machine Protocol
    description: C(system_powerdown) and C(quit).
    link: https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
notes:
  - To have a VM run with what is defined now, stop it, then start it (two tasks).
  - QEMU gets C(-display none) where the definition's arguments name no display; it would listen for VNC by itself.
  - QEMU runs as the user of the task, with the umask 0177. Its unit closes nothing to it, as what else of the host a VM needs is
    not known here.
  - The unit of a VM does not name the exports of this host (M(platter.qemu.nbd_export)) that it has disks on. Say C(After=) of
    their units in a file of your own (C(systemctl edit)), so that they go on until the guest has powered down.
"""

EXAMPLES = r"""
- name: A VM with one disk
  platter.qemu.qemu_drive:
    vm: web1
    drives:
      - {id: system, image: {path: /srv/images/web1.qcow2, format: qcow2}, device: virtio-blk-pci}
    arguments: [-m, 512M]

- name: It runs
  platter.qemu.qemu_vm:
    vm: web1
  register: web1

- name: Its definition has changed since it was started
  ansible.builtin.debug:
    msg: web1 has to be started anew
  when: web1.vm.needs_restart | default(false)

- name: It does not run. The guest has a minute, then QEMU is told to quit
  platter.qemu.qemu_vm:
    vm: web1
    state: stopped
    stop_timeout: 60
    allow_power_off: true

- name: Many, side by side
  platter.qemu.qemu_vm:
    vms:
      - {vm: web1}
      - {vm: web2, config: /srv/vms/web2}

- name: Nothing starts it any more; its definition and its images stay
  platter.qemu.qemu_vm:
    vm: web1
    state: absent
    stop_timeout: 60
    allow_power_off: true
"""

RETURN = r"""
vm:
  description: The VM as it is now (in check mode, as it would be).
  returned: with O(vm)
  type: dict
  contains:
    vm: {description: Its name., type: str, returned: always}
    state: {description: 'V(started), V(stopped) or V(absent).', type: str, returned: always}
    config: {description: The directory of its definition., type: str, returned: unless it is absent}
    qmp_socket: {description: The socket of its monitor., type: str, returned: unless it is absent}
    supervisor:
      description: What starts it again when it fails, V(systemd) or V(process).
      type: str
      returned: unless it is absent
    at_boot: {description: Whether systemd starts it with the host., type: bool, returned: with systemd}
    unsupervised: {description: 'It runs, but nothing would start it again.', type: bool, returned: when it is so}
    pid: {description: The QEMU., type: int, returned: 'when it runs, not for a change in check mode'}
    needs_restart:
      description:
        - Whether it runs with other arguments than are defined now, or under another supervisor than O(supervisor) says. Drives
          that were plugged in meanwhile are in no argument.
      type: bool
      returned: 'with O(state=started), not for a change in check mode'
  sample:
    vm: web1
    state: started
    config: /etc/platter/vm/web1
    qmp_socket: /run/platter/web1.qmp
    supervisor: systemd
    at_boot: true
    pid: 4711
    needs_restart: false
vms:
  description: >-
    One entry for each of O(vms), in their order, with the keys RV(vm), RV(actions), RV(diff), C(changed) and, where it applies,
    C(failed), C(msg), RV(reason) and RV(evidence).
  returned: with O(vms)
  type: list
  elements: dict
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample:
    - 'Declare VM web1 for systemd: as defined in /etc/platter/vm/web1, with its monitor at /run/platter/web1.qmp.'
    - Start VM web1, supervised by systemd.
commands:
  description: Every command that was run, as a list of arguments, and what QEMU was told.
  returned: always
  type: list
  elements: list
diff:
  description: The facts of each VM before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: stop_timeout
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module import power_options, run
from ansible_collections.platter.qemu.plugins.module_utils._power import engine
from ansible_collections.platter.qemu.plugins.module_utils._power.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places


def make_engine(module: AnsibleModule) -> engine.PowerEngine:
    """The parts put together."""
    directory = own_places.socket_directory()
    return engine.PowerEngine(
        [read_spec(params, directory) for params in power_options.items(module.params)],
        workers=module.params["workers"],
        lock_timeout=module.params["lock_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=power_options.argument_spec(),
        mutually_exclusive=[("vm", "vms")],
        required_one_of=[("vm", "vms")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
