# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out the plan of an initramfs: built beside its place, synced, and there under its name at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._initramfs import actions
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, files

_MODE = 0o644


class Executor:
    """Runs the actions of one item. C(look): reads again what is so."""

    def __init__(self, look: t.Callable[[], t.Any]) -> None:
        self._look = look

    def run(self, item: Item) -> None:
        """Carry out its plan."""
        attempt(item, lambda: self._carry_out(item), _failed)

    def _carry_out(self, item: Item) -> None:
        for left in build_directory.stale_builds(item.spec.path):
            shutil.rmtree(left, ignore_errors=True)
        for action in item.plan:
            if isinstance(action, actions.RemoveInitramfs):
                _remove(action.path)
            else:
                _write(action.path, item.reading.content)
            item.done += 1
        if self._look() != item.after:
            fact = "failed: %s is not as planned after the change" % item.name
            raise errors.FailedError(fact, reason="not_as_planned")


def _write(path: str, content: bytes) -> None:
    with build_directory.BuildDirectory(path) as build:
        descriptor = os.open(build.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), _MODE)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(build.path, path)
    files.fsync_path(os.path.dirname(path))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    files.fsync_path(os.path.dirname(path))


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    exc.message = failed_at(item, exc.message, "the file is as it was, or whole.")
    return exc
