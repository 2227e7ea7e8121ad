# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The spec of a task's options. Pure; raises SpecError for what contradicts itself."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri, place
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.spec import (
    NBD_RAID,
    NFS,
    InitramfsSpec,
    Leg,
    Network,
    Root,
)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_OPTIONS = re.compile(r"[\x21-\x7e]*\Z")
Params = t.Mapping[str, t.Any]


def read_spec(params: Params, release: str) -> InitramfsSpec:
    """The spec. C(release): of the kernel that runs here, whose modules are taken if none are named."""
    path = _path(str(params["path"]), "path", params)
    if params["state"] == "absent":
        return InitramfsSpec(path)
    root, given = _root(params), params.get("network") or {}
    network = Network(
        str(given.get("address") or ("dhcp" if root.needs_network else "none")),
        str(given.get("gateway") or ""),
        str(given.get("interface") or ""),
    )
    directory = _path(str(params.get("modules_directory") or "/lib/modules/" + release), "modules_directory", params)
    modules = tuple(str(name).replace("-", "_") for name in params.get("modules") or ())
    spec = InitramfsSpec(path, root, network, directory, modules, int(params["wait"]))
    for is_so, fact, way_out in (*_of_root(root, params["root"]), *_of_network(root, network), *_of_all(spec)):
        if is_so:
            raise _bad(params, fact, way_out)
    return spec


def _root(params: Params) -> Root:
    given = params["root"]
    return Root(
        kind=given["type"],
        source=str(given.get("source") or ""),
        options=str(given.get("options") or ""),
        read_only=bool(given.get("read_only")),
        init=str(given.get("init") or "/sbin/init"),
        uuid=str(given.get("uuid") or "").lower(),
        level=given.get("level") or "raid1",
        filesystem=str(given.get("filesystem") or "ext4"),
        legs=tuple(_leg(str(uri), params) for uri in given.get("legs") or ()),
        io_timeout=10 if given.get("io_timeout") is None else int(given["io_timeout"]),
        start_degraded=bool(given.get("start_degraded")),
    )


def _leg(uri: str, params: Params) -> Leg:
    try:
        address = nbd_uri.parse(uri)
    except ValueError as exc:
        raise _bad(params, "root.legs: %s" % exc, "Correct root.legs.") from exc
    if address.tls or address.socket:
        fact = "root.legs: %s is not plain NBD over TCP, which is all that the guest speaks before it has a root" % uri
        raise _bad(params, fact, "Write nbd://address/export, for a network of their own.")
    if not _is_address(address.host):
        raise _bad(params, "root.legs: %r is no IPv4 address" % address.host, _NO_NAMES)
    return Leg(address.host, address.port, address.export)


_NO_NAMES = "Write an IPv4 address: nobody resolves names in the guest before it has a root."


def _of_root(root: Root, given: Params) -> t.Iterator[t.Tuple[t.Any, str, str]]:
    raid = root.kind == NBD_RAID
    for name in ("legs", "uuid", "level", "filesystem", "io_timeout", "start_degraded"):
        fact = "root.%s is nothing for %s" % (name, root.kind)
        yield not raid and given.get(name) not in (None, [], ""), fact, "Leave it out."
    yield raid and root.source, "root.source is nothing for nbd_raid", "Leave it out; root.legs are its source."
    yield raid and len(root.legs) < 2, "an array has two legs or more", "List all of them in root.legs."
    yield len(set(root.legs)) < len(root.legs), "two of root.legs are the same export", "List each once."
    yield raid and not _UUID.match(root.uuid), "root.uuid: %r is no UUID" % root.uuid, "Write one as uuidgen does."
    yield not _WORD.match(root.filesystem), "root.filesystem: %r is none" % root.filesystem, "Write ext4 or xfs."
    yield raid and not 1 <= root.io_timeout <= 3600, "root.io_timeout is %d" % root.io_timeout, "Write 1 to 3600."
    server, colon, path = root.source.partition(":")
    wrong = not (colon and path.startswith("/") and _is_address(server))
    yield root.kind == NFS and wrong, "root.source: %r is not address:/path" % root.source, _NO_NAMES
    tag = root.kind in ("9p", "virtiofs")
    yield tag and not root.source, "root.source is not set", "Set it to the tag of the share."
    yield _has_control(root.source), "root.source has control characters", "Correct it."
    yield not _OPTIONS.match(root.options), "root.options: %r are none" % root.options, "Write a,b=c without spaces."
    bad = not root.init.startswith("/") or _has_control(root.init)
    yield bad, "root.init: %r is not an absolute path" % root.init, "Write one of the guest's, such as /sbin/init."


def _of_network(root: Root, network: Network) -> t.Iterator[t.Tuple[t.Any, str, str]]:
    fixed = network.address not in ("dhcp", "none")
    yield root.needs_network and network.address == "none", "its root comes over the network", "Set network.address."
    yield (
        fixed and not _is_interface(network.address),
        ("network.address: %r is neither dhcp nor an IPv4 address with its prefix" % network.address),
        "Write dhcp, or an address such as 192.0.2.7/24.",
    )
    yield network.gateway and not fixed, "network.gateway without an address", "Leave it out."
    yield (
        network.gateway and not _is_address(network.gateway),
        ("network.gateway: %r is no IPv4 address" % network.gateway),
        "Correct it.",
    )
    wrong = network.interface and not (_WORD.match(network.interface) and len(network.interface) < 16)
    yield wrong, "network.interface: %r is no name of one" % network.interface, "Write one such as eth0."


def _of_all(spec: InitramfsSpec) -> t.Iterator[t.Tuple[t.Any, str, str]]:
    bad = [name for name in spec.modules if not _WORD.match(name)]
    yield bad, "modules: %r is no name of one" % (bad or [""])[0], "Write one as lsmod does."
    yield not 1 <= spec.wait <= 86400, "wait is %d" % spec.wait, "Write 1 to 86400 seconds."


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_interface(text: str) -> bool:
    address, slash, _prefix = text.partition("/")
    try:
        ipaddress.IPv4Interface(text)
    except ValueError:
        return False
    return bool(slash) and _is_address(address)


def _has_control(text: str) -> bool:
    return any(ord(letter) < 32 or ord(letter) == 127 for letter in text)


def _path(given: str, option: str, params: Params) -> str:
    try:
        return str(place.local_place(given).path)
    except ValueError as exc:
        raise _bad(params, "%s: %s" % (option, exc), "Write an absolute path of this host.", "bad_path") from exc


def _bad(params: Params, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
    return errors.SpecError("the initramfs", str(params["path"]), fact, reason=reason, way_out=way_out, joined="")
