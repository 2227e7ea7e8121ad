# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The one loop of all modules: observe, plan, predict, execute, observe again, report."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.engine import Engine
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._module import utf8

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def run_module(module: AnsibleModule, make_engine: t.Callable[[AnsibleModule], Engine]) -> None:
    """Run the loop and end the module with its result."""
    try:
        engine = make_engine(module)
        result = _converge(engine, module.check_mode, module.params)
    except errors.EngineError as exc:
        nothing: t.Dict[str, t.Any] = {"changed": False, "actions": [], "diff": [], "commands": []}
        module.fail_json(**utf8.in_utf8(dict(nothing, **_named(exc), msg=not_begun(exc).message)))
        return
    result = utf8.in_utf8(result)
    for warning in result.pop("warnings"):
        module.warn(warning)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


def _converge(engine: Engine, check_mode: bool, params: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    with contextlib.nullcontext() if check_mode else engine.hold():
        items, course = engine.prepare(patient=not check_mode), ""
        stopped = params.get("fail_fast") is not False and any(item.refusal for item in items)
        if stopped:
            items = [_not_begun(item) for item in items]
        elif check_mode:
            items = [_as_if_done(item) for item in items]
        else:
            engine.execute(items)
            course = _course(items)
            items = [_as_left(item) for item in items]
    return _report(engine, items, course, single=params.get(engine.nouns) is None)


def _as_if_done(item: Item) -> Item:
    item.done = len(item.plan)
    return item


def _as_left(item: Item) -> Item:
    """What was not begun, because something else failed, is as it was."""
    return _not_begun(item) if _is_left(item) else item


def _is_left(item: Item) -> bool:
    return bool(item.plan) and not item.done and not item.failure


def _course(items: t.Sequence[Item]) -> str:
    """What became of the others when some fail in the middle of the work; empty when nothing was done to them."""
    changed = [item.name for item in items if item.done and not item.failure]
    left = [item.name for item in items if _is_left(item)]
    if not changed:
        return ""
    return "Changed: %s. " % _listed(changed) + ("Not begun: %s. " % _listed(left) if left else "")


def _not_begun(item: Item) -> Item:
    """One failure stops all: what was planned for the others is not reported as if it were to be."""
    item.plan, item.after = [], item.before
    return item


def _report(engine: Engine, items: t.List[Item], course: str, single: bool) -> t.Dict[str, t.Any]:
    results = [_item_result(engine, item) for item in items]
    failed = [(item.name, result) for item, result in zip(items, results) if result.get("failed")]
    shared = {"commands": engine.commands, "warnings": [warning for item in items for warning in item.warnings]}
    if single:
        return dict(results[0], **shared)
    report = {
        "changed": any(result["changed"] for result in results),
        "actions": [action for result in results for action in result["actions"]],
        "diff": [result["diff"] for result in results if result["changed"]],
        engine.nouns: results,
    }
    if failed:
        report.update(_list_failure(engine, failed, len(results), course))
    return dict(report, **shared)


def _list_failure(
    engine: Engine, failed: t.List[t.Tuple[str, t.Dict[str, t.Any]]], total: int, course: str
) -> t.Dict[str, t.Any]:
    """Several failures are counted and named; the first is told whole, as its facts are those of the result. So is the
    only one, if others were changed (C(course)): that nothing was changed is said of what it is about only.
    """
    first = failed[0][1]
    facts: t.Dict[str, t.Any] = {key: first[key] for key in ("reason", "evidence") if key in first}
    if len(failed) == 1 and not course:
        return dict(facts, failed=True, msg=first["msg"])
    named = ["%s (%s)" % (name, result.get("reason", "failed")) for name, result in failed]
    verb = "refused" if all(result["msg"].startswith("refused: ") for _name, result in failed) else "refused or failed"
    said = first["msg"].replace("Nothing was changed.", "Nothing was changed there.") if course else first["msg"]
    message = "%s: %d of %d %s: %s. %sThe first: %s" % (
        "failed" if course else verb,
        len(failed),
        total,
        engine.nouns,
        _listed(named),
        course,
        said,
    )
    return dict(facts, failed=True, msg=message)


def _listed(names: t.Sequence[str]) -> str:
    more = ", and %d more" % (len(names) - _MOST_NAMED) if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


#: a fleet's thousand failures are in the result, not in its message
_MOST_NAMED = 10


def _item_result(engine: Engine, item: Item) -> t.Dict[str, t.Any]:
    result: t.Dict[str, t.Any] = {
        "changed": item.done > 0,
        "actions": [str(action) for action in item.plan[: item.done]],
        "diff": _diff(engine, item),
        engine.noun: dict(engine.facts(item.after), **item.notes.pop("readings", {})),
    }
    result.update(item.notes)
    if item.failure:
        result.update(_failure(item, item.failure))
    return result


def _diff(engine: Engine, item: Item) -> t.Dict[str, t.Any]:
    return {
        "before_header": item.name,
        "after_header": item.name,
        "before": engine.managed(item.before),
        "after": engine.managed(item.after),
    }


def _named(error: errors.EngineError) -> t.Dict[str, t.Any]:
    """The facts of an error without C(path), a key for which Ansible itself looks at the file again."""
    return {key: value for key, value in error.facts.items() if key != "path"}


def _failure(item: Item, error: errors.EngineError) -> t.Dict[str, t.Any]:
    facts = dict(_named(error), failed=True, msg=error.message)
    if item.plan[item.done :] and not item.refusal:
        facts["failed_action"] = str(item.plan[item.done])
    return facts
