# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of one export into what is asked of it, and refuses contradictions. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, place, size
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import (
    Delay,
    Encryption,
    ExportSpec,
    Throttle,
    TlsSpec,
)

#: a part of file names and of a unit's name, and what a client can write in a URI without thinking
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
#: sun_path (unix(7)), without the zero at its end
_LONGEST_SOCKET = 107
_SECTOR = 512


def read_spec(params: t.Mapping[str, t.Any], directory: str) -> ExportSpec:
    """The spec of one item's options. C(directory): where sockets lie that the task does not name. Raises SpecError."""
    reader = _Reader(params)
    identity = _identity(params, reader, directory)
    if identity["state"] != "present":
        return ExportSpec(**identity)
    spec = ExportSpec(**identity, **_content(params, reader), **_access(params, reader), **_server(params, reader))
    _refuse_open(spec, reader)
    for is_so, fact, way_out in _contradictions(spec):
        if is_so:
            raise reader.refuse(fact, way_out)
    return spec


def _identity(params: t.Mapping[str, t.Any], reader: _Reader, directory: str) -> t.Dict[str, t.Any]:
    """What counts for an export in every state."""
    name, daemon, timeout = reader.name(), reader.daemon(), params.get("stop_timeout")
    return {
        "name": name,
        "socket": reader.socket("%s/%s.sock" % (directory, daemon or name)),
        "state": params.get("state") or "present",
        "allow_disconnect": bool(params.get("allow_disconnect")),
        "stop_timeout": 60.0 if timeout is None else float(timeout),
    }


def _content(params: t.Mapping[str, t.Any], reader: _Reader) -> t.Dict[str, t.Any]:
    """What clients see."""
    return {
        "image": reader.path("image"),
        "format": reader.format(),
        "read_only": params.get("read_only") is not False,
        "snapshot": params.get("snapshot"),
        "offset": reader.bytes("offset") or 0,
        "size": reader.bytes("size"),
        "partition": params.get("partition"),
        "cow": bool(params.get("cow")),
        "bitmaps": tuple(params.get("bitmaps") or ()),
        "allocation_depth": bool(params.get("allocation_depth")),
        "description": params.get("description"),
        "overlay_directories": tuple(params.get("overlay_directories") or ()),
        "encryption": reader.encryption(),
    }


def _access(params: t.Mapping[str, t.Any], reader: _Reader) -> t.Dict[str, t.Any]:
    """Who gets in, and where."""
    return {
        "bind": reader.bind(),
        "port": 10809 if params.get("port") is None else int(params["port"]),
        "tls": reader.tls(),
        "insecure_plaintext": bool(params.get("insecure_plaintext")),
        "allow_from": reader.networks(),
        "shared": 16 if params.get("shared") is None else int(params["shared"]),
    }


def _server(params: t.Mapping[str, t.Any], reader: _Reader) -> t.Dict[str, t.Any]:
    """What serves it, and how."""
    return {
        "supervisor": params.get("supervisor") or "auto",
        "server": params.get("server") or "auto",
        "daemon": reader.daemon(),
        "discard": bool(params.get("discard")),
        "cache": params.get("cache") or "writeback",
        "throttle": reader.throttle(),
        "delay": reader.delay(),
    }


class _Reader:
    """Turns options into values; every refusal names the export."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._params = params

    def refuse(self, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
        return errors.SpecError(
            "export", str(self._params.get("name")), fact, reason=reason, way_out=way_out, joined=""
        )

    def name(self) -> str:
        name = self._params.get("name")
        if not name:
            raise self.refuse("no name is given", "Set name, or list exports with a name each.")
        if not _NAME.match(name):
            fact = "%r is no good name for an export" % name
            raise self.refuse(fact, "Write 1 to 63 letters, digits, dots, underscores and minus signs.", "bad_name")
        return str(name)

    def daemon(self) -> t.Optional[str]:
        """The storage daemon; there is one for exports that name none."""
        given = self._params.get("daemon")
        if not given:
            return "storage" if self._params.get("server") == "storage_daemon" else None
        if not _NAME.match(given):
            fact = "%r is no good name for a storage daemon" % given
            raise self.refuse(fact, "Write 1 to 63 letters, digits, dots, underscores and minus signs.", "bad_name")
        return str(given)

    def path(self, option: str) -> str:
        if not self._params.get(option):
            raise self.refuse("no %s is given" % option, "Set %s." % option)
        try:
            return str(place.local_place(str(self._params[option])).path)
        except ValueError as exc:
            raise self.refuse("%s: %s" % (option, exc), "Write an absolute path of this host.", "bad_path") from exc

    def socket(self, default: str) -> t.Optional[str]:
        if self._params.get("bind"):
            if self._params.get("socket"):
                raise self.refuse("socket and bind are both given", "Leave one of them out.")
            return None
        return self.path("socket") if self._params.get("socket") else default

    def bind(self) -> t.Optional[str]:
        given = self._params.get("bind")
        if not given:
            return None
        if "%" in given:
            # the kernel's table of sockets does not tell the interface
            raise self.refuse("bind: %r names an interface" % given, "Write an address that is good without.")
        try:
            address = ipaddress.ip_address(given)
            # ::ffff:0.0.0.0 is every interface too
            return str(getattr(address, "ipv4_mapped", None) or address)
        except ValueError as exc:
            raise self.refuse("bind: %s" % exc, "Write an IP address of this host.") from exc

    def tls(self) -> t.Optional[TlsSpec]:
        given = self._params.get("tls")
        if not given:
            return None
        if bool(given.get("x509_dir")) == bool(given.get("psk_file")):
            raise self.refuse("tls needs either certificates or keys", "Set tls.x509_dir or tls.psk_file.")
        names = tuple(given.get("authorized") or ())
        anyone = bool(given.get("any_client"))
        if given.get("x509_dir") and not anyone and not (names and all(name and name.isprintable() for name in names)):
            fact = "with no names every certificate of that CA would do, the server's own too"
            way_out = (
                "Set tls.authorized to the names (DN) in the certificates of the clients; or tls.any_client: true."
            )
            raise self.refuse(fact, way_out)
        if given.get("psk_file") and (names or anyone):
            raise self.refuse("keys carry no names", "Leave tls.authorized and tls.any_client out.")
        if names and anyone:
            raise self.refuse("any_client and authorized are both given", "Leave one of them out.")
        return TlsSpec(given.get("x509_dir"), names, given.get("psk_file"), anyone)

    def throttle(self) -> t.Optional[Throttle]:
        given = self._params.get("throttle")
        if not given:
            return None
        try:
            bps = 0 if given.get("bps") is None else size.parse_size(given["bps"])
        except ValueError as exc:
            raise self.refuse("throttle.bps: %s" % exc, "Correct it.", "bad_size") from exc
        made = Throttle(bps, given.get("iops") or 0)
        if made.iops < 0 or made == Throttle():
            raise self.refuse("throttle sets no limit", "Set throttle.bps or throttle.iops to more than 0.")
        return made

    def delay(self) -> t.Optional[Delay]:
        given = self._params.get("delay")
        if not given:
            return None
        made = Delay(given.get("read_ms") or 0, given.get("write_ms") or 0)
        if min(made) < 0 or made == Delay():
            raise self.refuse("delay delays nothing", "Set delay.read_ms or delay.write_ms to more than 0.")
        return made

    def encryption(self) -> t.Optional[Encryption]:
        path = (self._params.get("encryption") or {}).get("secret_file")
        if not path:
            return None
        if not str(path).startswith("/"):
            raise self.refuse(
                "encryption.secret_file: %r is not absolute" % path, "Write an absolute path.", "bad_path"
            )
        return Encryption(str(path))

    def networks(self) -> t.Tuple[str, ...]:
        given = tuple(self._params.get("allow_from") or ())
        try:
            return tuple(_network(text) for text in given)
        except ValueError as exc:
            raise self.refuse("allow_from: %s" % exc, "Write IP addresses, or networks such as 192.0.2.0/24.") from exc

    def format(self) -> str:
        if not self._params.get("format"):
            raise self.refuse("no format is given, and none is guessed", "Set format.")
        return str(self._params["format"])

    def bytes(self, option: str) -> t.Optional[int]:
        if self._params.get(option) is None:
            return None
        try:
            value = size.parse_size(self._params[option])
        except ValueError as exc:
            raise self.refuse("%s: %s" % (option, exc), "Correct it.", "bad_size") from exc
        if value % _SECTOR:
            raise self.refuse("%s is %d bytes" % (option, value), "Write a multiple of 512 bytes.", "bad_size")
        return value


def _network(text: str) -> str:
    """An address, or a network in its shortest form."""
    network = ipaddress.ip_network(text)
    return str(network.network_address if network.num_addresses == 1 else network)


def _refuse_open(spec: ExportSpec, reader: _Reader) -> None:
    """NBD has no users and no passwords: who reaches the port has the disk."""
    if spec.bind is None:
        return
    address = ipaddress.ip_address(spec.bind)
    if address.is_unspecified or address.is_multicast:
        fact = "bind %s would listen on every interface" % spec.bind
        raise reader.refuse(fact, "Name one address of this host.", "open_export")
    if not address.is_loopback and spec.tls is None and not spec.insecure_plaintext:
        fact = "whoever reaches %s could %s the disk" % (spec.where, "read" if spec.read_only else "read and write")
        way_out = "Set tls; or insecure_plaintext: true where all who reach it may."
        raise reader.refuse(fact, way_out, "open_export")


def _contradictions(spec: ExportSpec) -> t.Iterator[t.Tuple[t.Any, str, str]]:
    qcow2 = spec.format == "qcow2"
    sealed = spec.encryption is not None and spec.format not in ("luks", "qcow2")
    yield sealed, "only luks and qcow2 images take a secret", "Leave encryption out."
    yield spec.snapshot is not None and not qcow2, "only qcow2 images have snapshots to serve", "Leave snapshot out."
    yield spec.snapshot is not None and not spec.read_only, "a snapshot is not written to", "Set read_only: true."
    yield spec.snapshot == "", "the name of the snapshot is empty", "Correct snapshot."
    yield spec.bitmaps and not qcow2, "only qcow2 images have bitmaps", "Leave bitmaps out."
    yield spec.bitmaps and spec.windowed, "bitmaps are those of the whole image", "Leave offset and size out."
    yield len(set(spec.bitmaps)) < len(spec.bitmaps), "a bitmap is listed twice", "List each bitmap once."
    yield (
        spec.partition is not None and spec.windowed,
        "a part is named twice",
        "Leave partition out, or offset and size.",
    )
    yield spec.partition is not None and spec.partition < 1, "partitions count from 1", "Correct partition."
    yield (
        spec.cow and spec.read_only,
        "nobody can write to a read-only export",
        "Set read_only: false, or leave cow out.",
    )
    yield (
        spec.allow_from and spec.bind is None,
        "allow_from is for exports by TCP",
        "Set bind, or leave allow_from out.",
    )
    yield spec.discard and spec.read_only, "nothing is discarded in a read-only export", "Leave discard out."
    yield spec.shared < 1, "shared is %d" % spec.shared, "Serve one client or more."
    yield spec.size == 0, "the size is 0", "Leave size out, or correct it."
    yield spec.stop_timeout < 1, "stop_timeout is less than a second", "Give the server time to write."
    yield spec.tls and spec.bind is None, "tls is for exports by TCP", "Set bind, or leave tls out."
    yield spec.tls and spec.insecure_plaintext, "tls and insecure_plaintext are both given", "Leave one of them out."
    yield not 1 <= spec.port <= 65535, "port is %d" % spec.port, "Write a number from 1 to 65535."
    too_long = len((spec.socket or "").encode("utf-8", "surrogateescape")) > _LONGEST_SOCKET
    yield too_long, "the name of the socket has more than %d bytes" % _LONGEST_SOCKET, "Set socket to a shorter path."
    text = spec.description or ""
    yield text and not text.isprintable(), "the description has control characters", "Correct description."
