#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""qemu_drive: the drives of a VM as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: qemu_drive
short_description: The drives of a VM as state - defined once, proven by QEMU, and started without quoting anything
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Keeps the definition of a VM's drives on its host, with QEMU's arguments made of it, and a program that starts the VM
    with them.
  - Before anything is written, the QEMU of the host proves that it takes the drives (O(validate)). No guest runs for
    that, and images are opened as a mere reader, beside a VM that has them open.
  - An image, device or export that another VM's definition has, or that another process has open, is refused, unless it is
    meant to be shared.
  - Whoever looks, at any time, finds the old definition with all that is made of it, or the new one.
  - With O(qmp_socket) a VM that runs is made as it is defined - drives are plugged in and unplugged, media changed, limits set;
    what only a new start can change is named (RV(live.needs_restart)). Without it, what is defined counts from the next
    start on.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - Linux 3.15 or later
  - QEMU (C(qemu-system-x86_64) or that of the host's kind) 5.2 or later, for O(validate); limits of throughput in the style
    V(blockdev) need QEMU 6.0
options:
  vms:
    description:
      - Many VMs in one task, instead of O(vm). Each entry takes the same options; what an entry leaves unset is taken from the
        task, except O(vms[].config) and O(vms[].qmp_socket), which are those of one VM.
      - All are planned first; if one is refused, none is changed (see O(fail_fast)). They are judged by what they will have, so
        that one can take over what another gives up.
    type: list
    elements: dict
    suboptions:
      vm: &vm
        description:
          - What the VM is called, also by QEMU (C(-name)).
          - 1 to 48 letters, digits, dots, underscores and minus signs; the first is a letter or a digit.
        type: str
      config: &config
        description:
          - The directory of the definition, an absolute path; without it C(/etc/platter/vm/) and the name of the VM. It is made
            where it is missing.
          - What is started from there must be ours - a directory in which others can put something, or to which another user's
            link leads, is refused in every run (C(unsafe_directory)). Files of the definition that belong to another user are
            written anew.
        type: path
      state: &state
        description:
          - V(present) - the drives are defined as described.
          - V(absent) - there is no definition. Other files in O(config) stay, and so do all images. Without O(config) a VM that
            is defined in another directory is refused (C(name_taken)).
          - A VM that runs goes on when its definition goes, with images that no definition claims any more. That gives a
            warning.
          - The directories C(/etc/platter) and C(/etc/platter/vm) stay, also empty, as nobody knows who has made them.
        type: str
        choices: [present, absent]
      drives: &drives
        description:
          - The drives that the task is about. What it does not list stays as it is, unless O(purge) is set.
          - A drive that is listed is as described here, whatever it was before, so all of it is written each time - one with
            neither O(drives[].image) nor O(drives[].device) is refused (C(image_missing)). A place that it was given by us (of
            an IDE or SCSI drive) stays its own, also when others come and go.
        type: list
        elements: dict
        suboptions:
          id:
            description: Its name, in QEMU that of its node and device. A letter, then letters, digits, C(-), C(.) and C(_).
            type: str
            required: true
          state:
            description:
              - V(absent) - there is no drive of this name. Where there is none already, but one of nearly the same name, that
                gives a warning.
            type: str
            choices: [present, absent]
            default: present
          image:
            description:
              - What QEMU opens - C(path) and C(format) of a file or device of the host; or C(uri), such as
                C(nbd://store1/data), and C(format); or C(blockdev), a node of QEMU with all that is below it. C(options) are
                further options of the node of C(format). Paths are absolute (C(bad_path)).
              - A file or device whose bytes are of another format is refused (C(format_mismatch)), unless it was defined so
                before. QEMU takes anything for V(raw), and the guest would write over the header of an image. What
                P(platter.qemu.disk_image#module) has made raw is raw, whatever its guest writes there; of another raw disk
                C(options) with C(offset) V(0) says so.
              - C(backing) with the value V(null), in C(options) or C(blockdev), cuts the chain, as in QEMU's own words - what
                the image is built on is not opened.
              - Without it, a CD-ROM or floppy is empty.
            type: dict
          device:
            description:
              - What the guest sees - V(virtio-blk-pci), V(scsi-hd), V(scsi-cd), V(scsi-block), V(ide-hd), V(ide-cd), V(nvme),
                V(usb-storage), V(floppy), V(sd-card), V(pflash) and so on. A controller that is needed is made.
              - Without it the guest sees nothing of the drive, which is then a node of QEMU only, for others to name. A drive
                that no other one names so gives a warning.
            type: str
          device_id:
            description: The id of the device, if it is not that of the drive.
            type: str
          bus: {description: 'The bus it is on, such as V(scsi0.0).', type: str}
          addr: {description: The address on a PCI bus., type: str}
          unit: {description: 'The place on an IDE or floppy controller.', type: str}
          index: {description: 'Of V(pflash), which of the two.', type: str}
          scsi_id: {description: The target on a SCSI bus., type: str}
          lun: {description: The logical unit of it., type: str}
          channel: {description: The channel of it., type: str}
          port: {description: The port of a USB controller., type: str}
          serial: {description: The serial number that the guest sees., type: str}
          wwn: {description: 'The world wide name, such as V(0x5000c50015ea71ad).', type: str}
          bootindex: {description: Its place in the order of booting., type: str}
          logical_block_size: {description: 'Bytes of a logical block, such as V(4096).', type: str}
          physical_block_size: {description: Bytes of a physical block., type: str}
          discard_granularity: {description: Bytes that are discarded together., type: str}
          rotation_rate: {description: 'Turns of the disk per minute; V(1) is an SSD.', type: str}
          queues: {description: Number of queues of a virtio disk., type: str}
          queue_size: {description: Requests in each., type: str}
          iothread: {description: The iothread that works for it; it is made., type: str}
          share_rw: {description: Whether the guest's device lets others write to the same image., type: bool}
          rerror: {description: 'What becomes of a failed read - V(report), V(ignore), V(stop).', type: str}
          werror: {description: 'What becomes of a failed write - V(report), V(ignore), V(stop), V(enospc).', type: str}
          properties:
            description: Further properties of the device, by QEMU's names.
            type: dict
          cache:
            description:
              - V(none), V(writeback), V(writethrough), V(directsync) or V(unsafe); or a dictionary with C(direct), C(no_flush)
                and C(writeback).
            type: raw
          aio: {description: 'V(threads), V(native) or V(io_uring).', type: str}
          discard: {description: 'V(unmap) - what the guest discards becomes free on the host.', type: raw}
          detect_zeroes: {description: 'V(on), V(off) or V(unmap).', type: raw}
          read_only: {description: 'Whether nothing is written to the image. For a CD-ROM, V(false) is refused.', type: bool}
          auto_read_only: {description: Whether it may be opened read-only where it cannot be written., type: bool}
          locking: {description: 'QEMU''s lock on the image, V(auto), V(on) or V(off).', type: raw}
          l2_cache_size: {description: 'Of qcow2, such as V(4M).', type: str}
          reconnect_delay: {description: Seconds in which requests wait for an NBD server that has gone., type: str}
          open_timeout: {description: Seconds in which an NBD server is tried again at the start., type: str}
          encryption:
            description: C(secret_file), the file with the secret; and C(format) for qcow2.
            type: dict
          throttle:
            description: Limits such as C(iops_total) and C(bps_read_max), and C(group) for drives that share them.
            type: raw
          copy_on_read: {description: Whether what is read from a backing file is kept in the image., type: bool}
          snapshot: {description: Whether what the guest writes is thrown away when QEMU ends., type: bool}
          share:
            description:
              - Whether other VMs may have what this drive opens, those that are defined here if they say the same. It is for
                cluster file systems, whose disks also need O(drives[].share_rw), and for raw images only, as two QEMUs do not
                know of each other's tables in others.
              - It allows nothing else - neither to write to what other images are built on, nor to what a process that is no VM
                has open. What all only read needs no such agreement.
            type: bool
      controllers: &controllers
        description:
          - Controllers with a name or properties of one's own, each with C(device), C(id), and where needed C(bus) and
            C(properties). Those that drives need and that are not there are made.
          - What is given replaces the earlier list; without it, that stays.
        type: list
        elements: dict
      objects: &objects
        description: >-
          Objects of QEMU that drives name, each with C(qom-type), C(id) and its properties. What is given replaces the earlier
          list.
        type: list
        elements: dict
      nodes: &nodes
        description: >-
          Block nodes that drives share, as QEMU has them, each with C(driver) and C(node-name). What is given replaces the
          earlier list.
        type: list
        elements: dict
      shares: &shares
        description:
          - Directories of the host that the guest mounts, as with C(mount -t 9p -o trans=virtio TAG) or C(mount -t virtiofs
            TAG). What the task does not list stays as it is, unless O(purge) is set; a share that is listed is as described
            here.
          - A VM that runs keeps those that it was started with; RV(live.needs_restart) names the others.
        type: list
        elements: dict
        suboptions:
          tag:
            description: What the guest knows it by; at most 31 bytes, with virtiofs 36.
            type: str
            required: true
          state:
            description: V(absent) - there is no share with this tag.
            type: str
            choices: [present, absent]
            default: present
          driver:
            description:
              - V(9p) - QEMU itself reads and writes the directory.
              - V(virtiofs) - a server of its own does so (C(virtiofsd)), which has to run before the VM starts, and takes one
                VM. It needs the memory of the VM (O(shared_memory)).
            type: str
            choices: [9p, virtiofs]
          path: {description: 'Of V(9p), the directory, an absolute path.', type: path}
          socket: {description: 'Of V(virtiofs), the Unix socket of its server, an absolute path.', type: path}
          security_model:
            description:
              - Of V(9p), where it is required. How owners and modes that the guest sets are kept.
              - V(mapped-xattr) - in attributes of the files, which belong to the user of QEMU; V(mapped-file) - in files beside
                them.
              - V(passthrough) - as they are, for which QEMU has to be root.
              - V(none) - as they are, and what QEMU may not do is left out without a word.
            type: str
            choices: [mapped-xattr, mapped-file, passthrough, none]
          read_only:
            description: Of V(9p), whether the guest can only read. Of V(virtiofs) its server decides that (C(--readonly)).
            type: bool
          multidevs:
            description:
              - Of V(9p), what becomes of files of other file systems that are mounted below O(shares[].path). Two can have the
                same number, and the guest takes them for one file.
              - V(remap), the default here, gives them others; V(forbid) refuses them; V(warn), that of QEMU, only warns.
            type: str
            choices: [remap, forbid, warn]
          fmode: {description: 'The mode of new files on the host, such as V(0640); of V(9p) with a mapped model.', type: str}
          dmode: {description: The same of directories., type: str}
          id: {description: 'What its device is called in QEMU; needed where the tag is no name for QEMU.', type: str}
          device: {description: 'Of machines without PCI another than V(virtio-9p-pci) and V(vhost-user-fs-pci).', type: str}
          bus: {description: The bus it is on., type: str}
          addr: {description: The address on a PCI bus., type: str}
          properties: {description: 'Further properties of the device, by QEMU''s names, such as C(queue-size).', type: dict}
      boot: &boot
        description:
          - Files of the host that the guest is started with, instead of what its disks begin with. They are only read, and not
            claimed - many VMs can have the same.
          - What is given replaces the earlier; V({}) removes it; without it, it stays, with O(purge) too.
        type: dict
        suboptions:
          kernel: {description: The kernel (C(-kernel))., type: path}
          initrd: {description: Its first file system in memory (C(-initrd))., type: path}
          append:
            description: What the kernel is told (C(-append)). All users of the host can read it, and so can the guest.
            type: str
      shared_memory: &shared_memory
        description:
          - The length of the VM's memory, such as V(2G), which is then memory that other processes can have too, as servers of
            virtiofs and vhost-user need. It says what C(-m) would say in O(arguments).
          - V(0) is memory of the usual kind. Without it, it stays as it is, with O(purge) too.
          - Where there is more to say of it (huge pages, NUMA), describe C(memory-backend-file) or C(memory-backend-memfd) with
            C(share=on) in O(arguments) instead.
        type: str
      purge: &purge
        description: Whether drives, shares, controllers, objects and nodes that the task does not list are removed.
        type: bool
      style: &style
        description:
          - How QEMU is told of the drives. V(blockdev) is C(-blockdev) and C(-device); V(drive_device) C(-drive if=none) and
            C(-device); V(drive) C(-drive if=) alone; V(hda) C(-hda), C(-cdrom) and the like.
          - What a style has no words for is refused (C(style_cannot)).
          - Without it, as it is, and V(blockdev) at first. The same is true of O(lossy), O(machine), O(arguments) and O(qemu),
            each with a beginning of its own.
        type: str
        choices: [blockdev, drive_device, drive, hda]
      lossy: &lossy
        description: Whether to go on where the style has no words for something. Neither O(drives[].read_only) nor
          O(drives[].snapshot) is ever left out. What is left out is in RV(definition.lost), and in a warning.
        type: bool
      machine: &machine
        description:
          - QEMU's machine type, such as V(q35). It decides which places for IDE drives there are, and is among the arguments.
          - At first, none is named, and places are those of V(pc).
        type: str
      arguments: &arguments
        description:
          - What the VM is started with besides, such as V(-m) and V(2G), as a list of words. They come before what the caller
            of C(start) adds.
          - Each option and each value is a word of its own, without a shell. An option with a blank in it (C(-m 2G) as one
            word), and a word that is neither an option nor the value of one, such as the name of the program, are refused
            (C(bad_option)), as QEMU would take the latter for a disk.
          - Drives among them are refused, so is what can hide or change one (C(-readconfig), C(-set)), and what O(shares) and
            O(boot) have words for.
          - QEMU proves that it has the options, and that each has its value (O(validate)). It does not prove values - what
            C(-smp), C(-netdev) or C(-device) say here is tried by the start only. Devices here that drives are on, such as
            bridges, are an exception.
        type: list
        elements: str
      qemu: &qemu
        description:
          - The program that starts the VM, and proves its drives; at first C(qemu-system-x86_64), or that of the host's kind,
            or C(qemu-kvm).
        type: path
      validate: &validate
        description:
          - What the installed QEMU has to prove before anything is written. Each includes those before it.
          - V(none) - nothing. Contradictions that are known here are refused all the same.
          - V(syntax) - it knows all drivers, options, devices and properties of drives and shares, and the names of the options
            in O(arguments). Nothing is opened.
          - V(open) - it opens all images, with their backing files, keys and servers, read-only and without a lock, so that a
            VM that runs does not matter, and nothing is written. Files of O(boot) and directories of O(shares) are there. What
            is not there has a reason of its own (C(image_missing), C(secret_missing), C(share_missing), C(kernel_missing)); in
            check mode that is so, too, of what an earlier task would have made.
          - V(device) - it has the machine, with all controllers and devices, in their places, on stand-ins as long as the
            images; with the shares of V(9p), and the kernel. A server of V(virtiofs) is not connected to.
          - Drives that are as they were, and that the running VM (O(qmp_socket)) has open so, are not opened again. A server
            that has one place only (C(shared) of an NBD export) would keep the proof waiting, up to O(timeout).
          - What is not tried so is named in RV(validation).
        type: str
        choices: [none, syntax, open, device]
      timeout: &timeout
        description: Seconds that QEMU has for each of these, 1 or more.
        type: int
      qmp_socket: &qmp_socket
        description:
          - The QMP socket of the VM, if it runs. Nobody there means that it does not run, which is no fault; where a QEMU of
            that name has an image of it open all the same, the task is refused (C(qmp_unreachable)).
          - The running VM is made as its whole definition says, not only as O(drives) does. What it has besides stays, unless
            O(purge) is set or a drive is listed with O(drives[].state=absent).
          - A guest that does not give up a drive in O(unplug_timeout) fails the task (C(unplug_pending)); the next run finishes
            it. A VM that is paused is not waited for.
          - A VM that writes to an overlay of what is defined, as after a snapshot, is as it should be, and the overlay is in
            RV(live.needs_restart) - set C(image.path) to it before the next start.
          - Sockets that others can write to are refused (C(unsafe_qmp_socket)), and so are VMs of libvirt
            (C(managed_by_libvirt)).
          - O(state=absent) leaves the running VM alone, and warns of it.
        type: path
      unplug_timeout: &unplug_timeout
        description: Seconds that the guest has to give up drives, all of them together. With V(0) it is asked and not waited for.
        type: int
  vm: *vm
  config: *config
  state:
    <<: *state
    default: present
  drives: *drives
  controllers: *controllers
  objects: *objects
  nodes: *nodes
  shares: *shares
  boot: *boot
  shared_memory: *shared_memory
  purge:
    <<: *purge
    default: false
  style: *style
  lossy: *lossy
  machine: *machine
  arguments: *arguments
  qemu: *qemu
  validate:
    <<: *validate
    default: device
  timeout:
    <<: *timeout
    default: 30
  qmp_socket: *qmp_socket
  unplug_timeout:
    <<: *unplug_timeout
    default: 30
  workers:
    description:
      - How many VMs QEMU proves at a time; V(0) lets the module choose.
    type: int
    default: 0
  fail_fast:
    description:
      - With V(true), one refusal stops the task, and nothing is begun.
      - With V(false), the other VMs are carried out all the same, and the task fails at its end.
    type: bool
    default: true
  lock_timeout:
    description: Seconds to wait for another run of this collection that works on definitions.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full, details: QEMU proves the drives in check mode too.}
  diff_mode: {support: full, details: Shows the definition before and after.}
  idempotent: {support: full, details: The second run starts no program.}
seealso:
  - module: platter.qemu.qemu_vm
  - module: platter.qemu.qemu_drive_info
  - module: platter.qemu.disk_image
  - plugin: platter.qemu.drive_args
    plugin_type: filter
  - ref: ansible_collections.platter.qemu.docsite.from_hda_to_blockdev
    description: One disk, every spelling.
notes:
  - C(docs/open_faults.md) of the collection lists what it is known not to see.
  - Images are not made by this module; P(platter.qemu.disk_image#module) makes them.
  - Definitions of other VMs are looked for beside O(config), and by the links in C(/var/lib/platter/vm) (of an ordinary user,
    in C(~/.local/state/platter/vm)), where each VM has one. Other hosts are not asked.
  - Backing files, data files and extents count as what a VM opens, as far as they are files of this host. A partition is a part
    of its disk, and a loop device of its file. What a drive newly writes to must not be the backing file of other images in its
    directory (C(has_overlays)). What it wrote to already, and has become one since, as by a snapshot, gives a warning each
    time.
  - A QEMU of this user or root's that has C(-name) with the name of the VM is the VM itself, and may have its images open.
  - Who can write to an image, or move it, chooses what QEMU opens, which root mostly starts. So images, secrets,
    directories shared over 9p, kernels and initrds in directories of other users are refused (C(unsafe_directory)), images
    that name what those who can write to them could not open (C(image_references_file)), chains that lead to another host
    (C(backing_protocol_refused)), and secrets that others can read (C(key_permissions)). What is meant so can be described
    in C(image.blockdev), with C(backing). It is looked at when something changes, and by C(start).
  - C(start) looks, each time, whether that is still so, and whether an image that the VM writes to has become the backing file
    of another one since, and does not start QEMU otherwise. It needs Python 3.8 or newer on the host, in C(/usr/bin),
    C(/usr/local/bin) or C(PATH). C(args) with C(xargs) does not look.
  - What C(start) asks is made anew, as a change, when another version of the collection has made it.
  - With V(open) and V(device) QEMU connects to the servers of the drives. A C(qemu-nbd) without C(--persistent) ends after
    that.
  - Places on servers are the same if they are written alike. Two names of one server are two servers.
"""

EXAMPLES = r"""
- name: The drives of a VM
  platter.qemu.qemu_drive:
    vm: web1
    drives:
      - id: system
        image: {path: /srv/images/web1.qcow2, format: qcow2}
        device: virtio-blk-pci
        cache: {direct: true}
        aio: io_uring
        discard: unmap
        bootindex: 1
      - id: data
        image: {uri: 'nbd://store1:10809/data', format: raw}
        device: scsi-hd
        serial: DATA01
        reconnect_delay: 30
    arguments: [-m, 2G, -smp, '2']

- name: Start it, where qemu_vm is not to
  ansible.builtin.command:
    argv: [/etc/platter/vm/web1/start, -daemonize, -display, none, -qmp, 'unix:/run/platter/web1.qmp,server=on,wait=off']

- name: One more disk, and one less
  platter.qemu.qemu_drive:
    vm: web1
    drives:
      - {id: more, image: {path: /srv/images/web1-more.qcow2, format: qcow2}, device: scsi-hd}
      - {id: data, state: absent}

- name: The same, now, for a VM that runs
  platter.qemu.qemu_drive:
    vm: web1
    qmp_socket: /run/platter/web1.qmp
    drives:
      - {id: more, image: {path: /srv/images/web1-more.qcow2, format: qcow2}, device: scsi-hd}
  register: web1

- name: What waits for the next start
  ansible.builtin.debug:
    msg: "{{ web1.live.needs_restart }}"
  when: web1.live.running

- name: A VM without disks, by a kernel of the host, with a directory of the host
  platter.qemu.qemu_drive:
    vm: small
    boot: {kernel: /boot/vmlinuz, initrd: /boot/initrd.img, append: console=ttyS0 quiet}
    shares:
      - {tag: home, driver: 9p, path: /srv/home, security_model: mapped-xattr, read_only: true}

- name: Exactly these, with the arguments that an old QEMU knows
  platter.qemu.qemu_drive:
    vm: web1
    style: drive
    purge: true
    drives:
      - {id: system, image: {path: /srv/images/web1.qcow2, format: qcow2}, device: virtio-blk-pci}

- name: A disk that two VMs have, for a cluster file system
  platter.qemu.qemu_drive:
    vm: "{{ item }}"
    drives:
      - {id: cluster, image: {path: /dev/shared/gfs, format: raw}, device: scsi-hd, share_rw: true, share: true}
  loop: [node1, node2]

- name: Many VMs, which have some things in common
  platter.qemu.qemu_drive:
    arguments: [-m, 1G]
    vms:
      - vm: web2
        drives: [{id: system, image: {path: /srv/images/web2.qcow2, format: qcow2}, device: virtio-blk-pci}]
      - vm: web3
        drives: [{id: system, image: {path: /srv/images/web3.qcow2, format: qcow2}, device: virtio-blk-pci}]
      - {vm: web4, state: absent}

- name: No definition any more
  platter.qemu.qemu_drive:
    vm: web1
    state: absent
"""

RETURN = r"""
definition:
  description: The definition as it is now (in check mode, as it would be).
  returned: with O(vm)
  type: dict
  contains:
    vm: {description: The VM., type: str, returned: always}
    state: {description: 'V(present) or V(absent).', type: str, returned: always}
    config: {description: Its directory., type: str, returned: when it is present}
    style: {description: How QEMU is told of the drives., type: str, returned: when it is present}
    machine: {description: The machine type., type: str, returned: when it is present}
    qemu: {description: The program., type: str, returned: when it is present}
    drives:
      description: The drives, in the words of O(drives), with the places that they were given.
      returned: when it is present
      type: list
      elements: dict
    controllers:
      description: Controllers, with those that were made.
      returned: when there are any
      type: list
      elements: dict
    objects: {description: Objects., type: list, elements: dict, returned: when there are any}
    nodes: {description: Shared nodes., type: list, elements: dict, returned: when there are any}
    shares: {description: Shares., type: list, elements: dict, returned: when there are any}
    boot: {description: What the guest is started with., type: dict, returned: when there is any}
    shared_memory: {description: Bytes of memory that others can have., type: int, returned: when it is set}
    args: {description: All arguments of QEMU., type: list, elements: str, returned: when it is present}
    lossy: {description: The style may leave something out., type: bool, returned: when it is so}
    lost:
      description: What the style has no words for, and the VM is started without.
      returned: with O(lossy), when there is any
      type: list
      elements: str
    altered: {description: Files of the definition are not as they were written., type: bool, returned: when it is so}
  sample:
    vm: web1
    state: present
    config: /etc/platter/vm/web1
    style: blockdev
    machine: pc
    qemu: /usr/bin/qemu-system-x86_64
    drives:
      - {id: system, image: {path: /srv/images/web1.qcow2, format: qcow2}, device: virtio-blk-pci}
    args:
      - -name
      - web1
      - -blockdev
      - '{"driver":"qcow2","node-name":"system","file":{"driver":"file","filename":"/srv/images/web1.qcow2"}}'
      - -device
      - virtio-blk-pci,id=system,drive=system
vms:
  description: >-
    One entry for each of O(vms), in their order, with the keys RV(definition), RV(actions), RV(diff), C(changed) and, where it
    applies, RV(live), RV(validation), C(failed), C(msg), RV(reason), RV(evidence).
  returned: with O(vms)
  type: list
  elements: dict
live:
  description: The running VM, as it was before anything was changed, compared with the definition.
  returned: with O(qmp_socket)
  type: dict
  contains:
    qmp_socket: {description: That of the task., type: str, returned: always}
    running: {description: Whether there is a QEMU., type: bool, returned: always}
    drift:
      description: >-
        What was not as it is defined, as C(drive), C(what), C(live) and C(declared). RV(actions) say what was done about it.
      returned: when it runs
      type: list
      elements: dict
    needs_restart:
      description: >-
        What stays as it is until the VM is started again, or what the next start would damage, as C(drive), C(what) and
        C(why). C(drive) can also be the name of a controller, an object or a shared node; it is V(null) for what is the whole
        VM's - the machine, the program, the arguments, the shares, the kernel, and the style that it was started with.
      returned: when it runs
      type: list
      elements: dict
    undeclared:
      description: >-
        Drives and controllers that it has, that are not defined, and stay; without the empty drives that its machine has by
        itself. Controllers are removed with a new start.
      returned: when it runs
      type: list
      elements: str
validation:
  description: What QEMU has proven.
  returned: when something was to be written
  type: dict
  contains:
    level: {description: That of O(validate)., type: str, returned: always}
    not_opened:
      description: Drives that were not opened, as their drivers take what they open for themselves.
      type: list
      elements: str
      returned: when there are any
    open_already:
      description: Drives that were not opened again, as the running VM has them open just so.
      type: list
      elements: str
      returned: when there are any
    no_stand_in:
      description: >-
        Drives whose device was not tried, as it passes commands on to a real one; and shares whose server would have been
        connected to.
      type: list
      elements: str
      returned: when there are any
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: ['Define the drives of VM web1 in /etc/platter/vm/web1: add system, data.']
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The definition before and after, and with O(qmp_socket) the drives of the running VM.
  returned: always
  type: dict
reason:
  description: A stable code for why the task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: image_claimed
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module import drive_options, run
from ansible_collections.platter.qemu.plugins.module_utils._vm import task
from ansible_collections.platter.qemu.plugins.module_utils._vm.read_spec import read_spec


def make_engine(module: AnsibleModule) -> task.TaskEngine:
    """The parts put together."""
    return task.TaskEngine(
        [read_spec(params) for params in drive_options.items(module.params)],
        drive_options.find_qemu(module),
        workers=module.params["workers"],
        lock_timeout=module.params["lock_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=drive_options.argument_spec(),
        mutually_exclusive=[("vm", "vms")],
        required_one_of=[("vm", "vms")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
