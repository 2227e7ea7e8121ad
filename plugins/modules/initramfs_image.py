#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""initramfs_image: the first file system of a VM without disks, as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: initramfs_image
short_description: The first file system of a VM without disks, which finds its root over NFS, 9p, virtiofs or NBD
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes the file that QEMU hands to a kernel as its first file system (C(boot.initrd) of M(platter.qemu.qemu_drive)). In it is
    a program of this collection that loads modules, sets up the network, mounts the root file system and hands over to it.
  - The root is a directory of the host (9p, virtiofs), of a server (NFS 4), or a RAID array over NBD exports that the guest
    itself connects. The VM has no disk for it.
  - What is not there yet is tried once a second, for O(wait) seconds. Then Linux panics, and does what C(panic=) of its
    arguments says.
  - An array is started only if all legs are there that had its data when it was written last, as one that was away may be out of
    date; C(--force) is never used. A leg that was away is given what was written meanwhile when the VM boots.
  - The same options, modules and programs make the same bytes, so a second run changes nothing. After an update of the kernel
    or of the programs the file is made anew.
  - It is built beside its place and is there at once, whole. A file that this module has not made is never overwritten or
    removed.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - C(busybox), with C(switch_root), C(insmod) and C(ip) in it, as that of C(busybox-static) of Debian
  - for V(nbd_raid), C(mdadm) and C(nbd-client) on the host, which are put into the file
  - C(ldd) of the C library
  - modules of the kernel that the VM boots
options:
  path:
    description:
      - The file, in a directory that exists and that only its owner can write to.
    type: path
    required: true
  state:
    description:
      - V(present) - it is there, as described.
      - V(absent) - it is not. Only a file that this module has made is removed.
    type: str
    choices: [present, absent]
    default: present
  root:
    description:
      - Where the root file system comes from. Needed for O(state=present).
    type: dict
    suboptions:
      type:
        description:
          - V(9p), V(virtiofs) - a directory of the host, which QEMU or a C(virtiofsd) gives to the guest.
          - V(nfs) - a directory of an NFS server of version 4, with C(sec=sys).
          - V(nbd_raid) - a RAID array (md) over NBD exports, which exists already (see M(platter.qemu.md_array)).
        type: str
        required: true
        choices: [9p, virtiofs, nfs, nbd_raid]
      source:
        description:
          - Of V(9p) and V(virtiofs) the tag of the share; of V(nfs) the server and its directory, such as V(192.0.2.1:/srv/web1).
            Addresses are IPv4, as nobody resolves names there yet.
        type: str
      options:
        description:
          - Further options of its mount, behind those of this module, such as V(noatime). For V(nfs), C(vers=) says which
            version; without it, the newest that the server has.
          - V(9p) is mounted with C(cache=mmap), without which programs that map files for writing fail.
        type: str
      read_only:
        description: Whether it is mounted for reading only.
        type: bool
        default: false
      init:
        description: The first program of the root file system.
        type: str
        default: /sbin/init
      uuid:
        description: Of V(nbd_raid), the UUID of the array.
        type: str
      level:
        description:
          - Of V(nbd_raid), its level; V(raid1) without it.
        type: str
        choices: [raid1, raid5, raid10]
      filesystem:
        description:
          - Of V(nbd_raid), the file system on it; V(ext4) without it.
        type: str
      legs:
        description:
          - Of V(nbd_raid), the exports that the array lies on, all of them, as URIs such as V(nbd://192.0.2.1/root-a).
          - Neither names nor TLS can be used there.
        type: list
        elements: str
      io_timeout:
        description:
          - Of V(nbd_raid), seconds after which a leg is given up whose server answers nothing; V(10) without it.
        type: int
      start_degraded:
        description:
          - Of V(nbd_raid), whether the array is started without legs that may be newer, once O(wait) is over; V(false) without
            it.
        type: bool
  network:
    description:
      - The network of the guest, before its root is there. What it is set to stays, unless the root file system changes it.
    type: dict
    suboptions:
      address:
        description:
          - V(dhcp), V(none), or an IPv4 address with its prefix, such as V(192.0.2.7/24).
          - Without it, V(dhcp) where the root comes over the network, else V(none).
          - A lease is not renewed, unless the root file system does so.
        type: str
      gateway:
        description: The router, besides an address.
        type: str
      interface:
        description: The interface. Without it, the first one that is a device.
        type: str
  modules_directory:
    description:
      - The modules of the kernel that the VM boots. The last part of its name is the release of that kernel.
      - Without it, those of the kernel that runs on this host.
    type: path
  modules:
    description:
      - Further modules to be loaded, for a network card for example. What the root needs is there by itself, with what those
        modules need; so are C(virtio_pci), C(virtio_mmio) and C(virtio_net), if the kernel has them.
    type: list
    elements: str
  wait:
    description:
      - Seconds until the guest gives up.
    type: int
    default: 120
  lock_timeout:
    description:
      - Seconds to wait for another run of this module that works on the same file.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: Shows the digest and the size before and after.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.qemu_drive
  - module: platter.qemu.qemu_vm
  - module: platter.qemu.md_array
notes:
  - Legs that are lost while the VM runs do not come back by themselves; they do when it boots. NBD without TLS, and NFS with
    C(sec=sys), belong in a network of their own.
  - The file has the mode 0644. Nothing in it is secret.
"""

EXAMPLES = r"""
- name: A root that is a directory of this host
  platter.qemu.initramfs_image:
    path: /srv/diskless/web1.initramfs
    root: {type: 9p, source: root}

- name: A root on an NFS server
  platter.qemu.initramfs_image:
    path: /srv/diskless/web2.initramfs
    root: {type: nfs, source: '192.0.2.1:/srv/roots/web2'}
    network: {address: 192.0.2.7/24, gateway: 192.0.2.254}

- name: A root that outlives each of its two servers
  platter.qemu.initramfs_image:
    path: /srv/diskless/db1.initramfs
    root:
      type: nbd_raid
      uuid: 6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11
      legs: ['nbd://192.0.2.1/db1', 'nbd://192.0.2.2/db1']

- name: Not any more
  platter.qemu.initramfs_image:
    path: /srv/diskless/web1.initramfs
    state: absent
"""

RETURN = r"""
initramfs:
  description: The file as it is now (in check mode, as it would be).
  returned: always
  type: dict
  contains:
    path: {description: Its path., type: str, returned: always}
    state: {description: 'V(present) or V(absent).', type: str, returned: always}
    sha256: {description: Its digest., type: str, returned: when it is present}
    size: {description: Its length in bytes., type: int, returned: when it is present}
  sample:
    path: /srv/diskless/web1.initramfs
    state: present
    sha256: 3f0b8f3a7c0a...
    size: 3145728
release:
  description: The release of the kernel that can boot it.
  returned: with O(state=present), unless refused
  type: str
  sample: 6.1.0-50-amd64
modules:
  description: The modules of the kernel in it, in the order in which they are loaded.
  returned: with O(state=present), unless refused
  type: list
  elements: str
  sample: [virtio_ring, virtio, virtio_pci, 9pnet, 9pnet_virtio, 9p]
programs:
  description: The programs of the host in it.
  returned: with O(state=present), unless refused
  type: list
  elements: str
  sample: [busybox]
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: ['Make /srv/diskless/web1.initramfs, for Linux 6.1.0-50-amd64 with its root on 9p (root).']
commands:
  description: Every command that was run, as a list of arguments.
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
  sample: modules_missing
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

import platform

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._initramfs import engine, read_spec
from ansible_collections.platter.qemu.plugins.module_utils._module import initramfs_options, run


def make_engine(module: AnsibleModule) -> engine.InitramfsEngine:
    """The parts put together."""
    spec = read_spec.read_spec(module.params, platform.release())
    return engine.InitramfsEngine(spec, lock_timeout=module.params["lock_timeout"])


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=initramfs_options.argument_spec(),
        required_if=[("state", "present", ["root"])],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
