# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Facts of an NBD server and its exports, by our own client. Nothing is written, and everything ends in time."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_protocol, nbd_uri, words
from ansible_collections.platter.qemu.plugins.module_utils._nbd import info_facts, info_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools import nbd_client

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._tools.tls import Credentials

#: names that are shown when an export is missing
_SHOWN = 20


class NbdInfoReader:
    """Answers an C(InfoSpec). C(qemu_nbd): the program's path, for pre-shared keys where Python has none."""

    def __init__(self, spec: info_spec.InfoSpec, qemu_nbd: t.Optional[str] = None) -> None:
        self._spec = spec
        self._address = spec.address
        self._credentials = _credentials(spec) if spec.address.tls else None
        self._qemu_nbd = qemu_nbd
        self._deadline = time.monotonic() + spec.seconds

    def read(self) -> info_facts.Facts:
        """The result of the module."""
        if self._needs_qemu():
            return self._by_qemu()
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

    def _needs_qemu(self) -> bool:
        """TLS with pre-shared keys, on a Python before 3.13, and nothing that only our own client can do."""
        if not self._spec.psk_file or not self._qemu_nbd or self._spec.identity:
            return False
        from ansible_collections.platter.qemu.plugins.module_utils._tools import tls

        return not tls.can_use_psk()

    def _by_qemu(self) -> info_facts.Facts:
        from ansible_collections.platter.qemu.plugins.module_utils._tools import process, qemu_nbd_list

        credentials = t.cast("Credentials", self._credentials)
        found = qemu_nbd_list.exports(process.Runner(), self._address, credentials, self._spec.seconds)
        name = self._address.export
        meant = [(export, contexts) for export, contexts in found if not name or export.name == name]
        if name and not meant:
            raise _missing(self._address, [words.printable(export.name) for export, _contexts in found[:_SHOWN]])
        return {
            "server": self._address.server,
            "listed": not name,
            "tls": dict(info_facts.tls_facts(None, ""), used=True, authentication=credentials.kind),
            "exports": [info_facts.export_facts(self._address, *each) for each in meant],
        }

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


def _missing(address: nbd_uri.Address, names: t.List[str]) -> errors.NbdError:
    fact = 'it does not have the export "%s"' % words.printable(address.export)
    way_out = "Correct the name of the export."
    return errors.NbdError(address.server, fact, reason="export_missing", way_out=way_out, exports=names)


def _names(client: nbd_client.NbdClient) -> t.List[str]:
    """What there is instead, as far as the server says it."""
    try:
        return [words.printable(each.name) for each in client.exports()[:_SHOWN]]
    except errors.NbdError:
        return []


def _credentials(spec: info_spec.InfoSpec) -> Credentials:
    from ansible_collections.platter.qemu.plugins.module_utils._tools import tls

    return tls.Credentials(spec.certificates, spec.psk_file, spec.username, spec.hostname)
