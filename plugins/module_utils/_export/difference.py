# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""In what an export is declared otherwise than a task asks. Of secrets there are only the names of their files. Pure."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export.definition import unset_options
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition, ExportState

#: made of others
_DERIVED = ("uri",)
#: characters of a value in a message
_LONGEST = 200


class Change(t.NamedTuple):
    """An option, what it is declared as, and what the task asks. None: nothing is said."""

    option: str
    old: t.Any
    new: t.Any

    def __str__(self) -> str:
        return "%s from %s to %s" % (self.option, _shown(self.old), _shown(self.new))


Changes = t.Tuple[Change, ...]


def _shown(value: t.Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def changes(old: t.Optional[Definition], new: t.Optional[Definition]) -> Changes:
    """Those between two definitions; none where one is not there, or cannot be read."""
    if old is None or new is None or "unreadable" in old.options:
        return ()
    unset = unset_options()
    found = []
    for option in (name for name in dict.fromkeys([*old.options, *new.options]) if name not in _DERIVED):
        was, asked = (each.options.get(option, unset.get(option)) for each in (old, new))
        if was != asked:
            found.append(Change(option, was, asked))
    return tuple(found)


def evidence(found: Changes) -> t.Dict[str, t.Dict[str, t.Any]]:
    """For programs."""
    return {each.option: {"old": each.old, "new": each.new} for each in found}


def why_anew(found: Changes) -> str:
    """What a server is started anew for, in a sentence."""
    if found:
        return "options would change (%s)" % ", ".join(map(str, found))
    return "no option differs, but what it was started with does (certificates, programs, what a name leads to)"


def why_started(state: ExportState, wanted: Definition, where: str) -> str:
    """The same of a server that may also not be as it is declared."""
    found = changes(state.definition, wanted)
    if found or state.definition is None or state.definition.argv != wanted.argv:
        return why_anew(found)
    if state.argv != wanted.argv:
        return "its server runs otherwise than it is declared"
    return "nobody listens at %s" % where if not state.reachable else why_anew(found)
