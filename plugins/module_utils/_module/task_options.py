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


def use_options() -> ArgumentSpec:
    """The options of one image about who else uses it or builds on it, without defaults."""
    return {
        "on_in_use": {"type": "str", "choices": ["fail", "skip", "wait"]},
        "wait_timeout": {"type": "int"},
        "overlay_directories": {"type": "list", "elements": "path"},
    }
