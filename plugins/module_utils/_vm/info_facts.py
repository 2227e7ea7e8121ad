# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What C(qemu_drive_info) tells of drives, without what nobody should read. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import facts, parse_arguments
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveDrive, LiveState

_SECRETS = frozenset(("data", "password"))
_IN_URL = re.compile(r"(://[^/@:\s]*:)[^/@\s]*@")
#: as QEMU calls the file of a node
_IN_JSON = re.compile(r'("(?:[a-z.]*\.)?cookie": *")(?:\\.|[^"\\])*(")')


def started(words: t.Sequence[str]) -> t.Dict[str, t.Any]:
    """The drives in a command line. Raises ValueError (a sentence), SpecError."""
    found = parse_arguments.parse(words)
    return t.cast(t.Dict[str, t.Any], hidden(dict(facts.of_spec(found.spec), notes=found.notes)))


def hidden(value: t.Any) -> t.Any:
    """The same with C(***) for secrets."""
    if isinstance(value, t.Mapping):
        return {
            key: "***" if key in (*_SECRETS, "cookie") and isinstance(each, str) else hidden(each)
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [hidden(each) for each in value]
    return _IN_JSON.sub(r"\1***\2", _IN_URL.sub(r"\1***@", value)) if isinstance(value, str) else value


def live(state: LiveState) -> t.Dict[str, t.Any]:
    """The drives of a running QEMU, as it tells of them."""
    return t.cast(
        t.Dict[str, t.Any],
        hidden(
            {
                "machine": state.machine,
                "drives": [_drive(each) for each in state.drives],
                "controllers": [{"id": each.id, "device": each.device} for each in state.controllers],
                "unused_nodes": [each.root for each in state.idle],
            }
        ),
    )


def _drive(each: LiveDrive) -> t.Dict[str, t.Any]:
    found: t.Dict[str, t.Any] = {"id": each.id, "removable": each.removable}
    optional: t.Dict[str, t.Any] = {"device": each.device, "device_id": each.device_id, "bus": each.bus}
    optional.update(properties=dict(each.properties), limits=_plain(each.limits))
    found.update((key, value) for key, value in optional.items() if value)
    medium = each.medium
    if medium is not None:
        found.update(node=medium.node, format=medium.driver, image=medium.file, options=dict(medium.options))
        found.update({"size": medium.size} if medium.size else {})
        found.update({"throttle": medium.group} if medium.group else {})
        found.update({"copy_on_read": True} if medium.copy_on_read else {})
    return found


def _plain(limits: t.Iterable[t.Tuple[str, t.Any]]) -> t.Dict[str, t.Any]:
    return {name[len("limits.") :].replace("-", "_"): value for name, value in limits}
