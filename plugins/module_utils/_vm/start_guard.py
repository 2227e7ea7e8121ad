# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the program that starts a VM asks first: whether its images may still be opened, and written to. Pure."""

from __future__ import annotations

import json
import shlex
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._vm import besides, claims, definition

#: as exit status: that Python is too old (EX_UNAVAILABLE of sysexits.h)
_TOO_OLD = 69
_RUN = """\
import os, sys
if sys.version_info < (3, 8):
    sys.exit(%d)
here = os.path.dirname(os.path.realpath(sys.argv.pop(1)))
program = os.path.join(here, "%s")
if not os.path.isfile(program):
    lost = "VM %%s is not started: what looks at its images first is not there: %%s. %%s"
    way_out = "Start it by the name that qemu_drive gave to this program, or run platter.qemu.qemu_drive for it."
    sys.exit(lost %% (sys.argv[1], program, way_out))
sys.path.insert(0, program)
from ansible_collections.platter.qemu.plugins.module_utils._vm import before_start
before_start.main()
""" % (_TOO_OLD, definition.PROGRAM)
#: without it, headers would be followed that nobody has read; 126 and 127 are a Python that cannot be run
_GUARD = """\
# What the images are by now is looked at before QEMU opens them.
asked=%d
for python in /usr/bin/python3 /usr/bin/python3.[1-9][0-9] /usr/bin/python3.[89] /usr/local/bin/python3 python3; do
  command -v "$python" >/dev/null 2>&1 || continue
  "$python" -I -S -c %s "$0" %s
  asked=$?
  case $asked in %d|126|127) continue;; esac
  break
done
case $asked in
  0) ;;
  %d|126|127) echo %s >&2; exit 1;;
  *) exit 1;;
esac
"""
_NO_PYTHON = (
    "VM %s is not started: its images cannot be looked at before, as there is no Python 3.8 or later in /usr/bin,"
    " /usr/local/bin, or PATH. Install python3."
)
#: the line of C(start) that becomes QEMU; before it, names are only in a comment, which has one line
_FIRST = "\nexec "


def guarded(start: str, made: definition.VmDefinition) -> str:
    """The text of C(start) with the question before QEMU."""
    asked = _words(made)
    if not asked:
        return start
    lines = " \\\n    ".join(shlex.quote(word) for word in (made.vm, *asked))
    missing = shlex.quote(_NO_PYTHON % made.vm)
    text = _GUARD % (_TOO_OLD, shlex.quote(_RUN), lines, _TOO_OLD, _TOO_OLD, missing)
    head, line, rest = start.partition(_FIRST)
    return head + "\n" + text + line[1:] + rest


def _words(made: definition.VmDefinition) -> t.List[str]:
    """What is looked at, each as C(before_start) reads it; a name that is no UTF-8 stays what it is."""
    return list(dict.fromkeys(json.dumps(each, ensure_ascii=False) for each in _looked_at(made)))


def _looked_at(made: definition.VmDefinition) -> t.Iterator[t.Dict[str, t.Any]]:
    for each in claims.of_spec(made.spec):
        if each.local and each.name:
            told = {"format": each.declared, "writes": each.writes, "below": each.chain}
            yield {"is": "drive " + each.drive, "path": each.name, **told}
    for key in besides.keys(made.spec):
        yield {"is": "drive " + key.of, "path": key.path, "key": "shared" if key.shared else "own"}
    for what, path in besides.paths(made.spec):
        yield {"is": what, "path": path}
