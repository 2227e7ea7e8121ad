# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is worked on under another name, called again by the name that the task has for it."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors


@contextlib.contextmanager
def renaming(path: str, name: str) -> t.Iterator[None]:
    """Errors that leave the block say C(name) for C(path)."""
    try:
        yield
    except errors.EngineError as exc:
        exc.message = renamed(exc.message, path, name)
        exc.facts = renamed(exc.facts, path, name)
        raise
    except OSError as exc:
        if isinstance(exc.filename, str):
            exc.filename = renamed(exc.filename, path, name)
        raise


def renamed(value: t.Any, path: str, name: str) -> t.Any:
    """C(value) with C(path) (one that ends in the number of a descriptor) replaced in all its texts."""
    if isinstance(value, str):
        return re.sub(re.escape(path) + r"(?!\d)", lambda _match: name, value)
    if isinstance(value, dict):
        return {key: renamed(each, path, name) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(renamed(each, path, name) for each in value)
    return value
