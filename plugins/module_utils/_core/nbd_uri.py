# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""NBD URIs (NBD project, C(doc/uri.md)): C(nbd://host[:port]/[export]), C(nbd+unix:///[export]?socket=path), and the
same with C(nbds) for TLS. Pure.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

DEFAULT_PORT = 10809
#: scheme -> (TLS, Unix socket)
_SCHEMES = {
    "nbd": (False, False),
    "nbd+tcp": (False, False),
    "nbds": (True, False),
    "nbds+tcp": (True, False),
    "nbd+unix": (False, True),
    "nbds+unix": (True, True),
}


@dataclass(frozen=True)
class Address:
    """A server and one of its exports. Either C(socket) (an absolute path) or C(host) is set.

    C(user): who the client says it is, with pre-shared keys.
    """

    export: str = ""
    socket: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    tls: bool = False
    user: str = ""

    @property
    def server(self) -> str:
        """The URI of the server alone, as messages call it."""
        scheme = "nbds" if self.tls else "nbd"
        if self.socket:
            return "%s+unix:///?socket=%s" % (scheme, quote(self.socket, errors="surrogateescape"))
        return "%s://%s:%d/" % (scheme, "[%s]" % self.host if ":" in self.host else self.host, self.port)

    def __str__(self) -> str:
        start, slash, query = self.server.partition("/?")
        name = quote(self.export, safe="", errors="surrogateescape")
        return start + "/" + name + "?" + query if slash else start + name


def parse(uri: str) -> Address:
    """The address that a URI means. Raises ValueError (a sentence) for anything else."""
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES:
        raise ValueError("%r is no NBD URI, such as nbd://host/export or nbd+unix:///export?socket=/path" % uri)
    if parts.password is not None:
        raise ValueError(
            "the URI carries a password, which would show in process lists and logs; use the options for it"
        )
    tls, unix = _SCHEMES[parts.scheme]
    export, user = unquote(parts.path[1:], errors="surrogateescape"), unquote(parts.username or "")
    if parts.fragment:
        raise ValueError("%r: an NBD URI has nothing behind #" % uri)
    if unix:
        return Address(export, socket=_socket(uri, parts.query), tls=tls, user=user)
    if parts.query:
        raise ValueError("%r: an NBD URI of a host has nothing behind ?" % uri)
    return Address(export, host=_host(uri, parts.hostname), port=_port(uri), tls=tls, user=user)


def _socket(uri: str, query: str) -> str:
    name, _equals, value = query.partition("=")
    if name != "socket" or "&" in value:
        raise ValueError("%r names no socket; write nbd+unix:///export?socket=/path" % uri)
    path = unquote(value, errors="surrogateescape")
    if not path.startswith("/") or "\0" in path:
        raise ValueError("%r: the path of the socket is not absolute" % uri)
    return path


def _host(uri: str, host: t.Optional[str]) -> str:
    if not host or not host.isprintable() or " " in host:
        raise ValueError("%r names no host; write nbd://host/export" % uri)
    return host


def _port(uri: str) -> int:
    try:
        return urlsplit(uri).port or DEFAULT_PORT
    except ValueError as exc:
        raise ValueError("%r: the port is no number up to 65535" % uri) from exc
