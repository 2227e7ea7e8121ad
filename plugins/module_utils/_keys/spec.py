# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of the keys of one NBD server and its clients. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, place

#: the parts of a directory of keys; a client's is C(client_part)
CA, SERVER = "ca", "server"
CERTIFICATES = "certificates"
#: a part of file names, of a DN without escapes, and of a line of keys
_CLIENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
_HOST = re.compile(r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")


def client_part(name: str) -> str:
    """The directory of a client, below that of all."""
    return "clients/" + name


@dataclass(frozen=True)
class KeysSpec:
    """C(kind): certificates, or keys (shared with each client). C(server): its host names and addresses, as certificates
    have them. C(days): how long new certificates hold. C(renew): those that end soon, or have other names, are made anew.
    """

    directory: str
    kind: str = CERTIFICATES
    server: t.Tuple[str, ...] = ()
    clients: t.Tuple[str, ...] = ()
    days: int = 365
    renew: bool = False

    def names(self, part: str) -> t.Tuple[str, ...]:
        """What the certificate of that part is for."""
        if part == CA:
            return ()
        return self.server if part == SERVER else ("CN=" + part.rpartition("/")[2],)

    @property
    def parts(self) -> t.List[str]:
        """The parts of the directory that are asked for, the CA first."""
        own = [CA, SERVER] if self.kind == CERTIFICATES else []
        return own + [client_part(name) for name in self.clients]


def read_spec(params: t.Mapping[str, t.Any]) -> KeysSpec:
    """The spec of a task's options. Raises SpecError."""
    spec = KeysSpec(
        _directory(str(params["directory"])),
        params.get("kind") or CERTIFICATES,
        tuple(sorted({_host(name, params) for name in params.get("server") or ()})),
        tuple(sorted(set(params.get("clients") or ()))),
        365 if params.get("days") is None else int(params["days"]),
        bool(params.get("renew")),
    )
    for is_so, fact, way_out in _contradictions(spec):
        if is_so:
            raise _bad(spec.directory, fact, way_out)
    return spec


def _directory(given: str) -> str:
    try:
        return str(place.local_place(given).path)
    except ValueError as exc:
        raise _bad(given, "directory: %s" % exc, "Write an absolute path of this host.", "bad_path") from exc


def _host(name: str, params: t.Mapping[str, t.Any]) -> str:
    """A name, or an address in its shortest form."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not _HOST.match(name):
        fact = "server: %r is neither a host name nor an IP address" % name
        raise _bad(str(params["directory"]), fact, "Correct server.", "bad_name")
    return name.lower()


def _contradictions(spec: KeysSpec) -> t.Iterator[t.Tuple[t.Any, str, str]]:
    bad = [name for name in spec.clients if not _CLIENT.match(name)]
    way_out = "Write 1 to 63 letters, digits, dots, underscores and minus signs."
    yield bad, "clients: %r is no good name for a client" % (bad or [""])[0], way_out
    certified = spec.kind == CERTIFICATES
    yield certified and not spec.server, "the certificate of the server would have no name", "Set server."
    yield not certified and spec.server, "shared keys name no server", "Leave server out."
    yield not certified and not spec.clients, "no client would have a key", "Set clients."
    yield not certified and spec.renew, "shared keys do not end", "Leave renew out."
    # below, they would end soon as soon as they are made
    yield not 31 <= spec.days <= 3650, "days is %d" % spec.days, "Write 31 to 3650."


def _bad(directory: str, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
    return errors.SpecError("keys", directory, fact, reason=reason, way_out=way_out, joined="in")
