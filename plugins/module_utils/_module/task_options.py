# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What every module that changes images has among its options, for the task or for each image."""

from __future__ import annotations

import typing as t

ArgumentSpec = t.Dict[str, t.Dict[str, t.Any]]


def task_options() -> ArgumentSpec:
    """The options of the task; C(doc_fragments/task_options.py) documents them."""
    return {
        "workers": {"type": "int", "default": 0},
        "fail_fast": {"type": "bool", "default": True},
        "lock_timeout": {"type": "int", "default": 30},
    }


def listed(
    params: t.Mapping[str, t.Any], several: str, options: t.Iterable[str], own: t.Sequence[str]
) -> t.List[t.Dict[str, t.Any]]:
    """The options of each item of a task: of the one it names, or of each in its list C(several), filled up from the task.
    C(own): those of C(options) that are no other item's.
    """
    shared = {name: params.get(name) for name in options if name not in own}
    if params.get(several) is None:
        return [dict(shared, **{name: params.get(name) for name in own})]
    return [dict(shared, **{k: v for k, v in entry.items() if v is not None}) for entry in params[several]]


def use_options() -> ArgumentSpec:
    """The options of one image about who else uses it or builds on it, without defaults."""
    return {
        "on_in_use": {"type": "str", "choices": ["fail", "skip", "wait"]},
        "wait_timeout": {"type": "int"},
        "overlay_directories": {"type": "list", "elements": "path"},
    }
