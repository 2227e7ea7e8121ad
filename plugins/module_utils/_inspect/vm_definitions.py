# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The files that the VMs of this host are defined with, whether they run or not. Read-only.

Only what lies at the bottom of each drive is read of a definition (C(_vm/definition.py) reads all of it): whoever removes an
image needs no more, and no values of drives.
"""

from __future__ import annotations

import json
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors

#: in the directory of a definition, leads to the generation that counts
CURRENT = "current"
#: what the definition says, in that; the name is that of C(_vm/definition.py), which is pure and cannot have it from here
DEFINITION = "definition.json"
#: bytes of a definition that are read: thousands of drives have room
_LARGEST = 16 << 20


#: the nodes of a node that it can have by their names
_CHILDREN = ("file", "backing", "data-file", "children")
#: those that it is built on, which a header can name too
_BELOW = ("backing", "data-file")


class Named(t.NamedTuple):
    """A file that a drive of a VM names. C(config): the directory of the definition. C(format): of the image in it; empty
    for bytes, or where nothing is said. C(over): the image that the definition has on it; empty where that is no file of
    this host, None where there is none.
    """

    vm: str
    config: str
    drive: str
    path: str
    format: str
    over: t.Optional[str] = None


class File(t.NamedTuple):
    """The same without whose it is."""

    path: str
    format: str
    over: t.Optional[str] = None


def registry() -> str:
    """A directory with a link for each VM, to where its definition is."""
    if os.geteuid() == 0:
        return "/var/lib/platter/vm"
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "platter", "vm")


def named_files() -> t.List[Named]:
    """What all definitions of this user's VMs name. Raises RefusedError (definition_unreadable), as nobody knows what such a
    one names.
    """
    found = []
    for name in _names(registry()):
        config = os.path.realpath(os.path.join(registry(), name))
        written = content(os.path.join(config, CURRENT, DEFINITION), _LARGEST)
        if written is not None:
            found += _read(config, written.decode("utf-8", "surrogateescape"))
    return found


def _names(directory: str) -> t.List[str]:
    """Those with a dot are links that are half made."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return []


def content(path: str, largest: int = -1) -> t.Optional[bytes]:
    """What is in a file of a definition, at most C(largest) bytes; None where nothing is: the VM is defined no more. What is
    no file has no content, and is never waited for. Raises EngineError where it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise errors.EngineError("%s cannot be read: %s" % (path, exc.strerror), path=path) from exc
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(largest) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def _read(config: str, text: str) -> t.List[Named]:
    try:
        written = json.loads(text)
        vm = str(written["vm"])
        return [Named(vm, config, drive, *file) for drive, file in _files(written["drives"])]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        raise _unreadable(config) from exc


def _unreadable(config: str) -> errors.RefusedError:
    path, current = os.path.join(config, CURRENT, DEFINITION), os.path.join(config, CURRENT)
    return errors.RefusedError(
        "a definition of drives",
        config,
        "%s is no definition of this collection" % path,
        reason="definition_unreadable",
        way_out="Remove the link %s, if it is not needed." % current,
        evidence={"path": path},
        joined="in",
    )


def _files(drives: t.Mapping[str, t.Any]) -> t.Iterator[t.Tuple[str, File]]:
    """With the drive that has each, or the node. What others name, and no device has, is what those make of it."""
    nodes = _Nodes(drives)
    whole = [
        (str(each["id"]), "device" in each, nodes.whole(_tree(each.get("image") or {}))) for each in drives["drives"]
    ]
    whole += [(str(each.get("node-name", "")), False, nodes.whole(each)) for each in drives.get("nodes", ())]
    for name, has_device, tree in whole:
        if has_device or name not in nodes.named:
            yield from ((name, file) for file in files_in(tree))


class _Nodes:
    """The nodes of a definition, which others can have by their names. C(named): those that some have."""

    def __init__(self, drives: t.Mapping[str, t.Any]) -> None:
        self.named: t.Set[str] = set()
        self._trees = {str(each["id"]): _tree(each.get("image") or {}) for each in drives["drives"]}
        for tree in [*self._trees.values(), *drives.get("nodes", ())]:
            self._trees = {**dict(_with_names(tree)), **self._trees}

    def whole(self, tree: t.Any) -> t.Any:
        """With the nodes in it that it has by their names: each once, as it may be a child of many, or of its own."""
        return self._whole(tree, "", set())

    def _whole(self, tree: t.Any, role: str, seen: t.Set[str]) -> t.Any:
        if isinstance(tree, str) and role in _CHILDREN and tree in self._trees and tree not in seen:
            self.named.add(tree)
            seen.add(tree)
            return self._whole(self._trees[tree], "", seen)
        if isinstance(tree, list):
            return [self._whole(each, role, seen) for each in tree]
        if isinstance(tree, dict):
            return {key: self._whole(each, key, seen) for key, each in tree.items()}
        return tree


def _with_names(tree: t.Any) -> t.Iterator[t.Tuple[str, t.Any]]:
    for each in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _with_names(each)
    if isinstance(tree, dict) and tree.get("node-name"):
        yield str(tree["node-name"]), tree


def files_of(image: t.Mapping[str, t.Any]) -> t.Iterator[File]:
    """Each file that the image of a drive names, as its path or in a tree of nodes."""
    return files_in(_tree(image))


def _tree(image: t.Mapping[str, t.Any]) -> t.Any:
    if "path" not in image:
        return image.get("blockdev")
    node = {"driver": image.get("format", ""), "file": {"filename": str(image["path"])}}
    return dict(image.get("options") or {}, **node)


def files_in(tree: t.Any, above: str = "", over: t.Optional[str] = None) -> t.Iterator[File]:
    """The same of a node, with all that are described in it. C(above): the driver of the node whose C(file) it is; C(over):
    the image that is built on it.
    """
    if isinstance(tree, (list, tuple)):
        for each in tree:
            yield from files_in(each, over=over)
    if not isinstance(tree, dict):
        return
    if isinstance(tree.get("filename"), str):
        yield File(tree["filename"], above, over)
    driver = _format(str(tree.get("driver", "")), tree)
    for key, value in tree.items():
        yield from files_in(value, driver if key == "file" else "", _at_bottom(tree) if key in _BELOW else over)


def _at_bottom(tree: t.Any) -> str:
    """The file that an image is in, by C(file) alone: a look at all that is below would double with each level."""
    while isinstance(tree, dict):
        if isinstance(tree.get("filename"), str):
            return str(tree["filename"])
        tree = tree.get("file")
    return ""


def _format(driver: str, options: t.Mapping[str, t.Any]) -> str:
    """In a window of a raw file there can be anything."""
    return "" if driver == "raw" and {"offset", "size"} & set(options) else driver
