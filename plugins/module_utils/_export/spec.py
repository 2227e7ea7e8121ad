# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of one NBD export."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class TlsSpec:
    """Who may connect: clients with a certificate of the CA in C(x509_dir) and one of the names C(authorized), or those
    that have a key of C(psk_file). C(any_client): the name does not matter.
    """

    x509_dir: t.Optional[str] = None
    authorized: t.Tuple[str, ...] = ()
    psk_file: t.Optional[str] = None
    any_client: bool = False


class Encryption(t.NamedTuple):
    """C(secret_file): of the image, read by the server each time that it starts."""

    secret_file: str


class Throttle(t.NamedTuple):
    """The most that all clients together get in a second: bytes, requests. 0: no limit."""

    bps: int = 0
    iops: int = 0


class Delay(t.NamedTuple):
    """Milliseconds by which each request is delayed."""

    read_ms: int = 0
    write_ms: int = 0


@dataclass(frozen=True)
class ExportSpec:
    """One export. C(name): its export name and its identity on this host. C(socket): an absolute path; or else
    C(bind), an IP address, and C(port). C(insecure_plaintext): others on the network may read, and write, without TLS.

    C(image) and C(format) are None only where C(state) is stopped or absent. C(offset), C(size): the window of the
    image that is served, in bytes; C(size) None: to its end. C(shared): how many clients are served at a time.
    C(stop_timeout): seconds that a server gets to write out what it holds. C(supervisor): auto, systemd or process.
    C(server): auto or the name of one; C(daemon): which storage daemon.
    C(partition): which one is served. C(cow): what clients write is not kept. C(allow_from): addresses and networks.
    """

    name: str
    socket: t.Optional[str]
    image: t.Optional[str] = None
    format: t.Optional[str] = None
    state: str = "present"
    read_only: bool = True
    snapshot: t.Optional[str] = None
    offset: int = 0
    size: t.Optional[int] = None
    bitmaps: t.Tuple[str, ...] = ()
    allocation_depth: bool = False
    discard: bool = False
    cache: str = "writeback"
    shared: int = 16
    description: t.Optional[str] = None
    allow_disconnect: bool = False
    overlay_directories: t.Tuple[str, ...] = ()
    stop_timeout: float = 60.0
    bind: t.Optional[str] = None
    port: int = 10809
    tls: t.Optional[TlsSpec] = None
    insecure_plaintext: bool = False
    supervisor: str = "auto"
    server: str = "auto"
    daemon: t.Optional[str] = None
    partition: t.Optional[int] = None
    cow: bool = False
    throttle: t.Optional[Throttle] = None
    delay: t.Optional[Delay] = None
    allow_from: t.Tuple[str, ...] = ()
    encryption: t.Optional[Encryption] = None

    @property
    def where(self) -> str:
        """The place it is served at, as messages call it."""
        if self.bind is None:
            return str(self.socket)
        return "%s:%d" % ("[%s]" % self.bind if ":" in self.bind else self.bind, self.port)

    @property
    def writes(self) -> bool:
        """Whether anything of it reaches the image."""
        return not self.read_only and not self.cow

    @property
    def windowed(self) -> bool:
        """Whether only a part of the image is served."""
        return bool(self.offset) or self.size is not None
