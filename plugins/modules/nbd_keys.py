#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nbd_keys: a CA, certificates and shared keys for NBD over TLS."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nbd_keys
short_description: Make a CA, certificates or shared keys for NBD over TLS
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes what M(platter.qemu.nbd_export) needs for O(platter.qemu.nbd_export#module:tls), and its clients to get in, in a
    directory that has a part for each, with the names that QEMU, C(nbdkit) and libnbd have for such files.
  - It is for first use and for tests. The key of the CA lies beside the others, unencrypted; where there is a PKI already,
    take certificates from that.
  - What is there stays. Nothing is overwritten that this module has not made, and certificates that have ended are told,
    and made anew only with O(renew).
  - A key comes into being where the task runs. Copy to each client its own part, and nothing else.
  - Each part is made beside its place and comes there whole; all keys are for their owner only (mode 0600).
  - A refusal begins with C(refused:) and carries RV(reason) and RV(evidence).
requirements:
  - C(openssl) 1.1.1 or later, for certificates
options:
  directory:
    description:
      - Where all of it lies. It is made, if the directory above it is there.
      - C(ca) - the CA, with its key. C(server) - for O(platter.qemu.nbd_export#module:tls.x509_dir). C(clients/NAME) - for
        O(platter.qemu.host_device#module:tls_certificates). C(keys.psk) and C(clients/NAME/keys.psk) - shared keys.
    type: path
    required: true
  kind:
    description:
      - V(certificates) - a CA, and certificates for the server and the clients that it signs.
      - V(keys) - a key for each client, which the server has too.
    type: str
    choices: [certificates, keys]
    default: certificates
  server:
    description:
      - The names and IP addresses by which clients reach the server. Its certificate is good for these only.
      - Needed with O(kind=certificates).
    type: list
    elements: str
  clients:
    description:
      - Names of the clients. Each has a certificate of the name C(CN=NAME), or a key of that name.
      - 1 to 63 letters, digits, dots, underscores and minus signs.
      - What there is of clients that are not listed stays as it is.
    type: list
    elements: str
  days:
    description:
      - How long new certificates hold, 31 days or more.
    type: int
    default: 365
  renew:
    description:
      - Make new certificates for those that end within 30 days or have ended, and for a server that has other names now. The
        keys stay.
      - With the certificate of the CA, all of O(server) and O(clients) are made anew too. Copy them to the clients, and
        run the tasks of the exports again.
      - Without it the task warns of those that end within 30 days, and is refused (C(keys_ended), C(keys_differ)) in the other
        cases.
    type: bool
    default: false
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same directory.
    type: int
    default: 30
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: full, details: Shows who has certificates or keys before and after. No key is ever shown.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.nbd_export
  - module: platter.qemu.host_device
"""

EXAMPLES = r"""
- name: Keys for a server and two clients
  platter.qemu.nbd_keys:
    directory: /etc/pki/platter
    server: [store1.example.org, 192.0.2.10]
    clients: [backup1, backup2]
  register: made

- name: Served to these two
  platter.qemu.nbd_export:
    name: web1
    image: /srv/images/web1.qcow2
    format: qcow2
    bind: 192.0.2.10
    tls:
      x509_dir: "{{ made.nbd_keys.x509_dir }}"
      authorized: "{{ made.nbd_keys.authorized }}"

- name: Shared keys instead
  platter.qemu.nbd_keys:
    directory: /etc/pki/platter-shared
    kind: keys
    clients: [backup1]
"""

RETURN = r"""
nbd_keys:
  description: What there is now (in check mode, what there would be).
  returned: always
  type: dict
  contains:
    directory: {description: As O(directory)., type: str, returned: always}
    x509_dir: {description: The directory of the server's certificate., type: str, returned: with O(kind=certificates)}
    server: {description: What the server's certificate is for., type: list, elements: str, returned: with O(kind=certificates)}
    authorized:
      description: The names (DN) in the certificates of O(clients).
      type: list
      elements: str
      returned: 'with O(kind=certificates) and O(clients)'
    psk_file: {description: The file of all shared keys., type: str, returned: with O(kind=keys)}
    clients: {description: The directory of each of O(clients)., type: dict, returned: always}
    ending:
      description: The parts whose certificate ends within 30 days, or that have an old one of the CA.
      type: list
      elements: str
      returned: when there are any
  sample:
    directory: /etc/pki/platter
    x509_dir: /etc/pki/platter/server
    server: [192.0.2.10, store1.example.org]
    authorized: [CN=backup1, CN=backup2]
    clients: {backup1: /etc/pki/platter/clients/backup1, backup2: /etc/pki/platter/clients/backup2}
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: ['Make a CA in ca, for 365 days.']
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
  sample: keys_foreign
evidence:
  description: The facts behind RV(reason).
  returned: with RV(reason)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._keys import engine, spec
from ansible_collections.platter.qemu.plugins.module_utils._module import run


def make_engine(module: AnsibleModule) -> engine.KeysEngine:
    """The parts put together."""
    return engine.KeysEngine(
        spec.read_spec(module.params), module.get_bin_path("openssl"), lock_timeout=module.params["lock_timeout"]
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "kind": {"type": "str", "choices": ["certificates", "keys"], "default": "certificates"},
            "server": {"type": "list", "elements": "str"},
            "clients": {"type": "list", "elements": "str"},
            "days": {"type": "int", "default": 365},
            "renew": {"type": "bool", "default": False},
            "lock_timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
