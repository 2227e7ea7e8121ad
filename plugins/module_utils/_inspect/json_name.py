# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What a C(json:) name of a backing file says: it can describe a whole graph of nodes, with other files and hosts in it."""

from __future__ import annotations

import json
import re
import typing as t

_PREFIX = "json:"
#: the file of a node is that of the node below it
_OWN_FILE = re.compile(r"(file\.)*filename\Z")
_LOCAL = ("file", "host_device")


class PlainFile(t.NamedTuple):
    """One file and nothing else. C(format): what it is opened as where the overlay has no format recorded for it."""

    filename: str
    format: str | None = None


def plain_file(name: str) -> PlainFile | None:
    """The file in the two forms that QEMU and libvirt write for a base that is just that: C(driver) and C(file) with
    C(driver) and C(filename), or the same with dots. None for all else: any further key may lead to another file.
    """
    said = list(_options(name))
    options = dict(said)
    known = options.keys() <= {"driver", "file.driver", "file.filename"} and len(options) == len(said)
    if not known or not all(isinstance(value, str) for value in options.values()):
        return None
    local = options.get("file.driver", "file") in _LOCAL and "file.filename" in options
    return PlainFile(options["file.filename"], options.get("driver")) if local else None


def file_of_node(name: str) -> str:
    """The file of the node itself in QEMU's own description of it, which may go on about its backing file; else empty."""
    options = dict(_options(name))
    found = sorted((key for key in options if _OWN_FILE.match(key)), key=len)
    return _local(options, found[-1]) if found else ""


def every_file(name: str) -> t.Iterator[str]:
    """All files of a host that the name mentions, wherever it does."""
    options = dict(_options(name))
    found = (_local(options, key) for key in options if key == "filename" or key.endswith(".filename"))
    yield from filter(None, found)


def _local(options: t.Mapping[str, t.Any], key: str) -> str:
    """The file name under C(key), unless the driver beside it reads something else."""
    named, driver = options[key], options.get(key[: -len("filename")] + "driver", "file")
    return named if driver in _LOCAL and isinstance(named, str) else ""


def _options(name: str) -> t.Iterator[tuple[str, t.Any]]:
    """All options in it, by their names with dots, which QEMU takes for the same; none where it cannot be read."""
    try:  # tuples of pairs, as a key can be there twice
        node = json.loads(name[len(_PREFIX) :], object_pairs_hook=tuple) if name.startswith(_PREFIX) else None
    except (ValueError, RecursionError):
        return
    todo: list[tuple[str, t.Any]] = [("", node)] if isinstance(node, tuple) else []
    while todo:
        prefix, value = todo.pop()
        if value and isinstance(value, (tuple, list)):
            inner = value if isinstance(value, tuple) else enumerate(value)
            todo += [(prefix + "." + str(key) if prefix else str(key), each) for key, each in inner]
        else:
            yield prefix, value
