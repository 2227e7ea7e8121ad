# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Turns the options of one device into what is asked of it, and refuses contradictions. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri, place, size
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import NOTHING, DeviceSpec, Identity

#: a part of a file's name, and of the 63 bytes in which the kernel keeps our mark
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}\Z")
_DEVICE = re.compile(r"^/dev/(loop|nbd)[0-9]+\Z")
_SECTOR = 512
_SECTORS = (512, 1024, 2048, 4096)


def read_spec(params: t.Mapping[str, t.Any]) -> DeviceSpec:
    """The spec of one item's options. Raises SpecError."""
    reader = _Reader(params)
    state, address = params.get("state") or "present", reader.address()
    name, source = reader.name(address), str(address) if address else reader.path()
    named = bool(params.get("name"))
    timeout = 30.0 if params.get("timeout") is None else float(params["timeout"])
    if state != "present":
        return DeviceSpec(name, named, source, state=state, timeout=timeout, address=address)
    spec = DeviceSpec(
        name=name,
        named=named,
        source=source,
        format=params.get("format") or ("raw" if address else None),
        device=params.get("device") or "auto",
        read_only=params.get("read_only") is not False,
        offset=reader.bytes("offset") or 0,
        size=reader.bytes("size"),
        sector_size=params.get("sector_size"),
        direct_io=bool(params.get("direct_io")),
        identity=reader.identity(),
        overlay_directories=tuple(params.get("overlay_directories") or ()),
        timeout=timeout,
        address=address,
        certificates=params.get("tls_certificates") or "",
        psk_file=params.get("tls_psk_file") or "",
        hostname=params.get("tls_hostname") or "",
        io_timeout=params.get("io_timeout") or 0,
        username=params.get("tls_username") or (address.user if address else ""),
    )
    for is_so, fact, way_out in _contradictions(spec):
        if is_so:
            raise reader.refuse(fact, way_out)
    return spec


class _Reader:
    """Turns options into values; every refusal names the device."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._params = params

    def refuse(self, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
        called = str(self._params.get("name") or self._params.get("source") or "")
        return errors.SpecError("device", called, fact, reason=reason, way_out=way_out, joined="")

    def name(self, address: t.Optional[nbd_uri.Address]) -> str:
        """Without one of its own, the last part of what the device is made from."""
        name, source = self._params.get("name"), self._params.get("source")
        if not name and not source:
            raise self.refuse("neither a source nor a name is given", "Set source, or list devices with one each.")
        if not name:
            name = address.export if address else str(source).rstrip("/").rpartition("/")[2]
        if not _NAME.match(name):
            fact = "%r is no good name for a device" % name
            way_out = "Set name to 1 to 48 letters, digits, dots, underscores and minus signs."
            raise self.refuse(fact, way_out, "bad_name")
        return str(name)

    def address(self) -> t.Optional[nbd_uri.Address]:
        """Of an export; None for an image."""
        source = str(self._params.get("source") or "")
        if "://" not in source:
            return None
        try:
            return nbd_uri.parse(source)
        except ValueError as exc:
            way_out = "Write nbd://host/export, nbd+unix:///export?socket=/path, or the same with nbds for TLS."
            raise self.refuse("source: %s" % exc, way_out, "bad_path") from exc

    def path(self) -> t.Optional[str]:
        """Of an image."""
        source = self._params.get("source")
        if not source:
            if self._params.get("state") != "absent":
                raise self.refuse("no source is given", "Set source.")
            return None
        try:
            return str(place.local_place(str(source)).path)
        except ValueError as exc:
            raise self.refuse(
                "source: %s" % exc, "Write an absolute path of this host, or an NBD URI.", "bad_path"
            ) from exc

    def identity(self) -> Identity:
        given = self._params.get("identity") or {}
        signature = tuple(given.get("signature") or ())
        if signature and set(signature) == {NOTHING} and given.get("uuid"):
            fact = "identity says that there is nothing on the disk, and the UUID of what there is"
            raise self.refuse(fact, "Leave signature: none out, or uuid; or name what may be there too.")
        return Identity(self.bytes("size", given, "identity.size"), given.get("uuid") or None, signature)

    def bytes(self, option: str, given: t.Optional[t.Mapping[str, t.Any]] = None, called: str = "") -> t.Optional[int]:
        value = (self._params if given is None else given).get(option)
        if value is None:
            return None
        try:
            number = size.parse_size(value)
        except ValueError as exc:
            raise self.refuse("%s: %s" % (called or option, exc), "Correct it.", "bad_size") from exc
        if number % _SECTOR:
            fact = "%s is %d bytes" % (called or option, number)
            raise self.refuse(fact, "Write a multiple of 512 bytes.", "bad_size")
        return number


def _contradictions(spec: DeviceSpec) -> t.Iterator[t.Tuple[t.Any, str, str]]:
    yield not spec.format, "no format is given, and none is guessed", "Set format."
    yield spec.address and spec.format != "raw", "the bytes of an export are attached as they are", "Set format: raw."
    elsewhere = spec.device != "auto"
    known = _DEVICE.match(spec.device)
    yield elsewhere and not known, "%r is no device to use" % spec.device, "Write auto, /dev/loopN or /dev/nbdN."
    yield spec.size == 0, "the size is 0", "Leave size out, or correct it."
    sector = spec.sector_size
    yield sector and sector not in _SECTORS, "sector_size is %s" % sector, "Write 512, 1024, 2048 or 4096."
    yield spec.timeout < 1, "timeout is less than a second", "Give the kernel time."
    yield spec.io_timeout < 0, "io_timeout is negative", "Correct io_timeout."
    given = spec.certificates or spec.psk_file or spec.hostname or spec.username
    secure = spec.address is not None and spec.address.tls
    yield given and not secure, "options of TLS are given, and source asks for none", "Write nbds:// in source."
    both = bool(spec.certificates) == bool(spec.psk_file)
    yield secure and both, "TLS needs either certificates or a key", "Set tls_certificates or tls_psk_file."
    control = spec.source and not spec.source.isprintable()
    yield control, "source has control characters", "Correct source."
