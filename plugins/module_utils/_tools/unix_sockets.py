# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The kernel's own table of Unix sockets (sock_diag(7)): who listens at a path, and who is connected to a server.

Nothing is connected to for it, which servers would write into their logs.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import processes, unix_peer

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
#: linux/unix_diag.h: what is asked for, and the numbers of the answers
_SHOW_NAME, _SHOW_FILE, _SHOW_PEER = 1, 2, 4
_NAME, _FILE, _PEER = 0, 1, 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")
_ESTABLISHED, _LISTEN = 1, 10
#: seconds that the kernel may take to close what a process had that was killed: it has no command line any more by then
_CLOSING_SECONDS, _POLL_SECONDS = 2.0, 0.02


class UnixSocket(t.NamedTuple):
    """C(name): the last part of its path. C(inode): the number of its file, cut to 32 bits. C(peer): its other end."""

    state: int
    name: str = ""
    inode: int = 0
    peer: t.Optional[int] = None

    @property
    def listening(self) -> bool:
        """Whether it takes connections."""
        return self.state == _LISTEN


Table = t.Mapping[int, UnixSocket]


def read_table() -> Table:
    """All Unix sockets of this network namespace that listen or are connected, by number."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(5.0)
        states, show = 1 << _ESTABLISHED | 1 << _LISTEN, _SHOW_NAME | _SHOW_FILE | _SHOW_PEER
        request = _REQUEST.pack(socket.AF_UNIX, 0, 0, states, 0, show, 0xFFFFFFFF, 0xFFFFFFFF)
        netlink.send(
            _HEADER.pack(_HEADER.size + _REQUEST.size, _SOCK_DIAG_BY_FAMILY, _NLM_REQUEST_DUMP, 1, 0) + request
        )
        found: t.Dict[int, UnixSocket] = {}
        while True:
            for kind, payload in _messages(netlink.recv(1 << 18)):
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", payload)[0], "the kernel does not list its Unix sockets")
                if kind == _NLMSG_DONE:
                    return found
                found[_MESSAGE.unpack_from(payload)[4]] = _entry(payload)


def _messages(data: bytes) -> t.Iterator[t.Tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, _flags, _sequence, _pid = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _entry(payload: bytes) -> UnixSocket:
    told = {}
    at = _MESSAGE.size
    while at + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, at)
        told[kind] = payload[at + 4 : at + length]
        at += (length + 3) & ~3
    name = os.fsdecode(os.path.basename(told.get(_NAME, b"").rstrip(b"\0")))
    inode = struct.unpack_from("=I", told[_FILE])[0] if _FILE in told else 0
    peer = struct.unpack_from("=I", told[_PEER])[0] if _PEER in told else None
    return UnixSocket(_MESSAGE.unpack_from(payload)[2], name, inode, peer)


def listener_at(path: str, table: Table) -> t.Optional[int]:
    """The number of the socket that listens at C(path); None for nobody, or nobody of this network namespace."""
    try:
        inode = os.stat(path).st_ino & 0xFFFFFFFF
    except OSError:
        return None
    name = os.path.basename(os.path.realpath(path))
    fitting = (n for n, s in table.items() if s.state == _LISTEN and (s.inode, s.name) == (inode, name))
    return next(fitting, None)


def answers(path: str) -> bool:
    """Whether anybody listens at C(path), in whatever namespace. It is connected to, if it is there."""
    if not os.path.lexists(path):
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except BlockingIOError:  # it is there, and lets nobody in any more
            return True
        except OSError:
            return False
    return True


def is_taken(path: str, seconds: float) -> bool:
    """Whether somebody of this network namespace listens at C(path). What no process has open any more is waited for so long: the
    kernel is about to close what a killed server had.
    """
    deadline = time.monotonic() + seconds
    while True:
        number = listener_at(path, read_table())
        if number is None:
            return False
        if time.monotonic() >= deadline or any(map(processes.lives, holders([number]).values())):
            return True
        time.sleep(_POLL_SECONDS)


def remove_left(path: str) -> None:
    """Remove the socket that a server has left which has ended, or was killed just now. What somebody listens at stays, and so
    does what is no socket: it was never ours.
    """
    deadline = time.monotonic() + _CLOSING_SECONDS
    while is_socket(path):
        if not answers(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        if time.monotonic() >= deadline:
            return
        time.sleep(_POLL_SECONDS)


def is_socket(path: str) -> bool:
    """Whether there is a socket of that name; a link to one is none."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False


def sockets_of(pids: t.Iterable[int]) -> t.FrozenSet[int]:
    """The numbers of all sockets that these processes have open."""
    return frozenset(int(number) for pid in pids for number in unix_peer.sockets_of(pid))


def clients_of(pids: t.Collection[int], own: t.Collection[int], table: Table) -> t.List[t.Optional[int]]:
    """The process at the other end of each connection of the servers C(pids) with the sockets C(own); None where it is
    not seen.

    Whoever connects from another network namespace (a container) has a socket there, and so has the server. A client
    that has closed its end, which the server is yet to notice, has the number 0 (net/unix/diag.c), and is none. What the
    server has connected to itself, such as the journal, has no name: it gets that of the listener when it is accepted.
    """
    accepted = (table[n] for n in sorted(own) if n in table and table[n].name)
    peers = [each.peer for each in accepted if each.state == _ESTABLISHED]
    ends = [peer for peer in peers if peer and peer not in own]
    pids_of = holders(ends)
    return [pids_of.get(number) for number in ends] + [None] * _elsewhere(pids, own, table)


def _elsewhere(pids: t.Collection[int], own: t.Collection[int], table: Table) -> int:
    """How many of the sockets are in no table of ours, and are not only closed since C(own) was read."""
    unseen = set(own) - set(table)
    if unseen:
        for protocol in ("tcp", "tcp6", "netlink", "udp", "unix"):
            unseen -= _numbers("/proc/net/" + protocol)
    return len(unseen & sockets_of(pids)) if unseen else 0


def _numbers(path: str) -> t.Set[int]:
    """The column C(inode) of such a table, which is always a word of its own; too many numbers do no harm."""
    try:
        with open(path, "rb") as lines:
            return {int(word) for line in lines for word in line.split() if word.isdigit()}
    except OSError:
        return set()


def holders(numbers: t.Collection[int]) -> t.Dict[int, int]:
    """The processes that have sockets of these numbers open, of any family, as far as they are seen."""
    found: t.Dict[int, int] = {}
    if numbers:
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            for number in unix_peer.sockets_of(pid):
                if int(number) in numbers:
                    found.setdefault(int(number), pid)
    return found
