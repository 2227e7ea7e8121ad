# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Facts of an NBD server and its exports, by our own client. Nothing is written, and everything ends in time."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_protocol, words
from ansible_collections.platter.qemu.plugins.module_utils._nbd import info_facts, info_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_client

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._tools.tls import Credentials

#: names that are shown when an export is missing
_SHOWN = 20


class NbdInfoReader:
    """Answers an C(InfoSpec)."""

    def __init__(self, spec: info_spec.InfoSpec) -> None:
        self._spec = spec
        self._address = spec.address
        self._credentials = _credentials(spec) if spec.address.tls else None
        self._deadline = time.monotonic() + spec.seconds

    def read(self) -> info_facts.Facts:
        """The result of the module."""
        with self._conversation() as client:
            listed, found = self._exports(client)
            kind = self._credentials.kind if self._credentials else ""
            tls = info_facts.tls_facts(client.tls, kind)
        if self._spec.identity:
            # when the first conversation is over: a server may have one client at a time
            for name, facts in found.items():
                if "size" in facts:
                    facts["identity"] = self._identity(name)
        return {"server": self._address.server, "listed": listed, "tls": tls, "exports": list(found.values())}

    def _conversation(self) -> nbd_client.NbdClient:
        left = max(self._deadline - time.monotonic(), 0.001)
        return nbd_client.NbdClient(self._address, left, self._credentials)

    def _exports(self, client: nbd_client.NbdClient) -> t.Tuple[bool, t.Dict[str, info_facts.Facts]]:
        """Whether the server has listed its exports, and by name the facts of those that are meant."""
        if self._address.export:
            return False, {self._address.export: self._named(client)}
        try:
            listed = client.exports()
        except errors.NbdError as exc:
            if exc.reason != "nbd_refused":
                raise
            return False, {"": self._facts(client, "")}
        return True, {each.name: self._listed(client, each) for each in listed}

    def _named(self, client: nbd_client.NbdClient) -> info_facts.Facts:
        try:
            return self._facts(client, self._address.export)
        except errors.NbdError as exc:
            if exc.reason == "export_missing":
                exc.facts["evidence"]["exports"] = _names(client)
            raise

    def _listed(self, client: nbd_client.NbdClient, each: nbd_protocol.Listed) -> info_facts.Facts:
        try:
            found = self._facts(client, each.name)
        except errors.NbdError as exc:
            if exc.reason not in ("nbd_refused", "export_missing"):
                raise
            return info_facts.failed_facts(self._address, each, exc)
        return dict(found, description=found["description"] or words.printable(each.description))

    def _facts(self, client: nbd_client.NbdClient, name: str) -> info_facts.Facts:
        return info_facts.export_facts(self._address, client.info(name), client.contexts(name))

    def _identity(self, name: str) -> info_facts.Facts:
        """In a conversation of its own: nothing else can be asked once an export is open."""
        from ansible_collections.platter.qemu.plugins.module_utils._inspect import identity

        with self._conversation() as client:
            return identity.identity_of(client.open(name))


def _names(client: nbd_client.NbdClient) -> t.List[str]:
    """What there is instead, as far as the server says it."""
    try:
        return [words.printable(each.name) for each in client.exports()[:_SHOWN]]
    except errors.NbdError:
        return []


def _credentials(spec: info_spec.InfoSpec) -> Credentials:
    from ansible_collections.platter.qemu.plugins.module_utils._tools import tls

    return tls.Credentials(spec.certificates, spec.psk_file, spec.username, spec.hostname)
