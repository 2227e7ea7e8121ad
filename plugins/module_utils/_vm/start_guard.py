# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the program that starts a VM asks first: whether its images have become backing files since. Pure."""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition

#: the second is that of RHEL 8 and its like, where there may be no other
_GUARD = """\
# An image that others are built on, as after a snapshot, is not written to.
for python in /usr/bin/python3 /usr/libexec/platform-python python3; do
  command -v "$python" >/dev/null 2>&1 && break
done
"$python" -I -S -c %s \\
  %s || exit 1
"""
#: the line of C(start) that becomes QEMU; before it, names are only in a comment, which has one line
_FIRST = "\nexec "
_FUTURE = "from __future__ import annotations\n\n"  # not known to Python 3.6, and not needed


def guarded(start: str, made: definition.VmDefinition, program: str) -> str:
    """The text of C(start) with the question before QEMU. C(program): the text of C(_tools/start_check.py)."""
    paths = _written(made)
    if not paths:
        return start
    words = [made.vm, *paths]
    asked = _GUARD % (shlex.quote(program.replace(_FUTURE, "")), " ".join(map(shlex.quote, words)))
    head, line, rest = start.partition(_FIRST)
    return head + "\n" + asked + line[1:] + rest


def _written(made: definition.VmDefinition) -> t.List[str]:
    found = (each.name for each in claims.of_spec(made.spec) if each.local and each.writes and each.name)
    return list(dict.fromkeys(found))
