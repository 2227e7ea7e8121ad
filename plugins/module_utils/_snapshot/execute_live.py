# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out the plans on the images of one running QEMU: what belongs together in one step, the rest by image."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import live_edit, together
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layers import LayerEditor
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.merge import Merger
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

Together = t.Callable[[t.Sequence[Item]], None]


class LiveExecutor:
    """Runs the actions of items whose images one QEMU has open. C(commands) gets what was said to it."""

    def __init__(self, layers: LayerEditor, merger: Merger, commands: t.List[t.List[str]]) -> None:
        self._layers = layers
        self._merger = merger
        self._commands = commands

    def run(self, socket: str, items: t.Sequence[Item]) -> t.Dict[int, Exception]:
        """The errors, by the number of the item. The session has ended then: QEMU serves one client at a time."""
        try:
            qmp = Qmp.connect(socket)
        except EngineError as exc:
            return dict.fromkeys(range(len(items)), exc)
        with qmp:
            errors = _carry_out(live_edit.LiveEditor(qmp, self._layers, self._merger), items)
            self._commands += qmp.commands
        return errors


def _carry_out(editor: live_edit.LiveEditor, items: t.Sequence[Item]) -> t.Dict[int, Exception]:
    """Each image up to where its next step belongs to those of others, then these at once, until nothing is left."""
    errors: t.Dict[int, Exception] = {}
    while True:
        for number in _left(items, errors):
            with _noting(errors, [number]):
                _own_steps(editor, items[number])
        waiting = {number: editor.belongs_together(_next(items[number])) for number in _left(items, errors)}
        if not waiting:
            return errors
        method = next(iter(waiting.values()))
        group = [number for number in waiting if waiting[number] == method]
        with _noting(errors, group), _telling_each(errors, {number: items[number] for number in group}):
            t.cast(Together, method)([items[number] for number in group])


def _left(items: t.Sequence[Item], errors: t.Collection[int]) -> t.List[int]:
    return [number for number, item in enumerate(items) if number not in errors and item.done < len(item.plan)]


def _next(item: Item) -> t.Any:
    return item.plan[item.done]


@contextlib.contextmanager
def _noting(errors: t.Dict[int, Exception], numbers: t.Iterable[int]) -> t.Iterator[None]:
    """An error ends the items that it is about, and no others."""
    try:
        yield
    except (EngineError, OSError) as exc:
        errors.update(dict.fromkeys(numbers, exc))


@contextlib.contextmanager
def _telling_each(errors: t.Dict[int, Exception], group: t.Mapping[int, Item]) -> t.Iterator[None]:
    """Which of the items that are worked on at once an error is about."""
    try:
        yield
    except together.TogetherError as exc:
        for number, item in group.items():
            errors[number] = exc.told_of(item, [each.name for each in group.values() if each is not item])


def _own_steps(editor: live_edit.LiveEditor, item: Item) -> None:
    while item.done < len(item.plan) and editor.belongs_together(_next(item)) is None:
        item.note(editor.carry_out(item, _next(item)))
        item.done += 1
