# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out the plans on the images of one running QEMU: what belongs together in one step, the rest by image."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import actions, layer_actions, live_edit
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layers import LayerEditor
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Together = t.Callable[[t.Sequence[Item]], None]


class LiveExecutor:
    """Runs the actions of items whose images one QEMU has open. C(commands) gets what was said to it."""

    def __init__(self, layers: LayerEditor, commands: t.List[t.List[str]]) -> None:
        self._layers = layers
        self._commands = commands

    def run(self, socket: str, items: t.Sequence[Item]) -> t.Dict[int, Exception]:
        """The errors, by the number of the item. The session has ended then: QEMU serves one client at a time."""
        try:
            qmp = Qmp.connect(socket)
        except EngineError as exc:
            return dict.fromkeys(range(len(items)), exc)
        with qmp:
            errors = _carry_out(live_edit.LiveEditor(qmp, self._layers), items)
            self._commands += qmp.commands
        return errors


def _carry_out(editor: live_edit.LiveEditor, items: t.Sequence[Item]) -> t.Dict[int, Exception]:
    errors: t.Dict[int, Exception] = {}
    steps: t.Sequence[t.Tuple[Together, t.Callable[[t.Any], bool]]] = (
        (editor.take_together, _is_point),
        (editor.save_together, _saves_memory),
        (editor.load_together, _loads_memory),
    )
    for together, belongs in steps:
        left = [n for n, item in enumerate(items) if n not in errors and item.done < len(item.plan)]
        group = [n for n in left if belongs(items[n].plan[items[n].done])]
        if group:
            try:
                together([items[number] for number in group])
            except (EngineError, OSError) as exc:
                errors.update(dict.fromkeys(group, exc))
    for number, item in enumerate(items):
        if number not in errors:
            try:
                _rest(editor, item)
            except (EngineError, OSError) as exc:
                errors[number] = exc
    return errors


def _rest(editor: live_edit.LiveEditor, item: Item) -> None:
    for action in item.plan[item.done :]:
        item.notes.update(editor.carry_out(item, action))
        item.done += 1


def _is_point(action: t.Any) -> bool:
    return isinstance(action, layer_actions.AddOverlay) or (
        isinstance(action, actions.TakeSnapshot) and not action.memory
    )


def _saves_memory(action: t.Any) -> bool:
    return isinstance(action, actions.TakeSnapshot) and action.memory


def _loads_memory(action: t.Any) -> bool:
    return isinstance(action, actions.RevertImage) and action.memory
