# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The kernel's tables of TCP sockets (C(/proc/net/tcp), C(tcp6)): who listens where, and who is connected."""

from __future__ import annotations

import ipaddress
import socket
import struct
import typing as t

# include/net/tcp_states.h
_ESTABLISHED, _LISTEN = "01", "0A"
#: closed by this end, and the other has not taken all of it
_LEAVING = ("04", "09", "0B")
#: the end of a connection counts as a byte of it
_ONLY_ITS_END = 1


class TcpSocket(t.NamedTuple):
    """One socket of this network namespace. Addresses as text, in their shortest form."""

    listening: bool
    local: t.Tuple[str, int]
    remote: t.Tuple[str, int]


Table = t.Mapping[int, TcpSocket]


def read_table() -> Table:
    """All TCP sockets that listen or are connected, by number."""
    return {
        int(row[9]): TcpSocket(row[3] == _LISTEN, _endpoint(row[1]), _endpoint(row[2]))
        for row in _rows()
        if row[3] in (_ESTABLISHED, _LISTEN)
    }


def is_still_sent(ends: t.Collection[t.Tuple[str, int]]) -> bool:
    """Whether bytes are on their way to one of these addresses and ports by a connection that this end has closed: the
    kernel goes on with them for minutes, with nobody who could take them back.
    """
    return any(
        row[3] in _LEAVING and int(row[4].partition(":")[0], 16) > _ONLY_ITS_END and _endpoint(row[2]) in ends
        for row in _rows()
    )


def ends_of(host: str, port: int) -> t.FrozenSet[t.Tuple[str, int]]:
    """The addresses that a connection to C(host) can have, with the port; none where it has no address now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset((str(ipaddress.ip_address(str(each[4][0]).partition("%")[0])), port) for each in found)


def _rows() -> t.Iterator[t.List[str]]:
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(path, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:  # a kernel without IPv6
            continue
        yield from rows


def _endpoint(text: str) -> t.Tuple[str, int]:
    """The kernel writes an address as numbers of 32 bits in the order of this machine."""
    address, _colon, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    packed = struct.pack("=%dI" % len(words), *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return str(ipaddress.ip_address(socket.inet_ntop(family, packed))), int(port, 16)


def listeners_at(address: str, port: int, table: Table) -> t.FrozenSet[int]:
    """The sockets that take connections to C(address) and C(port): bound to it, or to every address."""
    every = {"0.0.0.0", "::"}
    return frozenset(
        n for n, s in table.items() if s.listening and s.local[1] == port and s.local[0] in {address, *every}
    )


def unbindable(address: str) -> str:
    """Why nothing can listen at C(address) on this host; empty when something can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.bind((address, 0))
    except OSError as exc:
        return str(exc.strerror)
    return ""
