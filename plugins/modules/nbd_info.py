#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_info: facts of NBD servers and their exports."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nbd_info
short_description: Facts of an NBD server - its exports, their sizes, flags, metadata contexts and identity
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Asks an NBD server which exports it has, and what each of them is, with or without TLS. It works with C(qemu-nbd),
    C(qemu-storage-daemon), C(nbdkit) and every other server that speaks fixed newstyle NBD.
  - Needs no program on the host, only Python; but for pre-shared keys a Python before 3.13 needs C(qemu-nbd).
  - Everything is over at O(timeout). A server that is stopped, cut off, or sends one byte now and then fails the task
    with C(reason=export_unresponsive); it does not hang. Whatever a server sends, it cannot make the answer larger than
    10000 exports.
  - Questions do not make us a user of the export, so that a C(qemu-nbd) without C(--persistent) goes on; but
    O(identity) does.
requirements:
  - Python 3.13 or later, or C(qemu-nbd), for O(tls_psk_file)
options:
  uri:
    description:
      - The server, as the NBD project writes it - C(nbd://host[:port]/), C(nbd+unix:///?socket=/path), and the same
        with C(nbds) for TLS. The port is 10809 if there is none.
      - With the name of an export (C(nbd://host/web1), C(nbd+unix:///web1?socket=/path)) only that export is looked at,
        and the task fails with C(reason=export_missing) if the server does not have it. Other characters than letters and
        digits in the name are best percent-encoded (P(ansible.builtin.urlencode#filter)).
      - Without a name it is every export that the server lists; where it does not list them, its default export.
      - C(nbds) never falls back to plain text (C(reason=tls_unsupported)).
    type: str
    required: true
  identity:
    description:
      - Whether to read the beginning and the end of each export, to see what it carries (RV(exports[].identity)).
      - This makes us a user of the export for that time. A C(qemu-nbd) without C(--persistent) ends when it has no user
        any more, so do not ask that of one.
    type: bool
    default: false
  timeout:
    description: Seconds in which all of it must have been answered.
    type: float
    default: 5
  tls_certificates:
    description:
      - A directory on the managed host with C(ca-cert.pem), and with C(client-cert.pem) and C(client-key.pem) if the
        server asks for a certificate. Others must not be able to read the key.
      - Without it, the server's certificate must be signed by one of the CAs that the host trusts.
    type: path
  tls_hostname:
    description: >-
      The name that the server's certificate must have, if it is not the host in O(uri). Needed for certificates over a
      Unix socket, which has no name.
    type: str
  tls_psk_file:
    description:
      - A file on the managed host with pre-shared keys, instead of certificates. Each line is C(user:key), the key in
        hexadecimal, as C(psktool) writes it. Others must not be able to read it.
      - Python speaks this kind of TLS since 3.13. Before, C(qemu-nbd --list) is asked instead. It tells neither
        RV(exports[].canonical_name) nor RV(tls.version) and RV(tls.cipher), and O(identity) is refused with
        C(reason=psk_unsupported).
    type: path
  tls_username:
    description:
      - Whose key in O(tls_psk_file) is used, if it has several. It can be written in O(uri) too (C(nbds://user@host/)).
    type: str
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full, details: Nothing is ever changed.}
  diff_mode: {support: none, details: There is no change to show.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.disk_image_info
  - name: NBD URIs
    description: How the NBD project writes down the address of an export.
    link: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md
notes:
  - It runs on the managed host, so this is where C(localhost), Unix sockets and the files with certificates are.
  - Names and descriptions come from the server. What cannot be printed in them is shown with escapes (C(\\x1b));
    RV(exports[].uri) leads to the export all the same.
  - Oldstyle NBD, as C(qemu-nbd) spoke it before 2.6 without a name, is refused with C(reason=protocol_error).
"""

EXAMPLES = r"""
- name: All exports of a server
  platter.qemu.nbd_info:
    uri: nbd://store1.example.org/
  register: store1

- name: Show their sizes
  ansible.builtin.debug:
    msg: "{{ dict(store1.exports | map(attribute='name') | zip(store1.exports | map(attribute='size'))) }}"

- name: Wait until an export is there
  platter.qemu.nbd_info:
    uri: nbd+unix:///web1?socket=/run/platter/web1.sock
  register: web1
  until: web1 is success
  retries: 10
  delay: 1

- name: Over TLS, with certificates
  platter.qemu.nbd_info:
    uri: nbds://store1.example.org/web1
    tls_certificates: /etc/pki/nbd

- name: Over TLS, with a pre-shared key
  platter.qemu.nbd_info:
    uri: nbds://alice@store1.example.org/web1
    tls_psk_file: /etc/nbd/keys.psk

- name: Look what is on it before it becomes a member of an array
  platter.qemu.nbd_info:
    uri: nbd://store1.example.org/spare
    identity: true
  register: spare

- name: Refuse to go on if it carries anything
  ansible.builtin.assert:
    that:
      - spare.exports[0].size == 10 * 1024 ** 3
      - not spare.exports[0].flags.read_only
      - not spare.exports[0].identity.signatures
      - not spare.exports[0].identity.formats

- name: Is the server alive
  platter.qemu.nbd_info:
    uri: nbd://store2.example.org/
    timeout: 2
  register: store2
  failed_when: store2 is failed and store2.reason | default('') not in ['export_unresponsive', 'place_unreachable']
"""

RETURN = r"""
server:
  description: The URI of the server, without an export.
  returned: success
  type: str
  sample: nbds://store1.example.org:10809/
listed:
  description: Whether RV(exports) is what the server lists; V(false) for one named export, and where it lists none.
  returned: success
  type: bool
tls:
  description: How the conversation was secured.
  returned: success
  type: dict
  contains:
    used: {description: Whether it was., type: bool, returned: always}
    version: {description: 'Of TLS; null without it, or where qemu-nbd was asked.', type: str, returned: always}
    cipher: {description: 'The cipher suite; null where the version is.', type: str, returned: always}
    authentication:
      description: V(x509) or V(psk); null without TLS.
      type: str
      returned: always
exports:
  description: The exports in the order of the server.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Its name; empty for the default export., type: str, returned: always}
    uri: {description: The URI of this export., type: str, returned: always}
    description: {description: What the server says that it is; mostly empty., type: str, returned: always}
    canonical_name:
      description: The name that the server itself gives it, for example to the default export; empty if it says none.
      type: str
      returned: when it could be asked
    size: {description: Bytes., type: int, returned: when it could be asked}
    flags:
      description: What can be done with it.
      type: dict
      returned: when it could be asked
      contains:
        read_only: {description: It cannot be written., type: bool, returned: always}
        rotational: {description: It is on a disk that turns., type: bool, returned: always}
        can_flush: {description: It can be told to make all writes durable., type: bool, returned: always}
        can_fua: {description: A single write can be made durable., type: bool, returned: always}
        can_trim: {description: Parts can be discarded., type: bool, returned: always}
        can_zero: {description: Parts can be zeroed without sending zeros., type: bool, returned: always}
        can_fast_zero: {description: It says so where zeroing would be slow., type: bool, returned: always}
        can_df: {description: A read can be asked to come in one piece., type: bool, returned: always}
        can_cache: {description: It can be told to read ahead., type: bool, returned: always}
        can_multi_conn:
          description: Several connections of one client see each other's writes after a flush.
          type: bool
          returned: always
    block_size:
      description: Bytes that requests must (C(minimum)) and should (C(preferred)) be multiples of, and how long they may
        be (C(maximum)); null if the server does not say.
      type: dict
      returned: when it could be asked
    contexts:
      description: >-
        Metadata contexts, for example C(base:allocation), C(qemu:allocation-depth), C(qemu:dirty-bitmap:NAME).
      type: list
      elements: str
      returned: when it could be asked
    identity:
      description: What it carries.
      type: dict
      returned: with O(identity), when it could be asked
      contains:
        size: {description: Bytes., type: int, returned: always}
        formats:
          description: The image formats that its bytes look like; V(raw) is never among them.
          type: list
          elements: str
          returned: always
        signatures:
          description: >-
            Partition tables, RAID members, LVM, LUKS, file systems and swap on it, by the names that blkid gives them
            (C(type)), with C(uuid) and C(label), null where there is none.
          type: list
          elements: dict
          returned: always
        beginning_sha256:
          description: SHA-256 of the first MiB, or of all if there is less.
          type: str
          returned: always
    error: {description: What the server says instead of its facts., type: str, returned: when it is listed only}
    reason:
      description: A stable code for RV(exports[].error) - V(export_missing) or V(nbd_refused).
      type: str
      returned: when it is listed only
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._module.run_info import run_info
from ansible_collections.platter.qemu.plugins.module_utils._nbd import info, info_spec

ARGUMENT_SPEC = {
    "uri": {"type": "str", "required": True},
    "identity": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 5},
    "tls_certificates": {"type": "path"},
    "tls_hostname": {"type": "str"},
    "tls_psk_file": {"type": "path"},
    "tls_username": {"type": "str"},
}


def make_reader(module: AnsibleModule) -> info.NbdInfoReader:
    """The reader for the server of this task."""
    return info.NbdInfoReader(info_spec.InfoSpec.from_params(module.params), module.get_bin_path("qemu-nbd"))


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        mutually_exclusive=[("tls_certificates", "tls_psk_file"), ("tls_hostname", "tls_psk_file")],
        required_by={"tls_username": "tls_psk_file"},
        supports_check_mode=True,
    )
    run_info(module, make_reader)


if __name__ == "__main__":
    main()
