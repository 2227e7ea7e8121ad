# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The options of QEMU's block drivers: which there are, of what type, and which of them are nodes. Pure.

From C(qapi/block-core.json), QEMU 7.2, 10.0 and 11.1; C(tests/contract/_drive/test_schema.py) compares it with what the installed
QEMU says of itself (C(query-qmp-schema)).
"""

from __future__ import annotations

import difflib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import size
from ansible_collections.platter.qemu.plugins.module_utils._drive import keyval
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Scalar

_ADDRESS = (
    "type host port numeric to ipv4 ipv6 keep-alive keep-alive-count keep-alive-idle keep-alive-interval mptcp path"
    " abstract tight cid str"
)
_FILE = "filename pr-manager locking aio aio-max-batch drop-cache x-check-cache-dropped"
_CURL = "url readahead timeout username password-secret proxy-username proxy-password-secret"
_EVENTS = "inject-error set-state take-child-perms unshare-child-perms"
_SERVER = " ".join("server." + name for name in _ADDRESS.split())

#: what every node has
COMMON = (
    "discard",
    "cache.direct",
    "cache.no-flush",
    "read-only",
    "auto-read-only",
    "force-share",
    "detect-zeroes",
    "active",
)

#: driver -> its own options; a list's name stands for all below it
_DRIVERS = {
    "file": _FILE,
    "host_device": _FILE,
    "host_cdrom": _FILE,
    "nbd": _SERVER + " export tls-creds tls-hostname x-dirty-bitmap reconnect-delay open-timeout",
    "ssh": _SERVER + " path user host-key-check.mode host-key-check.type host-key-check.hash",
    "http": _CURL + " cookie cookie-secret force-range",
    "https": _CURL + " cookie cookie-secret sslverify force-range",
    "ftp": _CURL,
    "ftps": _CURL + " sslverify",
    "iscsi": "transport portal target lun user password-secret initiator-name header-digest timeout",
    "rbd": "pool namespace image conf snapshot encrypt user auth-client-required key-secret server",
    "gluster": "volume path server debug logfile",
    "nfs": "server.type server.host path user group tcp-syn-count readahead-size page-cache-size debug",
    "nvme": "device namespace",
    "sheepdog": _SERVER + " vdi snap-id tag",
    "vvfat": "dir fat-type floppy label rw",
    "null-co": "size latency-ns read-zeroes",
    "null-aio": "size latency-ns read-zeroes",
    "nvme-io_uring": "path",
    "io_uring": "filename",
    "virtio-blk-vfio-pci": "path",
    "virtio-blk-vhost-user": "path",
    "virtio-blk-vhost-vdpa": "path",
    "raw": "file offset size",
    "qcow2": "file backing lazy-refcounts pass-discard-request pass-discard-snapshot pass-discard-other discard-no-unref"
    " overlap-check cache-size l2-cache-size l2-cache-entry-size refcount-cache-size cache-clean-interval"
    " encrypt.format encrypt.key-secret data-file keep-data-file-closed",
    "qcow": "file backing encrypt.format encrypt.key-secret",
    "qed": "file backing",
    "luks": "file key-secret header",
    "vmdk": "file backing",
    "vdi": "file",
    "vhdx": "file",
    "vpc": "file",
    "parallels": "file",
    "bochs": "file",
    "cloop": "file",
    "dmg": "file",
    "throttle": "file throttle-group",
    "copy-on-read": "file bottom",
    "preallocate": "file prealloc-align prealloc-size",
    "compress": "file",
    "quorum": "children blkverify vote-threshold rewrite-corrupted read-pattern",
    "replication": "file mode top-id",
    "snapshot-access": "file",
    "copy-before-write": "file target bitmap.node bitmap.name on-cbw-error cbw-timeout min-cluster-size",
    "blkdebug": "image config align max-transfer opt-write-zero max-write-zero opt-discard max-discard " + _EVENTS,
    "blkverify": "test raw",
    "blkreplay": "image",
    "blklogwrites": "file log log-sector-size log-append log-super-update-interval",
}
DRIVERS: t.Dict[str, t.FrozenSet[str]] = {name: frozenset(text.split()) for name, text in _DRIVERS.items()}

#: what the others are built on; a drive of one of these alone has no format
_PROTOCOLS_TEXT = (
    "file host_device host_cdrom nbd ssh http https ftp ftps iscsi rbd gluster nfs nvme sheepdog vvfat null-co "
    "null-aio nvme-io_uring io_uring virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa"
)
PROTOCOLS = frozenset(_PROTOCOLS_TEXT.split())
#: drivers that read files of the host, and so have C(aio) and C(locking)
HOST_FILES = frozenset(("file", "host_device", "host_cdrom"))

_CHILDREN_TEXT = "file backing data-file header log test raw"
_CHILDREN = frozenset(_CHILDREN_TEXT.split())
_SOME_CHILDREN = {"image": ("blkdebug", "blkreplay"), "target": ("copy-before-write",)}
_BOOLEANS_TEXT = (
    "direct no-flush read-only auto-read-only force-share active once immediately log-append drop-cache "
    "x-check-cache-dropped sslverify numeric ipv4 ipv6 keep-alive mptcp abstract tight read-zeroes lazy-refcounts "
    "pass-discard-request pass-discard-snapshot pass-discard-other discard-no-unref main-header active-l1 "
    "active-l2 refcount-table refcount-block snapshot-table inactive-l1 inactive-l2 bitmap-directory blkverify "
    "rewrite-corrupted floppy rw keep-data-file-closed force-range"
)
_BOOLEANS = frozenset(_BOOLEANS_TEXT.split())
_INTEGERS_TEXT = (
    "align max-transfer opt-write-zero max-write-zero opt-discard max-discard state errno sector new_state "
    "log-sector-size log-super-update-interval cbw-timeout min-cluster-size aio-max-batch readahead timeout to "
    "delay-ns debug lun reconnect-delay open-timeout group tcp-syn-count readahead-size page-cache-size size latency-ns "
    "prealloc-align prealloc-size cache-size l2-cache-size l2-cache-entry-size refcount-cache-size "
    "cache-clean-interval vote-threshold offset fat-type keep-alive-idle keep-alive-count keep-alive-interval"
)
_INTEGERS = frozenset(_INTEGERS_TEXT.split())
#: an option that is a number in one driver and text in others
_SOME_INTEGERS = {"user": ("nfs",), "namespace": ("nvme",)}
_ENUMS = {
    "discard": ("ignore", "unmap"),
    "detect-zeroes": ("off", "on", "unmap"),
    "aio": ("threads", "native", "io_uring"),
    "locking": ("auto", "on", "off"),
}
_BOOLEAN_TEXTS = {
    "on": True,
    "yes": True,
    "true": True,
    "y": True,
    "off": False,
    "no": False,
    "false": False,
    "n": False,
}


def is_child(driver: str, key: str) -> bool:
    """Whether an option of a node is a node itself."""
    if key in _SOME_CHILDREN:
        return driver in _SOME_CHILDREN[key]
    return key in _CHILDREN or (driver == "quorum" and key == "children")


def is_backing(key: str) -> bool:
    """Whether an option is the node that a layer is built on, by its dotted name: where it is null, the chain is cut."""
    return key.rpartition(".")[2] == "backing"


def kind_of(driver: str, key: str) -> str:
    """C(bool), C(int) or C(str): the type of an option by its dotted name."""
    name = next((part for part in reversed(key.split(".")) if not part.isdigit()), key)
    if name in _SOME_INTEGERS:
        return "int" if driver in _SOME_INTEGERS[name] else "str"
    return "bool" if name in _BOOLEANS else "int" if name in _INTEGERS else "str"


def typed(driver: str, key: str, value: t.Any) -> Scalar:
    """The value of an option in its own type, from text or JSON. Raises ValueError (a sentence) for a wrong one."""
    kind = kind_of(driver, key)
    if value is None:
        return None
    if key == "discard":
        value = {"on": "unmap", "off": "ignore"}.get(_as_text(value), value)
    if key in _ENUMS and _as_text(value) not in _ENUMS[key]:
        raise ValueError("%s is %r, not one of %s" % (key, value, ", ".join(_ENUMS[key])))
    if kind == "bool":
        return boolean(key, value)
    if kind == "int":
        return integer(key, value)
    return _as_text(value)


def _as_text(value: t.Any) -> str:
    """YAML reads C(on) and C(off) as booleans, where QEMU has words."""
    return ("on" if value else "off") if isinstance(value, bool) else keyval.plain(value)


def boolean(key: str, value: t.Any) -> bool:
    """Raises ValueError (a sentence) for anything but a boolean or QEMU's words for one."""
    if isinstance(value, bool):
        return value
    if str(value).lower() not in _BOOLEAN_TEXTS:
        raise ValueError("%s is %r, neither on nor off" % (key, value))
    return _BOOLEAN_TEXTS[str(value).lower()]


def integer(key: str, value: t.Any) -> int:
    """From a number, C(0x...) or a size with its unit. Raises ValueError (a sentence) for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    text = str(value).strip()
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        pass
    try:
        return size.parse_size(text)
    except ValueError as exc:
        raise ValueError("%s is %r, which is no number" % (key, value)) from exc


def unknown(driver: str, key: str) -> str:
    """A sentence about an option that the driver does not have; empty where it has it, or is not known here."""
    known = DRIVERS.get(driver)
    if known is None or key in COMMON:
        return ""
    parts = key.split(".")
    if any(".".join(parts[:length]) in known for length in range(1, len(parts) + 1)):
        return ""
    close = difflib.get_close_matches(key, sorted(known) + list(COMMON), 1)
    return "the driver %s has no option %s%s" % (driver, key, " (is it %s?)" % close[0] if close else "")
