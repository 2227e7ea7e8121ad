#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_timer: a timer on the host that takes snapshots and keeps some, as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: snapshot_timer
short_description: Have snapshots taken and pruned by a timer on the host itself
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "each night a snapshot is taken, and so many are kept" a state of a host, which then does it without Ansible.
  - Writes a program of this collection to the host, which needs nothing but Python and QEMU's programs there, and a timer of
    systemd that runs it. The program does what M(platter.qemu.image_snapshot) would do, by the same code and with the same
    refusals, whether a VM runs or not.
  - What is refused or fails does not keep other images from being done. For its own image, and the other disks of its VM, the
    entries that come after it are left out of that run - without a new snapshot, no old one goes. It is the same after an image
    that was left alone (O(snapshots[].on_in_use=skip)), which fails no run.
  - What a run did is in the journal, one line for each entry (C(journalctl --unit=platter-snapshots-NAME)), and in
    C(/var/lib/platter/snapshots/NAME/status.json), which is RV(timer.last_run). If anything was refused or failed, its exit
    status is 1, and systemd shows the unit as failed.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - Linux with systemd, which has started the host
  - root
  - what M(platter.qemu.image_snapshot) needs
options:
  name:
    description:
      - The name of the timer; its units are C(platter-snapshots-NAME.timer) and C(.service). 1 to 63 letters, digits, dots,
        underscores and minus signs.
    type: str
    required: true
  state:
    description:
      - V(present) - the timer waits for its time, now and after each boot.
      - V(absent) - nothing of it is on the host. The snapshots stay. A run that goes on is waited for, see O(lock_timeout).
    type: str
    choices: [present, absent]
    default: present
  on_calendar:
    description:
      - When it runs, as in systemd.time(7) - V(daily), V(02:30 UTC), V(Mon..Fri 22:00), V(hourly). Needed for O(state=present).
        One that never comes, or not any more, is refused.
      - Without a time zone it is the host's, and a night that does not have that time, as V(02:30) where summer time begins, is
        left out.
      - A time that the host has slept through is made up for at its next start; one that has passed since the last run, when this
        option is changed, at once.
    type: str
  randomized_delay:
    description:
      - Seconds by which each run begins later at most, by chance, so that many hosts do not begin at one moment.
    type: int
    default: 0
  snapshots:
    description:
      - What a run does, as O(platter.qemu.image_snapshot#module:snapshots). Needed for O(state=present).
      - The entries of one image are done in their order, typically one that takes a snapshot and one with C(state=pruned). The
        first entries of all images of one VM (O(snapshots[].qmp_socket)) are done at the same moment, and so on.
    type: list
    elements: dict
    suboptions:
      image:
        description:
          - As O(platter.qemu.image_snapshot#module:image). It need not be there yet.
        type: path
        required: true
      format:
        description:
          - As O(platter.qemu.image_snapshot#module:format).
        type: str
        choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
        required: true
      state:
        description:
          - V(present) - a snapshot is taken. V(pruned) - no more are there than O(snapshots[].retention) keeps.
        type: str
        choices: [present, pruned]
        default: present
      name:
        description:
          - The name of the snapshot that is taken, with the date of the run in it (UTC). C(%Y), C(%m), C(%d), C(%H), C(%M) and
            C(%S) stand for the year, month, day, hour, minute and second, C(%%) for a percent sign; nothing else may follow one.
          - A name that is there already is not taken anew, so that V(nightly-%Y%m%d) is one a day at most. Names that come again,
            as one with the hour and no day would each night, are refused.
        type: str
      kind:
        description:
          - As O(platter.qemu.image_snapshot#module:kind); V(internal) unless it is set.
        type: str
        choices: [internal, external]
      qmp_socket:
        description:
          - As O(platter.qemu.image_snapshot#module:qmp_socket).
        type: path
      agent_socket:
        description:
          - As O(platter.qemu.image_snapshot#module:agent_socket).
        type: path
      quiesce:
        description:
          - As O(platter.qemu.image_snapshot#module:quiesce).
        type: str
        choices: ['no', try, required]
      relative:
        description:
          - As O(platter.qemu.image_snapshot#module:relative).
        type: bool
      switch:
        description:
          - As O(platter.qemu.image_snapshot#module:switch). Needed to take snapshots of O(snapshots[].kind=external), as nobody
            is there to tell a VM another name.
        type: str
        choices: [symlink, rename]
      match:
        description:
          - As O(platter.qemu.image_snapshot#module:match). Needed for C(state=pruned), as nobody looks at what goes. Those that
            people have taken go too if their names fit.
        type: str
      retention:
        description:
          - As O(platter.qemu.image_snapshot#module:retention).
        type: dict
        suboptions:
          keep_last:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.keep_last).
            type: int
          keep_hourly:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.keep_hourly).
            type: int
          keep_daily:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.keep_daily).
            type: int
          keep_weekly:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.keep_weekly).
            type: int
          keep_monthly:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.keep_monthly).
            type: int
          max_age:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.max_age).
              - It goes by the clock of the host - in a run with one that is far ahead, all but the newest are older. The other
                rules count what there is.
            type: str
          max_depth:
            description:
              - As O(platter.qemu.image_snapshot#module:retention.max_depth).
            type: int
      overlay_directories:
        description:
          - As O(platter.qemu.image_snapshot#module:overlay_directories).
        type: list
        elements: path
      on_in_use:
        description:
          - As O(platter.qemu.image_snapshot#module:on_in_use).
        type: str
        choices: [fail, skip, wait]
      wait_timeout:
        description:
          - As O(platter.qemu.image_snapshot#module:wait_timeout).
        type: int
      job_timeout:
        description:
          - As O(platter.qemu.image_snapshot#module:job_timeout).
        type: int
  lock_timeout:
    description:
      - Seconds to wait for a run of the timer, or for another run of this collection that works on it. A run waits as long for
        what else works on one of its images.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: Shows the settings and the timer before and after.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.image_snapshot
notes:
  - Secrets are not taken, so that none lies on the host in a file of ours. An encrypted image whose VM runs needs none
    (O(snapshots[].qmp_socket)); while it does not run, its entries are refused.
  - A run is root's. Images in a directory of another user are refused by each (C(unsafe_directory)); for those,
    M(platter.qemu.image_snapshot) can be run by that user.
  - After an update of this collection the program is changed too. A run that goes on is waited for, and the timer waits for its
    time meanwhile.
"""

EXAMPLES = r"""
- name: Each night a snapshot of the VM's disk, whether it runs or not, and a week of them is kept
  platter.qemu.snapshot_timer:
    name: web1
    on_calendar: '02:30 UTC'
    randomized_delay: 600
    snapshots:
      - image: /srv/images/web1.qcow2
        format: qcow2
        qmp_socket: /run/platter/web1.qmp
        name: nightly-%Y%m%d-%H%M%S
      - image: /srv/images/web1.qcow2
        format: qcow2
        qmp_socket: /run/platter/web1.qmp
        state: pruned
        match: nightly-*
        retention: {keep_daily: 7, keep_weekly: 4}

- name: Not any more; the snapshots stay
  platter.qemu.snapshot_timer:
    name: web1
    state: absent
"""

RETURN = r"""
timer:
  description: The timer as it is now (in check mode, as it would be).
  returned: always
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    state: {description: 'V(present) or V(absent).', type: str, returned: always}
    active: {description: Whether it waits for its time., type: bool, returned: when it is present}
    program: {description: The SHA-256 of its program., type: str, returned: when it is present}
    run_failed:
      description:
        - Whether systemd calls its last run failed. It does so too of one that could not begin, as without Python, or was killed,
          of which RV(timer.last_run) is no account.
      type: bool
      returned: when it is present
    last_run:
      description: What its last run that began did. V(null) before the first.
      type: dict
      returned: always
      contains:
        began: {description: 'When it began, ISO 8601 in UTC.', type: str, returned: always}
        ended: {description: 'When it ended. V(null) while it runs, and when it was killed.', type: str, returned: always}
        changed: {description: Whether it changed anything., type: bool, returned: always}
        failed: {description: Whether anything was refused or failed., type: bool, returned: always}
        snapshots:
          description:
            - What became of each entry of O(snapshots), in the order in which they were done - C(image), C(state), C(changed),
              C(failed), C(actions), and where it applies C(warnings), C(reason), C(msg), C(quiesced) and C(skipped_reason)
              (V(image_in_use); V(needs_failed) and V(needs_skipped) after a failure, or an image left alone, of the same image or
              another of its VM).
          type: list
          elements: dict
          returned: always
  sample:
    name: web1
    state: present
    active: true
    run_failed: false
    program: 3f0b8f3a7c0a...
    last_run:
      began: '2026-03-02T02:30:00Z'
      ended: '2026-03-02T02:30:01Z'
      changed: true
      failed: false
      snapshots:
        - image: /srv/images/web1.qcow2
          state: present
          changed: true
          failed: false
          actions: [Take snapshot nightly-20260302-023000 of /srv/images/web1.qcow2.]
          warnings: []
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: [Write the timer of snapshots web1., Start the timer of snapshots web1.]
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The timer before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: bad_option
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module import run, timer_options
from ansible_collections.platter.qemu.plugins.module_utils._timer import engine
from ansible_collections.platter.qemu.plugins.module_utils._timer.read_spec import read_spec


def make_engine(module: AnsibleModule) -> engine.TimerEngine:
    """The parts put together."""
    return engine.TimerEngine(read_spec(module.params), lock_timeout=module.params["lock_timeout"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=timer_options.argument_spec(),
        required_if=[("state", "present", ["on_calendar", "snapshots"])],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
