# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a definition must not say, as it would hide from others what the VM opens. Pure."""

from __future__ import annotations

import posixpath
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Node
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition

#: names that mean something else in each process
_OWN_NAMES = re.compile(r"/(dev/(fd|fdset|stdin|stdout)|proc/(self|thread-self|[0-9]+))(/|\Z)")
#: of objects, options that are paths
_OBJECT_PATHS = ("file", "dir", "path")
#: C(-set drive.ID.file=...) and the like, which change what other arguments say
_SETS_DRIVES = re.compile(r"drive\.|[^.]*\.[^=]*\.drive=")
_ABSOLUTE = "Write the absolute path of the file itself."
_MOST_NAMED = 10


def check(made: definition.VmDefinition) -> None:
    """Raises SpecError (bad_option, bad_path)."""
    _refuse_hidden(made)
    _refuse_relative([(name, path) for name, path in _paths(made) if not path.startswith("/")])
    for drive, path in _paths(made):
        if _OWN_NAMES.match(posixpath.normpath("/" + path.lstrip("/"))):
            fact = "%s is another file in each process" % path
            raise _refused("drive", drive, fact, "bad_path", _ABSOLUTE, {"drive": drive, "paths": [path]})


def _refuse_relative(found: t.Sequence[t.Tuple[str, str]]) -> None:
    """All at once, so that one task corrects them all."""
    if not found:
        return
    named = words.listed(["%s (drive %s)" % (path, drive) for drive, path in found[1:]], _MOST_NAMED)
    fact = "%s is relative to the directory in which QEMU happens to be started" % found[0][1]
    fact += "; so is %s" % named if named else ""
    evidence = {"drive": found[0][0], "paths": [path for _drive, path in found]}
    raise _refused("drive", found[0][0], fact, "bad_path", _ABSOLUTE, evidence)


def _refused(
    asked: str, subject: str, fact: str, reason: str, way_out: str, evidence: t.Mapping[str, t.Any]
) -> errors.SpecError:
    return errors.SpecError(asked, subject, fact, reason=reason, way_out=way_out, evidence=evidence, joined="")


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
        way_out, evidence = "Write out what it says in drives.", {"arguments": [word, value]}
        raise _refused("the drives of", "VM " + made.vm, fact, "bad_option", way_out, evidence)


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
