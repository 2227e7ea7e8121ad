# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out the plans on the images of one running QEMU: what belongs together in one step, the rest by image."""

from __future__ import annotations

import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.actions import RevertImage, TakeSnapshot
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layer_actions import AddOverlay
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layers import LayerEditor
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.live_edit import LiveEditor
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Together = t.Callable[[t.Sequence[Item]], None]


class LiveExecutor:
    """Runs the actions of items whose images one QEMU has open. C(commands) gets what was said to it."""

    def __init__(self, layers: LayerEditor, commands: t.List[t.List[str]]) -> None:
        self._layers = layers
        self._commands = commands

    def run(self, socket: str, items: t.Sequence[Item], attempt: t.Callable[..., t.Any]) -> None:
        """C(attempt(item, function)) runs the function and turns its errors into the item's."""
        try:
            qmp = Qmp.connect(socket)
        except EngineError as exc:
            for item in items:
                attempt(item, _raising(EngineError(exc.message, **exc.facts)))
            return
        with qmp:
            self._run(LiveEditor(qmp, self._layers), items, attempt)
            self._commands += qmp.commands

    def _run(self, editor: LiveEditor, items: t.Sequence[Item], attempt: t.Callable[..., t.Any]) -> None:
        steps: t.Sequence[t.Tuple[Together, t.Callable[[t.Any], bool]]] = (
            (editor.take_together, _is_point),
            (editor.save_together, _saves_memory),
            (editor.load_together, _loads_memory),
        )
        for together, belongs in steps:
            group = [item for item in items if not item.error and item.done < len(item.plan)]
            group = [item for item in group if belongs(item.plan[item.done])]
            if group:
                _all_or_none(together, group, attempt)
        for item in items:
            if not item.error:
                attempt(item, partial(_rest, editor, item))


def _all_or_none(together: Together, group: t.Sequence[Item], attempt: t.Callable[..., t.Any]) -> None:
    try:
        together(group)
    except EngineError as exc:
        for item in group:
            attempt(item, _raising(EngineError(exc.message, **exc.facts)))
    except OSError as exc:
        for item in group:
            attempt(item, _raising(OSError(exc.errno, exc.strerror, exc.filename)))


def _raising(exc: Exception) -> t.Callable[[], None]:
    def fail() -> None:
        raise exc

    return fail


def _rest(editor: LiveEditor, item: Item) -> None:
    for action in item.plan[item.done :]:
        item.notes.update(editor.carry_out(item, action))
        item.done += 1


def _is_point(action: t.Any) -> bool:
    return isinstance(action, AddOverlay) or (isinstance(action, TakeSnapshot) and not action.memory)


def _saves_memory(action: t.Any) -> bool:
    return isinstance(action, TakeSnapshot) and action.memory


def _loads_memory(action: t.Any) -> bool:
    return isinstance(action, RevertImage) and action.memory
