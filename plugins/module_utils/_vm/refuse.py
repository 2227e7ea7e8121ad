# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition must not say, as it would hide from others what the VM opens. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Node
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition

#: names that mean something else in each process
_OWN_NAMES = re.compile(r"/(dev/(fd|fdset|stdin|stdout)|proc/(self|thread-self|[0-9]+))(/|\Z)")
#: of objects, options that are paths
_OBJECT_PATHS = ("file", "dir", "path")
#: C(-set drive.ID.file=...) and the like, which change what other arguments say
_SETS_DRIVES = re.compile(r"drive\.|[^.]*\.[^=]*\.drive=")


def check(made: definition.VmDefinition) -> None:
    """Raises SpecError (bad_option, bad_path)."""
    _refuse_hidden(made)
    for drive, path in _paths(made):
        fact = ""
        if not path.startswith("/"):
            fact = "%s is relative to the directory in which QEMU happens to be started" % path
        elif _OWN_NAMES.match(path):
            fact = "%s is another file in each process" % path
        if fact:
            way_out = "Write the absolute path of the file itself."
            raise _refused("drive", drive, fact, "bad_path", way_out)


def _refused(asked: str, subject: str, fact: str, reason: str, way_out: str) -> errors.SpecError:
    return errors.SpecError(asked, subject, fact, reason=reason, way_out=way_out, joined="")


def _refuse_hidden(made: definition.VmDefinition) -> None:
    """Arguments that bring drives with them which nobody sees here."""
    for word, value in zip(made.arguments, (*made.arguments[1:], "")):
        name = word.lstrip("-") if word.startswith("-") else ""
        if name == "readconfig":
            fact = "arguments have -readconfig, and what is in that file can be drives"
        elif name == "set" and _SETS_DRIVES.match(value):
            fact = "arguments change what a drive opens (-set %s)" % value
        else:
            continue
        raise _refused("the drives of", "VM " + made.vm, fact, "bad_option", "Write out what it says in drives.")


def _paths(made: definition.VmDefinition) -> t.Iterator[t.Tuple[str, str]]:
    """What is a name in the file system of the host, with the drive, node or object that has it."""
    for drive in made.spec.drives:
        for node in drive.backend.walk() if drive.backend is not None else ():
            yield from ((drive.id, path) for path in _of_node(node))
    for top in made.spec.nodes:
        yield from ((top.name, path) for node in top.walk() for path in _of_node(node))
    for each in made.spec.objects:
        yield from ((each.id, str(value)) for name, value in each.properties if name in _OBJECT_PATHS and value)


def _of_node(node: Node) -> t.Iterator[str]:
    """With the Unix socket of a server."""
    options = dict(node.options)
    names = [claims.LOCAL.get(node.driver, "")]
    names += [name for name in options if name.startswith("server.") and name.endswith(".path")]
    yield from (str(options[name]) for name in names if options.get(name))
