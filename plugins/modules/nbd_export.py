#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_export: images served over NBD, as state."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nbd_export
short_description: Serve QEMU disk images over NBD
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes "this image is served under this name" a state of the host, for one export or many. C(qemu-nbd) or another
    server (see O(server)) serves it, at a Unix socket that only its owner can connect to or by TCP, and goes on when the
    play is over.
  - A server that fails or is killed is started again, by systemd where that runs (see O(supervisor)). It is ended with
    the time that it needs to write out what it holds, and never while a client is connected, unless the task says so.
  - What is so is read from the host each time - from the definition of the export, the processes and the socket.
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - QEMU 5.2 or later (C(qemu-nbd), C(qemu-storage-daemon)), or C(nbdkit) 1.24 or later
  - Linux 3.15 or later
  - systemd 239 or later for O(supervisor=systemd)
options:
  exports:
    description:
      - Many exports in one task, instead of O(name). Each entry takes the same options; what an entry leaves unset is
        taken from the task.
      - All are planned first; if one is refused, none is changed (see O(fail_fast)). Servers that have to end do so
        before the first one is started.
    type: list
    elements: dict
    suboptions:
      name: &name
        description:
          - The name of the export, for its clients and on this host.
          - 1 to 63 letters, digits, dots, underscores and minus signs; the first is a letter or a digit.
        type: str
      image: &image
        description:
          - The image that is served, an absolute path of a file or block device. Needed for O(state=present).
        type: path
        aliases: [path]
      format: &format
        description:
          - The format of the image, which is never guessed. Needed for O(state=present).
          - Clients see the disk that the image holds. With V(raw) they see the file as it is, whatever is in it.
        type: str
        choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
      state: &state
        description:
          - V(present) - it is served.
          - V(stopped) - it is not, and what was declared of it stays on the host until that is started anew. Only
            O(name) is needed.
          - V(absent) - it is not, and nothing of it stays. Only O(name) is needed.
        type: str
        choices: [present, stopped, absent]
      socket: &socket
        description:
          - The Unix socket of the server, in a directory that exists and that others cannot write to. Its mode is 0600.
          - Without it, C(/run/platter/NAME.sock); for others than root, C(platter/NAME.sock) in the directory
            C($XDG_RUNTIME_DIR), or C(/tmp/platter-UID/NAME.sock) where that is not set.
        type: path
      bind: &bind
        description:
          - An IP address of this host at which TCP connections are taken, instead of O(socket).
          - Loopback is for all programs of this host. Another address needs O(tls) or O(insecure_plaintext); every
            address at once (V(0.0.0.0), V(::)) is refused.
        type: str
      port: &port
        description:
          - The port, with O(bind).
        type: int
      tls: &tls
        description:
          - With O(bind), serve nobody who does not prove who they are. Either O(tls.x509_dir) with O(tls.authorized)
            or O(tls.any_client), or O(tls.psk_file). Needs QEMU 6.0.
        type: dict
        suboptions:
          x509_dir:
            description:
              - The directory of C(ca-cert.pem), C(server-cert.pem) and C(server-key.pem).
              - With C(dh-params.pem) there too the server starts at once instead of after some seconds.
              - A server that was started with other certificates than lie there now is started anew, but for V(nbdkit).
            type: path
          authorized:
            description:
              - The names (DN) in the certificates of the clients that may connect, for example
                V(CN=backup.example.org,O=Example). Others are turned away, also with a certificate of that CA.
            type: list
            elements: str
          any_client:
            description:
              - Instead of O(tls.authorized), serve whoever has a certificate of that CA, be it of another server. V(nbdkit) can
                do no better.
            type: bool
          psk_file:
            description:
              - A file of keys, with lines C(user:key), the key in hexadecimal.
            type: path
      insecure_plaintext: &insecure_plaintext
        description:
          - Whether, without O(tls), all who reach O(bind) may have the disk, and all on the way may read and change
            what is sent.
        type: bool
      read_only: &read_only
        description:
          - Whether clients can only read.
          - An image that something else has open for writing is not exported at all, one that something else has open
            only read-only, and one that other images are built on only read-only.
        type: bool
      snapshot: &snapshot
        description:
          - Serve this internal snapshot of a qcow2 image instead of what it holds now.
        type: str
      offset: &offset
        description:
          - Where in the disk the export begins, a multiple of 512 bytes, for example V(1M).
        type: str
      size: &size
        description:
          - How much of the disk is served, a multiple of 512 bytes. Without it, all up to its end.
        type: str
      bitmaps: &bitmaps
        description:
          - Dirty bitmaps of a qcow2 image that clients can read, as metadata contexts C(qemu:dirty-bitmap:NAME).
        type: list
        elements: str
      allocation_depth: &allocation_depth
        description:
          - Whether clients can ask which layer of its backing chain holds what, by the metadata context
            C(qemu:allocation-depth).
        type: bool
      discard: &discard
        description:
          - Whether what clients discard is given back to the host's file system.
        type: bool
      cache: &cache
        description:
          - How writes go to the host. V(writeback) and V(none) write what a client flushes; V(writethrough) and
            V(directsync) each write before it is acknowledged, so that even a server that is killed loses none.
          - V(none) and V(directsync) pass by the host's memory.
        type: str
        choices: [writeback, writethrough, none, directsync]
      shared: &shared
        description:
          - How many connections are served at a time. One more waits until another ends. A client that is made for it
            opens several.
        type: int
      description: &description
        description:
          - Told to clients that list the exports.
        type: str
      allow_disconnect: &allow_disconnect
        description:
          - Whether the server may end, or be started anew with other options, while clients are connected. Without it
            that is refused (C(export_busy)), naming them.
        type: bool
      overlay_directories: &overlay_directories
        description:
          - Further directories in which images may lie that are built on this one. Its own directory is always looked
            through before it is exported read-write.
          - Each must be the absolute path of a directory that exists; anything else is refused.
        type: list
        elements: path
      stop_timeout: &stop_timeout
        description:
          - Seconds that a server gets to write out what it holds and to end. Then one that is read-only is killed, and
            with any other the task fails.
        type: int
      supervisor: &supervisor
        description:
          - What starts the server, again when it fails, and is asked to end it.
          - V(systemd) - a unit C(platter-nbd-NAME.service), which is there again after the host was started anew. Only
            root can have it.
          - V(process) - a small program of this collection. After the host was started anew, run the task again.
          - V(auto) - V(systemd) where it runs and root runs the task, else V(process).
          - Going from one to the other is a restart.
        type: str
        choices: [auto, systemd, process]
      server: &server
        description:
          - The program that serves it. What one of them cannot do is refused (C(server_cannot)), naming those that can.
          - V(qemu_nbd) - C(qemu-nbd), for all formats, and with snapshots, bitmaps and names of certificates.
          - V(nbdkit) - C(nbdkit) with its file plugin, for raw images; O(partition), O(cow), O(delay) and O(allow_from) are
            its own. It takes no lock of QEMU's, so it is started by a small program of this collection that does. One
            connection more than O(shared) is turned away, instead of waiting. What clients discard is always given back
            to the file system.
          - V(storage_daemon) - C(qemu-storage-daemon), one process for many exports (see O(daemon)), for all formats and with
            bitmaps and names of certificates.
          - V(auto) - V(storage_daemon) with O(daemon); else the one by which it is served already; else V(qemu_nbd), or
            V(nbdkit) where only that can do what is asked or is installed, and RV(actions) say why.
          - Going from one to another is a restart.
        type: str
        choices: [auto, qemu_nbd, nbdkit, storage_daemon]
      daemon: &daemon
        description:
          - Serve it by the storage daemon of this name, together with all others that name it. They come and go while it runs,
            and clients of the others notice nothing. It is started with the first, and ended with the last.
          - Its exports have one place, by default C(/run/platter/DAEMON.sock), and the same O(socket), O(bind), O(port),
            O(tls), O(shared) and O(supervisor); else it is refused (C(daemon_differs)).
          - Which of its exports a client uses is known only to the daemon. So C(export_busy) comes when an export is to be
            taken out; check mode warns. The clients that results name are those of the daemon.
          - With O(server=storage_daemon) the default is V(storage).
        type: str
      partition: &partition
        description:
          - Serve this partition of the disk, counted from 1. Needs O(server=nbdkit).
        type: int
      cow: &cow
        description:
          - Whether what clients write is kept beside the image, and lost when the server ends. Needs O(read_only=false)
            and O(server=nbdkit).
        type: bool
      throttle: &throttle
        description:
          - The most that all clients of the export together get.
        type: dict
        suboptions:
          bps:
            description:
              - Bytes in a second, for example V(50M). With V(nbdkit), in each direction, and two seconds' worth at once.
            type: str
          iops:
            description:
              - Requests in a second. Not with O(server=nbdkit).
            type: int
      delay: &delay
        description:
          - Answer late, as a slow disk would. Needs O(server=nbdkit).
        type: dict
        suboptions:
          read_ms:
            description:
              - Milliseconds for each reading request.
            type: int
          write_ms:
            description:
              - Milliseconds for each writing request.
            type: int
      allow_from: &allow_from
        description:
          - With O(bind), the IP addresses and networks from which clients may connect; from elsewhere they are turned away.
            It comes beside O(tls) and O(insecure_plaintext), not instead of them. Needs O(server=nbdkit); that of Debian 12
            cannot read addresses, and does not start then.
        type: list
        elements: str
      encryption: &encryption
        description:
          - Serve what an encrypted image (format C(luks), or qcow2 with LUKS) holds, in the clear. Who should not see it must not
            get in (see O(tls)).
        type: dict
        suboptions:
          secret_file:
            description:
              - The file on the managed host with the secret, exactly as it is in it, with the mode 0600. It has to stay there, as
                the server reads it each time that it starts.
            type: path
  name: *name
  image: *image
  format: *format
  state:
    <<: *state
    default: present
  socket: *socket
  bind: *bind
  port:
    <<: *port
    default: 10809
  tls: *tls
  insecure_plaintext:
    <<: *insecure_plaintext
    default: false
  read_only:
    <<: *read_only
    default: true
  snapshot: *snapshot
  offset: *offset
  size: *size
  bitmaps: *bitmaps
  allocation_depth:
    <<: *allocation_depth
    default: false
  discard:
    <<: *discard
    default: false
  cache:
    <<: *cache
    default: writeback
  shared:
    <<: *shared
    default: 16
  description: *description
  allow_disconnect:
    <<: *allow_disconnect
    default: false
  overlay_directories: *overlay_directories
  stop_timeout:
    <<: *stop_timeout
    default: 60
  supervisor:
    <<: *supervisor
    default: auto
  server:
    <<: *server
    default: auto
  daemon: *daemon
  partition: *partition
  cow:
    <<: *cow
    default: false
  throttle: *throttle
  delay: *delay
  allow_from: *allow_from
  encryption: *encryption
  workers:
    description:
      - How many exports are worked on at a time; V(0) lets the module choose.
    type: int
    default: 0
  fail_fast:
    description:
      - With V(true), one refusal stops the task, and nothing is begun.
      - With V(false), the other exports are carried out all the same, and the task fails at its end.
    type: bool
    default: true
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same export or image.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: Shows each export before and after.}
  idempotent: {support: full, details: Clients notice nothing of the second run.}
seealso:
  - module: platter.qemu.disk_image
  - module: platter.qemu.image_snapshot
  - module: platter.qemu.nbd_keys
  - module: platter.qemu.nbd_info
  - module: platter.qemu.host_device
  - name: qemu-nbd
    description: The server.
    link: https://www.qemu.org/docs/master/tools/qemu-nbd.html
notes:
  - With O(supervisor=process) exports do not come back by themselves when the host is started anew; run the task again
    then.
  - Overlays are looked for in the directory of the image, in O(overlay_directories), and among the disks of the VMs that
    M(platter.qemu.qemu_drive) has defined for the user who runs the task; not elsewhere, and not on other hosts. What only
    such a definition has below an image (C(backing) or C(data-file) in C(image.blockdev)) is not written to either
    (C(image_claimed)).
  - Who can write to an image chooses, by its header, which data file and which backing files are served with it. When root runs
    the task, these must be files that all others who can write to the image (its owner, and whom mode or ACL let in) can read
    too, and a data file that is served for writing one that they can write to (C(image_references_file)).
"""

EXAMPLES = r"""
- name: The disk of web1, for backups of it
  platter.qemu.nbd_export:
    name: web1
    image: /srv/images/web1.qcow2
    format: qcow2

- name: A disk that a VM on this host writes to
  platter.qemu.nbd_export:
    name: db1
    image: /srv/images/db1.qcow2
    format: qcow2
    read_only: false
    shared: 2

- name: Several in one task
  platter.qemu.nbd_export:
    format: qcow2
    exports:
      - {name: web1, image: /srv/images/web1.qcow2}
      - {name: web1-monday, image: /srv/images/web1.qcow2, snapshot: monday}
      - {name: web1-data, image: /srv/images/web1-data.qcow2, bitmaps: [daily]}

- name: For two hosts of the network, by TLS
  platter.qemu.nbd_export:
    name: web1
    image: /srv/images/web1.qcow2
    format: qcow2
    bind: 192.0.2.10
    tls:
      x509_dir: /etc/pki/qemu
      authorized: [CN=backup1.example.org, CN=backup2.example.org]

- name: All disks of a host, by one process
  platter.qemu.nbd_export:
    daemon: backup
    format: qcow2
    exports:
      - {name: backup-web1, image: /srv/images/web1.qcow2}
      - {name: backup-web1-data, image: /srv/images/web1-data.qcow2, throttle: {bps: 100M}}

- name: A disk that tests can write to; nothing of it is kept
  platter.qemu.nbd_export:
    name: stick
    image: /srv/images/stick.raw
    format: raw
    read_only: false
    cow: true

- name: Not served any more, even if somebody is connected
  platter.qemu.nbd_export:
    name: web1
    state: absent
    allow_disconnect: true
"""

RETURN = r"""
export:
  description: The export as it is now (in check mode, as it would be).
  returned: with O(name)
  type: dict
  contains:
    name: {description: Its name., type: str, returned: always}
    state: {description: 'V(present), V(stopped) or V(absent).', type: str, returned: always}
    image: {description: The image., type: str, returned: unless it is absent}
    format: {description: The format of the image., type: str, returned: unless it is absent}
    read_only: {description: Whether clients can only read., type: bool, returned: unless it is absent}
    server: {description: The program that serves it., type: str, returned: unless it is absent}
    supervisor:
      description: What starts the server again when it fails, V(systemd) or V(process).
      type: str
      returned: unless it is absent
    socket: {description: The Unix socket., type: str, returned: 'without O(bind), unless it is absent'}
    bind: {description: The IP address., type: str, returned: 'with O(bind), unless it is absent'}
    port: {description: The port., type: int, returned: 'with O(bind), unless it is absent'}
    tls: {description: As O(tls)., type: dict, returned: 'with O(tls), unless it is absent'}
    daemon: {description: The storage daemon that serves it., type: str, returned: 'with O(daemon), unless it is absent'}
    uri: {description: How clients name it., type: str, returned: unless it is absent}
    outdated:
      description: The server serves something else than what is declared.
      type: bool
      returned: when it is so
    unreachable:
      description: The server runs, but does not listen where it is declared to, or elsewhere too.
      type: bool
      returned: when it is so
    unsupervised:
      description: The server runs, but nothing would start it again, or its unit is not started at boot.
      type: bool
      returned: when it is so
    pid: {description: The server., type: int, returned: 'when it runs, not for a change in check mode'}
    virtual_size:
      description: Bytes that clients see.
      type: int
      returned: 'with O(state=present), when the server has a place left to be asked, and tells it without TLS'
    clients:
      description:
        - Who is connected, with O(daemon) to the daemon. By its process, number and name; over TCP by its address, and by its
          process if that is one of this host.
      type: list
      elements: dict
      returned: with RV(export.pid)
  sample:
    name: web1
    state: present
    image: /srv/images/web1.qcow2
    format: qcow2
    read_only: true
    server: qemu_nbd
    supervisor: systemd
    socket: /run/platter/web1.sock
    uri: nbd+unix:///web1?socket=/run/platter/web1.sock
    pid: 4711
    virtual_size: 21474836480
    clients: []
exports:
  description: >-
    One entry for each of O(exports), in their order, with the keys RV(export), RV(actions), RV(diff), C(changed) and,
    where it applies, C(failed), C(msg), RV(reason) and RV(evidence).
  returned: with O(exports)
  type: list
  elements: dict
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample:
    - >-
      Declare export web1: /srv/images/web1.qcow2 (qcow2), read-only, on /run/platter/web1.sock, by qemu_nbd: it can do all
      that is asked.
    - 'Start qemu_nbd for export web1, supervised by systemd.'
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
diff:
  description: The facts of each export before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused or failed; docs/reasons lists them.
  returned: when refused, and with some failures
  type: str
  sample: export_busy
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._export import engine, servers
from ansible_collections.platter.qemu.plugins.module_utils._export.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._module import export_options, run
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places


def make_engine(module: AnsibleModule) -> engine.ExportEngine:
    """The parts put together."""
    directory = own_places.socket_directory()
    return engine.ExportEngine(
        [read_spec(params, directory) for params in export_options.items(module.params)],
        {name: module.get_bin_path(program) for name, program in servers.PROGRAMS.items()},
        workers=module.params["workers"],
        lock_timeout=module.params["lock_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=export_options.argument_spec(),
        mutually_exclusive=[("name", "exports")],
        required_one_of=[("name", "exports")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
