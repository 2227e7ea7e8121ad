#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""image_snapshot: the snapshots, layers and dirty bitmaps of QEMU disk images."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: image_snapshot
short_description: Take, revert to, merge and prune snapshots of QEMU disk images
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "this snapshot is there", "this disk is as it was then" and "no more than these are kept" states of an image,
    for one image or many, whether its VM runs or not. Keeps its persistent dirty bitmaps too.
  - Snapshots are internal, kept in a qcow2 file, or external, a file that is not written to any more with an overlay on
    it. The collection's guide to snapshots says which to take.
  - An image in use by something that the task does not name is never changed, nor is a file that other images are built
    on. A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - QEMU 5.2 or later (C(qemu-img), for encrypted images also C(qemu-io))
options:
  snapshots:
    description:
      - Many images in one task, instead of O(image). Each entry takes the same options; what an entry leaves unset is
        taken from the task.
      - All are planned first; if one is refused, none is changed (see O(fail_fast)). Those of one running VM are taken
        at the same moment.
    type: list
    elements: dict
    suboptions:
      image: &image
        description:
          - The image as the VM opens it, an absolute path of a file or block device.
          - For O(kind=external) any of the files that the disk has been in will do; the module follows the layers
            that it made up to the disk of now.
        type: path
        aliases: [path]
      format: &format
        description:
          - The format of the image, which is never guessed. For O(kind=external), that of the file which O(image)
            names.
        type: str
        choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
      name: &name
        description:
          - The name of the snapshot. Needed for every O(state) but V(pruned); with V(present) and O(bitmaps) it can
            be left out.
          - 1 to 255 bytes (200 for O(kind=external), where it becomes a part of a file name and has no C(/)), without
            control characters and outer spaces, and not digits only, which would be an ID.
        type: str
      kind: &kind
        description:
          - V(internal) - the snapshot is kept in the image, which has to be qcow2.
          - V(external) - the file of now is left as it is, and an overlay on it takes what is written from then on.
        type: str
        choices: [internal, external]
      state: &state
        description:
          - V(present) - the snapshot is there. One that is there is never taken anew.
          - V(absent) - it is not; what the disk holds stays the same. For O(kind=external), two neighbouring layers
            become one, as with V(committed) if nothing else is built on the snapshot's file, else as with
            V(streamed).
          - V(reverted) - the disk holds what it held then. What it holds now is kept first, see O(save). Not while its VM
            runs, but for O(memory) (RV(reason=guest_running)). For O(kind=internal) that is refused last, so all else that
            is in the way is told before the VM is stopped, as if it had been, having written something.
          - V(committed) - as V(absent), by copying what was written later down into the snapshot's file. For
            O(kind=external).
          - V(streamed) - as V(absent), by copying what the snapshot's file holds up into the layer above it. For
            O(kind=external).
          - V(pruned) - no more snapshots than O(retention) keeps are there, of those that O(match) names.
        type: str
        choices: [present, absent, reverted, committed, streamed, pruned]
      qmp_socket: &qmp_socket
        description:
          - The QMP socket of the QEMU that may have the image open. If it has, all is done through it; if nobody has
            the image open, the socket need not exist. Layers that it does not have open are changed beside it.
          - Without it, an image in use is left alone, see O(on_in_use).
        type: path
      agent_socket: &agent_socket
        description:
          - The socket of the guest agent of that VM, for O(quiesce).
        type: path
      quiesce: &quiesce
        description:
          - Whether the guest agent writes out and freezes the guest's file systems for the moment of the snapshot.
            They are thawed again whatever happens.
          - V(no) - it is not asked. V(try) - a guest that cannot do it is snapshot all the same, with a warning.
            V(required) - it is not.
          - Of the entries of one VM, the one that asks most counts for all of them.
        type: str
        choices: ['no', try, required]
      memory: &memory
        description:
          - Keep the memory of the running VM in the image too, so that it can be reverted while it runs. The VM is
            paused while that is written.
          - For O(kind=internal) with O(qmp_socket). One task lists every disk that the VM can write to, as the memory fits
            all of them at that moment or none.
          - Reverting a running VM with its memory always changes something, as it is never the same twice.
        type: bool
      overlay: &overlay
        description:
          - The file of the new overlay, for O(kind=external) with O(switch=none) or O(switch=symlink). Otherwise it
            is called after the image and the snapshot, and lies beside the layer of now.
        type: path
      relative: &relative
        description:
          - Record the name of the layer below relative to the directory of the new overlay, so that all can be moved
            together.
        type: bool
      switch: &switch
        description:
          - How the VM comes to the new overlay of O(kind=external).
          - V(none) - the overlay is a file of another name, RV(snapshot.active); you tell the VM.
          - V(symlink) - O(image) is a symbolic link, and leads to the overlay from then on.
          - V(rename) - the overlay takes the name of the image, and the file of now gets another one. For VMs that do
            not run.
          - Unset, it is what the task said by which the layer of now was made; V(none) if there was none. V(none) after
            another one has to be meant, and needs O(overlay).
        type: str
        choices: [none, symlink, rename]
      save: &save
        description:
          - With O(state=reverted), keep what the disk holds now as a snapshot first, unless one holds it already.
        type: bool
      save_as: &save_as
        description:
          - The name of that snapshot; otherwise O(name) with C(.undone) behind it, and a number if that is taken.
          - It stays until it is removed like any other; O(state=pruned) takes it if O(match) fits it.
        type: str
      allow_altered: &allow_altered
        description:
          - Go on although somebody has written to the file of a snapshot since it was taken, which is refused otherwise
            (RV(reason=snapshot_altered)). What it holds now is the snapshot from then on.
          - With O(state=present) too, which otherwise warns. For O(kind=external).
        type: bool
      match: &match
        description:
          - A shell pattern. O(state=pruned) counts and removes only snapshots whose names it fits. If it fits none of
            those that there are, a warning names them.
        type: str
      retention: &retention
        description:
          - Which snapshots O(state=pruned) keeps - those that any of the C(keep_) rules keeps. The newest that
            matches always stays.
          - Each of these rules but the first keeps the newest snapshot of each of its last periods (UTC) that have
            one.
        type: dict
        suboptions:
          keep_last:
            description:
              - How many of the newest are kept, at least 1.
            type: int
          keep_hourly:
            description:
              - Of how many hours one is kept.
            type: int
          keep_daily:
            description:
              - Of how many days one is kept.
            type: int
          keep_weekly:
            description:
              - Of how many ISO weeks one is kept.
            type: int
          keep_monthly:
            description:
              - Of how many months one is kept.
            type: int
          max_age:
            description:
              - Older ones go, whatever the other rules keep. Seconds, or a number with V(m), V(h), V(d) or V(w).
              - Alone, it keeps all that are younger.
            type: str
          max_depth:
            description:
              - How many snapshots there may be at most, those that O(match) does not name counted too; the oldest go.
                It is for O(kind=external), where each is a layer.
            type: int
      bitmaps: &bitmaps
        description:
          - The persistent dirty bitmaps of the image, with O(state=present). Others are left alone.
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - Its name, 1 to 1023 bytes.
            type: str
            required: true
          state:
            description:
              - Whether it is there.
            type: str
            choices: [present, absent]
            default: present
          enabled:
            description:
              - Whether it records writes. Unset, a new one does and another is left as it is.
            type: bool
          granularity:
            description:
              - How many bytes each of its bits stands for, a power of two from 512 to 2G. QEMU chooses for a new one
                if this is not set; it cannot be changed later.
            type: str
          sources:
            description:
              - Bitmaps of the same image that it is merged from if it is not there yet.
            type: list
            elements: str
      encryption: &encryption
        description:
          - The secret of an encrypted image (qcow2 with LUKS), for what is done while its VM does not run; a running QEMU
            has it. For O(kind=internal).
        type: dict
        suboptions:
          secret:
            description:
              - The secret that opens the image. It reaches QEMU as a private file only.
            type: str
          secret_file:
            description:
              - A file on this host that holds the secret, readable by its owner only. A newline at its end is part of
                the secret.
            type: path
      overlay_directories: &overlay_directories
        description:
          - Further directories in which overlays of the image may lie. Its own directory is always looked through
            before anything is changed.
          - Each must be the absolute path of a directory that exists; anything else is refused.
        type: list
        elements: path
      on_in_use: &on_in_use
        description:
          - What to do when an image that has to be changed is in use by something that is not behind O(qmp_socket).
          - V(fail) - refuse. V(skip) - leave it, with a warning. V(wait) - wait O(wait_timeout) seconds, then refuse.
        type: str
        choices: [fail, skip, wait]
      wait_timeout: &wait_timeout
        description:
          - Seconds that the task waits in all with O(on_in_use=wait).
        type: int
      job_timeout: &job_timeout
        description:
          - Seconds that a job of a running VM, such as a merge, may take. It goes on when they are over, and the next
            run of the task finishes what is left.
        type: int
  image: *image
  format: *format
  name: *name
  kind:
    <<: *kind
    default: internal
  state:
    <<: *state
    default: present
  qmp_socket: *qmp_socket
  agent_socket: *agent_socket
  quiesce:
    <<: *quiesce
    default: 'no'
  memory:
    <<: *memory
    default: false
  overlay: *overlay
  relative:
    <<: *relative
    default: false
  switch: *switch
  save:
    <<: *save
    default: true
  save_as: *save_as
  allow_altered:
    <<: *allow_altered
    default: false
  match:
    <<: *match
    default: '*'
  retention: *retention
  bitmaps: *bitmaps
  encryption: *encryption
  overlay_directories: *overlay_directories
  on_in_use:
    <<: *on_in_use
    default: fail
  wait_timeout:
    <<: *wait_timeout
    default: 60
  job_timeout:
    <<: *job_timeout
    default: 3600
extends_documentation_fragment:
  - platter.qemu.attributes
  - platter.qemu.task_options
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: 'The facts are its snapshots, layers and bitmaps.'}
  idempotent:
    support: full
    details: >-
      Also with O(state=reverted) - only if something has been written since is there anything to go back from. Of a
      running VM that cannot be told, so that O(memory) reverts it every time.
seealso:
  - module: platter.qemu.disk_image
  - module: platter.qemu.disk_image_info
  - module: platter.qemu.qemu_drive
  - name: Live block device operations
    description: What commit and stream do.
    link: https://www.qemu.org/docs/master/interop/live-block-operations.html
notes:
  - An encrypted image gets internal snapshots only, as what an overlay takes would not be encrypted.
  - An external snapshot hides the internal ones that the image has by then; they stay in the lower file.
  - Overlays are looked for in the directories of the image and its layers and in O(overlay_directories), and among the images
    that VMs are defined with (M(platter.qemu.qemu_drive)), with what lies below these. An overlay elsewhere, or on another
    host, is not seen.
  - No file goes that a VM is defined with, whether the VM runs or not, and none is written to that only the definition of
    another disk has below that, as C(backing) or C(data-file) in C(image.blockdev) (C(image_claimed)). Where
    the disk of now moves to another file by a merge, a warning names the VM. The definitions are those of the user who runs
    the task.
  - Root works on the layers of an image, or on one that no QEMU has open, only where nobody else can rename things; in a
    directory of an ordinary user, run the task as that user.
  - Which files are external snapshots is remembered in their attribute C(user.platter.qemu), or beside them where the
    file system has no attributes. Copy them with their attributes.
"""

EXAMPLES = r"""
- name: A point to go back to
  platter.qemu.image_snapshot:
    image: /srv/images/web1.qcow2
    format: qcow2
    name: before-upgrade

- name: Back to it; what has been written since is kept as before-upgrade.undone
  platter.qemu.image_snapshot:
    image: /srv/images/web1.qcow2
    format: qcow2
    name: before-upgrade
    state: reverted

- name: Both disks of a running VM at the same moment, with the guest's file systems at rest
  platter.qemu.image_snapshot:
    name: "nightly-{{ now(utc=true).strftime('%Y-%m-%d') }}"
    qmp_socket: /run/platter/web1.qmp
    agent_socket: /run/platter/web1.qga
    quiesce: try
    snapshots:
      - {image: /srv/images/web1.qcow2, format: qcow2}
      - {image: /srv/images/web1-data.qcow2, format: qcow2}

- name: A running VM with its memory, which has to have all its disks in one task
  platter.qemu.image_snapshot:
    name: warm
    memory: true
    qmp_socket: /run/platter/web1.qmp
    snapshots:
      - {image: /srv/images/web1.qcow2, format: qcow2}
      - {image: /srv/images/web1-data.qcow2, format: qcow2}

- name: The running VM goes on from there
  platter.qemu.image_snapshot:
    name: warm
    memory: true
    state: reverted
    qmp_socket: /run/platter/web1.qmp
    snapshots:
      - {image: /srv/images/web1.qcow2, format: qcow2}
      - {image: /srv/images/web1-data.qcow2, format: qcow2}

- name: An encrypted image; while its VM runs, QEMU has the secret
  platter.qemu.image_snapshot:
    image: /srv/images/vault.qcow2
    format: qcow2
    name: before-upgrade
    encryption: {secret_file: /etc/keys/vault}

- name: Freeze the disk of now in a file of its own; the VM goes on under the same name
  platter.qemu.image_snapshot:
    image: /srv/images/web1.qcow2
    format: qcow2
    kind: external
    name: before-upgrade
    switch: rename

- name: The upgrade was good, one layer is enough
  platter.qemu.image_snapshot:
    image: /srv/images/web1.qcow2
    format: qcow2
    kind: external
    name: before-upgrade
    switch: rename
    state: committed

- name: Keep what is worth keeping
  platter.qemu.image_snapshot:
    image: /srv/images/web1.qcow2
    format: qcow2
    state: pruned
    match: nightly-*
    retention: {keep_last: 3, keep_daily: 7, keep_weekly: 4, keep_monthly: 12}

- name: What incremental backups need
  platter.qemu.image_snapshot:
    image: /srv/images/web1.qcow2
    format: qcow2
    bitmaps:
      - {name: daily, granularity: 64K}
      - {name: week, sources: [monday, tuesday]}
      - {name: old, state: absent}
"""

RETURN = r"""
snapshot:
  description: >-
    The snapshots of the image as they are now (in check mode, as they would be). Of an image that was refused before it was
    looked at, RV(snapshot.image) and RV(snapshot.kind) only.
  returned: with O(image)
  type: dict
  contains:
    image: {description: The image as the task names it., type: str, returned: always}
    kind: {description: V(internal) or V(external)., type: str, returned: always}
    active: {description: The file that the disk is in now., type: str, returned: when it was looked at}
    virtual_size: {description: Bytes that the guest sees., type: int, returned: when it was looked at}
    snapshots:
      description: The snapshots, oldest first.
      type: list
      elements: dict
      returned: when it was looked at
      contains:
        name: {description: Its name., type: str, returned: always}
        date:
          description: When it was taken, ISO 8601 in UTC; null where that is not known, as of one that check mode predicts.
          type: str
          returned: always
        date_sec: {description: The same in seconds since 1970., type: int, returned: always}
        virtual_size: {description: Bytes that the guest saw then., type: int, returned: always}
        id: {description: Its ID in the image., type: str, returned: with O(kind=internal)}
        vm_state_size:
          description: >-
            Bytes of the VM's memory in it; of a VM's disks, one holds it. Null of one that check mode predicts with
            O(memory).
          type: int
          returned: with O(kind=internal)
        path:
          description: Its file now. A merge may leave a snapshot in a file that is called after another one.
          type: str
          returned: with O(kind=external)
        merging:
          description: Its merge was begun and not ended, so that it holds neither then nor now.
          type: bool
          returned: when it is so
        altered:
          description: Somebody has written to its file since it was taken, see O(allow_altered).
          type: bool
          returned: when it is so
    same_as:
      description: >-
        Names of the snapshots that hold what the disk holds now. Empty while its VM runs, as what QEMU has of it is not
        all in the file.
      type: list
      elements: str
      returned: when it was looked at
    layers:
      description: The files of the disk, from that of its lowest snapshot up to the active one.
      type: list
      elements: str
      returned: with O(kind=external)
    bitmaps:
      description: The persistent dirty bitmaps of the active file.
      type: list
      elements: dict
      returned: when it was looked at
      contains:
        name: {description: Its name., type: str, returned: always}
        enabled: {description: Whether it records writes., type: bool, returned: always}
        granularity: {description: Bytes that each of its bits stands for., type: int, returned: always}
        inconsistent:
          description: It was not written back by the QEMU that had it open last, and may miss writes.
          type: bool
          returned: when it is so
  sample:
    image: /srv/images/web1.qcow2
    kind: internal
    active: /srv/images/web1.qcow2
    virtual_size: 21474836480
    snapshots:
      - name: before-upgrade
        id: '1'
        vm_state_size: 0
        virtual_size: 21474836480
        date: '2026-03-01T02:00:07Z'
        date_sec: 1772330407
    same_as: [before-upgrade]
    bitmaps: []
snapshots:
  description: >-
    One entry for each of O(snapshots), in their order, with the keys RV(snapshot), RV(actions), RV(diff), C(changed)
    and, where it applies, C(failed), C(msg), RV(reason), RV(evidence), RV(skipped_reason).
  returned: with O(snapshots)
  type: list
  elements: dict
actions:
  description: >-
    What was done (in check mode, would be done), as sentences. How much data a merge copies is told as C(at most) where
    a running QEMU writes to the layer.
  returned: always
  type: list
  elements: str
  sample: ['Take snapshot before-upgrade of /srv/images/web1.qcow2.']
commands:
  description: >-
    Every command that was run, as a list of arguments; what was said to a running QEMU as V(qmp), its socket, the
    command and its arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The facts of each image before and after.
  returned: always
  type: raw
quiesced:
  description: Whether the guest's file systems were frozen while the snapshot was taken.
  returned: with O(quiesce=try) or O(quiesce=required), when a snapshot of a running VM was taken
  type: bool
reason:
  description: A stable code for why a task was refused; docs/reasons lists them.
  returned: when refused
  type: str
  sample: image_in_use
evidence:
  description: The facts behind the refusal.
  returned: when refused
  type: dict
failed_action:
  description: The step at which the work ended.
  returned: when it failed in the middle
  type: str
skipped_reason:
  description: Why an image was left alone.
  returned: with O(on_in_use=skip), when it was in use
  type: str
removed_leftovers:
  description: Build directories, second names and unfinished records that an earlier, killed run had left.
  returned: when there were some
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module import run, secret_files, snapshot_options
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import engine
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools import attributes


def make_engine(module: AnsibleModule) -> engine.SnapshotEngine:
    """The engine for the images of this task."""
    return engine.SnapshotEngine(
        [read_spec(secret_files.with_secret_files(module, entry)) for entry in snapshot_options.items(module.params)],
        attributes.copy_attributes,
        qemu_img=module.get_bin_path("qemu-img"),
        workers=module.params["workers"],
        fail_fast=module.params["fail_fast"],
        lock_timeout=module.params["lock_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=snapshot_options.argument_spec(),
        mutually_exclusive=[("image", "snapshots")],
        required_one_of=[("image", "snapshots")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
