# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A place: where an image is. One value for a local path, a URI and a blockdev dict, so that no module tells them
apart.
"""

from __future__ import annotations

import json
import posixpath
import re
import typing as t
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_uri

#: protocol drivers of QEMU whose places this collection can build and name; more follow without a change elsewhere
REMOTE_DRIVERS = ("nbd", "ssh", "http", "https")
_CONTROL = re.compile("[\\0-\\x1f\\x7f]")
_LOCAL_DRIVERS = ("file", "host_device")


@dataclass(frozen=True)
class Place:
    """A protocol node without its format.

    C(driver) is QEMU's protocol driver; C(options) the node's other keys as canonical JSON (so that a place is
    hashable); C(text) what messages call it. C(path) is the absolute path of a local place, else None.
    """

    driver: str
    options: str
    text: str
    path: t.Optional[str] = None

    def node(self, *, device: bool = False) -> t.Dict[str, t.Any]:
        """The blockdev node. C(device): the path is a block device (only a C(stat) can tell)."""
        if self.path is not None:
            return {"driver": "host_device" if device else "file", "filename": self.path}
        return dict(json.loads(self.options), driver=self.driver)

    def __str__(self) -> str:
        return self.text


def local_place(path: str) -> Place:
    """The place of an absolute path. Raises ValueError (a sentence) for any other text."""
    if not path.startswith("/"):
        raise ValueError("%r is not an absolute path" % path)
    if _CONTROL.search(path):
        raise ValueError("%r has control characters in its name" % path)
    if path.endswith("/"):
        raise ValueError("%r names a directory" % path)
    path = posixpath.normpath(path)
    path = path[1:] if path.startswith("//") else path
    return Place("file", "{}", path, path)


def parse_place(value: t.Any) -> Place:
    """The place meant by a task's value: an absolute path, a URI, C(json:{...}), or a blockdev dict.

    Raises ValueError with a sentence for anything else.
    """
    if isinstance(value, dict):
        return _from_blockdev(value)
    if not isinstance(value, str):
        raise ValueError("%r is neither text nor a dict" % (value,))
    if value.startswith("/"):
        return local_place(value)
    if value.startswith("json:"):
        return _from_blockdev(_loads(value[len("json:") :]))
    if "://" in value:
        return _from_uri(value)
    if value.startswith("nbd:"):
        return _from_nbd_filename(value)
    raise ValueError("%r is neither an absolute path nor a URI such as nbd://host/export" % value)


def _loads(text: str) -> t.Mapping[str, t.Any]:
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ValueError("the text after json: is no JSON (%s)" % exc) from exc
    if not isinstance(value, dict):
        raise ValueError("the text after json: is no JSON object")
    return value


def _from_blockdev(node: t.Mapping[str, t.Any]) -> Place:
    driver = node.get("driver")
    if driver in _LOCAL_DRIVERS:
        return local_place(str(node.get("filename", "")))
    if driver not in REMOTE_DRIVERS:
        known = ", ".join(_LOCAL_DRIVERS + REMOTE_DRIVERS)
        raise ValueError(
            "a place needs a protocol driver (%s), not %r; the format is an option of its own" % (known, driver)
        )
    _refuse_secret(node.get("url", ""))
    rest = {key: value for key, value in node.items() if key != "driver"}
    return _remote(str(driver), rest, "%s place %s" % (driver, json.dumps(rest, sort_keys=True)))


def _remote(driver: str, options: t.Mapping[str, t.Any], text: str) -> Place:
    return Place(driver, json.dumps(options, sort_keys=True), text)


def _refuse_secret(url: str) -> None:
    if urlsplit(url).password is not None:
        raise ValueError(
            "the URI carries a password, which would show in process lists and logs; use the options for it"
        )


def _from_uri(uri: str) -> Place:
    parts = urlsplit(uri)
    _refuse_secret(uri)
    if parts.scheme in ("http", "https"):
        return _remote(parts.scheme, {"url": uri}, uri)
    if parts.scheme == "ssh":
        return _from_ssh(uri)
    if parts.scheme in ("nbd", "nbd+tcp", "nbd+unix"):
        return _from_nbd_uri(uri)
    raise ValueError("%r: this collection has no place for %s:// yet" % (uri, parts.scheme))


def _from_ssh(uri: str) -> Place:
    parts = urlsplit(uri)
    options: t.Dict[str, t.Any] = {
        "path": unquote(parts.path),
        "server": {"host": parts.hostname or "", "port": str(parts.port or 22)},
    }
    if parts.username:
        options["user"] = unquote(parts.username)
    return _remote("ssh", options, uri)


def _from_nbd_uri(uri: str) -> Place:
    address = nbd_uri.parse(uri)
    if address.user:
        raise ValueError("%r: a user counts with TLS only" % uri)
    if address.socket:
        server: t.Dict[str, str] = {"type": "unix", "path": address.socket}
    else:
        server = {"type": "inet", "host": address.host, "port": str(address.port)}
    return _remote("nbd", {"server": server, "export": address.export}, uri)


def _from_nbd_filename(text: str) -> Place:
    """QEMU's old form C(nbd:host:port[:exportname=name]) or C(nbd:unix:path[:exportname=name])."""
    address, _unused, export = text[len("nbd:") :].partition(":exportname=")
    host, _unused, port = address.partition(":")
    if not host or not port:
        raise ValueError("%r is not nbd:host:port or nbd:unix:path" % text)
    if host == "unix":
        server: t.Dict[str, str] = {"type": "unix", "path": port}
    else:
        server = {"type": "inet", "host": host, "port": port}
    return _remote("nbd", {"server": server, "export": export}, text)


def relative_name(path: str, directory: str) -> str:
    """A file by its name from a directory, in a form that QEMU does not take for a protocol."""
    name = posixpath.relpath(path, directory)
    return "./" + name if ":" in name.split("/", 1)[0] else name
