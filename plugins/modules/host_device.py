#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""host_device: disk images and NBD exports as block devices of the host, as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: host_device
short_description: Attach disk images and NBD exports to the host as block devices
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "this image is a block device of this host, and found under this name" a state, for one device or many, and the
    same for what an NBD server exports.
  - A raw image becomes a loop device of the kernel, with no process that could end. So does an export, as a device of the
    kernel's own NBD client, where the kernel has that. Other formats are served to that client by C(qemu-storage-daemon);
    where the kernel has none, that shows the disk as a file (FUSE), which becomes a loop device. It goes on when the play
    is over, and ends with the device.
  - The device is found under C(/dev/platter/NAME), whichever number the kernel has given it.
  - What is on the disk is looked at before the host can touch it. What does not say so in O(identity) is not attached.
  - While it is attached the kernel holds QEMU's lock on the image, so that no VM, no C(qemu-img) and no export writes to
    it.
  - What is so is read from the kernel each time.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - Linux 5.8 or later
  - root
  - C(qemu-storage-daemon) of QEMU 7.0 or later, and C(qemu-io), for all but raw images and exports without TLS; and the
    kernel's NBD of Linux 5.14 or later, or C(/dev/fuse)
options:
  devices:
    description:
      - Many devices in one task, instead of O(source). Each entry takes the same options; what an entry leaves unset is
        taken from the task.
      - All are planned first; if one is refused, none is changed (see O(fail_fast)). Devices that have to go do so before
        the first one is attached.
    type: list
    elements: dict
    suboptions:
      name: &name
        description:
          - What the device is called on this host, and what it is known by. Without it, the last part of O(source), of an
            export its name.
          - 1 to 48 letters, digits, dots, underscores and minus signs; the first is a letter or a digit.
          - A device of this name that is made from something else is replaced only if O(name) is given.
        type: str
      source: &source
        description:
          - The image, an absolute path of a file or block device; or an export, as the NBD project writes it -
            C(nbd://host[:port]/export), C(nbd+unix:///export?socket=/path), and the same with C(nbds) for TLS. Needed for
            O(state=present).
        type: str
        aliases: [image]
      format: &format
        description:
          - The format of the image, which is never guessed. Needed for O(state=present), but for an export, whose bytes
            are attached as they are.
        type: str
        choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
      state: &state
        description:
          - V(present) - it is attached.
          - V(absent) - it is not. What was written to it is in the image then. Only O(name) or O(source) is needed.
          - A device that is mounted, or that anything else has open, is not detached (C(device_busy)).
        type: str
        choices: [present, absent]
      device: &device
        description:
          - The device of the kernel to use, V(/dev/loop7) or V(/dev/nbd3) for example; V(auto) is any that is free.
          - It also says how. With V(auto) that is a loop device for a raw image, for all else the kernel's NBD where it is
            there, and a loop device where not; what is attached one way already stays so.
        type: str
      read_only: &read_only
        description:
          - Whether the device can only be read. Also root cannot write to it then.
          - An image that something else has open for writing is not attached at all, one that something else has open
            only read-only, and one that other images are built on only read-only.
        type: bool
      offset: &offset
        description:
          - Where in the image the device begins, a multiple of 512 bytes, for example V(1M).
        type: str
      size: &size
        description:
          - How much of the image is attached, a multiple of 512 bytes. Without it, all up to its end; when the file has
            grown since, the device follows.
        type: str
      sector_size: &sector_size
        description:
          - Bytes of the sectors that the device shows. Without it, 512, or what O(direct_io) needs.
        type: int
        choices: [512, 1024, 2048, 4096]
      direct_io: &direct_io
        description:
          - Whether reads and writes of the image pass by the memory of the host.
        type: bool
      identity: &identity
        description:
          - What the disk must be. It is compared before the device is attached; on what is attached already, a file
            system may have been made since.
          - Without O(identity.signature) and O(identity.uuid) a disk is attached only if nothing is recognised on it; or
            no more than a partition table, if it is O(read_only).
        type: dict
        suboptions:
          size:
            description:
              - The size of the device, for example V(20G).
            type: str
          uuid:
            description:
              - The UUID of the file system, RAID array, LVM or LUKS volume on it, or of its partition table, as
                P(ansible.builtin.setup#module) and C(blkid) tell it. Nothing else may be on it.
            type: str
          signature:
            description:
              - Everything that is on it, by the names that C(blkid) has for it (V(ext4), V(xfs), V(LVM2_member),
                V(linux_raid_member), V(crypt_LUKS), V(gpt), V(dos) and so on), or of an image by its format. V(none)
                for nothing.
              - With V(none) and other names, for example V([none, ext4]), either nothing is on it, or all of these, and
                with O(identity.uuid) that is theirs. So one task is right the first time and later.
              - What partitions carry does not count.
            type: list
            elements: str
      tls_certificates: &tls_certificates
        description:
          - With C(nbds), a directory on the managed host with C(ca-cert.pem), and with C(client-cert.pem) and
            C(client-key.pem) if the server asks for a certificate. Others must not be able to read the key.
        type: path
      tls_hostname: &tls_hostname
        description: >-
          The name that the server's certificate must have, if it is not the host in O(source). Needed for certificates
          over a Unix socket, which has no name.
        type: str
      tls_psk_file: &tls_psk_file
        description:
          - With C(nbds), a file on the managed host with pre-shared keys, instead of O(tls_certificates). Each line is
            C(user:key), the key in hexadecimal. Others must not be able to read it. Needs Python 3.13.
        type: path
      tls_username: &tls_username
        description: Whose line of O(tls_psk_file) it is, if it has more than one.
        type: str
      overlay_directories: &overlay_directories
        description:
          - Further directories in which images may lie that are built on this one. Its own directory is always looked
            through before it is attached read-write.
          - Each must be the absolute path of a directory that exists; anything else is refused.
        type: list
        elements: path
      timeout: &timeout
        description:
          - Seconds that each of these may take - the kernel has the device ready, with its size and all its partitions;
            it lets the device go; a server of an export answers; what this host has sent to that server before arrives, or is
            given up, if the device can be written to; our own server starts, and writes out what it holds and
            ends. One that can be written to is not killed then, and the task fails (C(stop_timeout)).
        type: int
      io_timeout: &io_timeout
        description:
          - Seconds after which a read or write of the device fails that its server has not answered, and all that follow, as
            if the server had ended. V(0) - they wait, for as long as it takes.
          - Over TCP, what the server's host has not received by then is never sent any more. With TLS, or another server in
            between, Linux may still send it for a while; until it has ended, no device that can be written to is attached
            from that server, as an old write would be done after newer ones.
          - Only the kernel's NBD can do that; with a loop device it is refused.
        type: int
  name: *name
  source: *source
  format: *format
  state:
    <<: *state
    default: present
  device:
    <<: *device
    default: auto
  read_only:
    <<: *read_only
    default: true
  offset: *offset
  size: *size
  sector_size: *sector_size
  direct_io:
    <<: *direct_io
    default: false
  identity: *identity
  tls_certificates: *tls_certificates
  tls_hostname: *tls_hostname
  tls_psk_file: *tls_psk_file
  tls_username: *tls_username
  overlay_directories: *overlay_directories
  timeout:
    <<: *timeout
    default: 30
  io_timeout:
    <<: *io_timeout
    default: 0
  workers:
    description:
      - How many devices are worked on at a time; V(0) lets the module choose.
    type: int
    default: 0
  fail_fast:
    description:
      - With V(true), one refusal stops the task, and nothing is begun.
      - With V(false), the other devices are carried out all the same, and the task fails at its end.
    type: bool
    default: true
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same device or image.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full, details: 'The path of the device is not predicted, only its link.'}
  diff_mode: {support: full, details: Shows each device before and after.}
  idempotent: {support: full, details: Who uses the device notices nothing of the second run.}
seealso:
  - module: platter.qemu.disk_image
  - module: platter.qemu.nbd_export
  - module: platter.qemu.nbd_keys
  - module: ansible.posix.mount
  - module: community.general.filesystem
notes:
  - That a task is C(changed) says that the device was attached, as it is again after each start of the host. It does not
    say that it is blank. What must only happen to a blank disk asks for C(device.contents == []), or does nothing by itself
    where a file system is (P(community.general.filesystem#module)).
  - Devices do not come back by themselves when the host is started anew; run the task again then.
  - A device that somebody detaches by other means (C(losetup -d)) leaves its link behind until the task is run again.
  - The kernel's NBD waits for a server that says nothing for as long as that takes, and who uses the device waits with it.
  - A server of ours that is killed takes its device along, which then fails to read and to write; the next run attaches it
    again. What was written and not flushed is lost then, if the image is not raw. It does not connect to a server of an
    export again by itself, which could hide that writes were lost.
  - To be looked at, an export is opened. A C(qemu-nbd) without C(--persistent) ends after that.
  - Who can write to an image chooses, by its header, which data file and which backing files are read with it. These must be
    files that all others who can write to the image can read too, and a data file of a device that can be written to one
    that they can write to (C(image_references_file)).
  - Overlays are looked for in the directory of the image, in O(overlay_directories), and among the disks of the VMs that
    M(platter.qemu.qemu_drive) has defined for the user who runs the task; not elsewhere, and not on other hosts. What only
    such a definition has below an image (C(backing) or C(data-file) in C(image.blockdev)) is not written to either
    (C(image_claimed)).
"""

EXAMPLES = r"""
- name: A new data disk as a block device
  platter.qemu.host_device:
    source: /srv/images/data1.raw
    format: raw
    read_only: false
    identity: {size: 64M, signature: [none, ext4]}
  register: data1

- name: With a file system, if there was nothing on it
  ansible.builtin.command:
    argv: [mkfs.ext4, "{{ data1.device.link }}"]
  changed_when: true
  when: data1.device.contents == []

- name: Not there any more, as soon as nobody has it mounted
  platter.qemu.host_device:
    source: /srv/images/data1.raw
    state: absent

- name: To look at it, if it is the right one
  platter.qemu.host_device:
    name: data1-look
    source: /srv/images/data1.raw
    format: raw
    identity: {signature: ext4}

- name: A part of it, with large sectors, and another disk
  platter.qemu.host_device:
    format: raw
    devices:
      - {name: data1-part, source: /srv/images/data1.raw, offset: 32M, size: 16M, sector_size: 4096}
      - {name: data2, source: /srv/images/data2.raw, read_only: false}

- name: The disk of a VM that does not run, to look into
  platter.qemu.host_device:
    name: web1
    source: /srv/images/web1.qcow2
    format: qcow2
  register: web1

- name: The disk that another host serves, if it is the right one
  platter.qemu.host_device:
    source: nbd://store1.example.org/backup1
    identity: {size: 64M, signature: none}

- name: None of them
  platter.qemu.host_device:
    state: absent
    devices: [{name: data1-look}, {name: data1-part}, {name: data2}, {name: web1}, {name: backup1}]
"""

RETURN = r"""
device:
  description: The device as it is now (in check mode, as it would be).
  returned: unless O(devices) is given
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    state: {description: 'V(present) or V(absent).', type: str, returned: always}
    link:
      description: A path that leads to it for as long as it is attached, whatever number it has.
      type: str
      returned: when there is one
    unlinked: {description: The link is missing or leads elsewhere., type: bool, returned: when it is so}
    path:
      description: The device of the kernel.
      type: str
      returned: when it is attached, not for a change in check mode
    partitions:
      description: Its partitions as the kernel has found them. All of them can be opened.
      type: list
      elements: dict
      returned: with RV(device.path)
      contains:
        number: {description: Its number., type: int, returned: always}
        path: {description: Its device., type: str, returned: always}
        start: {description: Where it begins in the device., type: int, returned: always}
        size: {description: Its bytes., type: int, returned: always}
    pid: {description: 'Our server.', type: int, returned: 'with RV(device.path), when it has one'}
    broken:
      description: Its server has ended, so that it can be neither read nor written.
      type: bool
      returned: when it is so
    kind:
      description: How it is attached, V(loop), V(nbd), or V(fuse) for a loop device by FUSE.
      type: str
      returned: when it is attached
    source: {description: 'The image, without links, or the URI.', type: str, returned: when it is attached}
    format: {description: The format of the image., type: str, returned: when it is attached}
    size: {description: Bytes of the device., type: int, returned: when it is attached}
    contents:
      description:
        - What was recognised on it when this task looked, before it was attached, by the names of
          O(identity.signature). Empty - nothing that is known.
        - V(null) - it was attached already, and was not looked at.
      type: list
      elements: str
      returned: with O(state=present)
    offset: {description: Where in the image it begins., type: int, returned: when it is attached}
    read_only: {description: Whether it can only be read., type: bool, returned: when it is attached}
    direct_io: {description: Whether it passes by the memory of the host., type: bool, returned: when it is attached}
    sector_size: {description: Bytes of its sectors., type: int, returned: with O(sector_size)}
  sample:
    name: data1.raw
    state: present
    link: /dev/platter/data1.raw
    path: /dev/loop3
    partitions: []
    kind: loop
    source: /srv/images/data1.raw
    format: raw
    size: 67108864
    contents: [ext4]
    offset: 0
    read_only: false
    direct_io: false
devices:
  description: >-
    One entry for each of O(devices), in their order, with the keys RV(device), RV(actions), RV(diff), C(changed) and,
    where it applies, C(failed), C(msg), RV(reason) and RV(evidence).
  returned: with O(devices)
  type: list
  elements: dict
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample:
    - 'Attach /srv/images/data1.raw (raw), 64 MiB, as device data1.raw, read-write.'
    - 'Have /dev/platter/data1.raw lead to it.'
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The facts of each device before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: device_busy
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._device import definition, engine
from ansible_collections.platter.qemu.plugins.module_utils._device.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._module import device_options, run


def make_engine(module: AnsibleModule) -> engine.DeviceEngine:
    """The parts put together."""
    return engine.DeviceEngine(
        [read_spec(params) for params in device_options.items(module.params)],
        {definition.PROGRAM: module.get_bin_path(definition.PROGRAM)},
        workers=module.params["workers"],
        lock_timeout=module.params["lock_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=device_options.argument_spec(),
        mutually_exclusive=[("name", "devices"), ("source", "devices")],
        required_one_of=[("name", "source", "devices")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
