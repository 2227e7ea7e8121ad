# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which file a task's image is now, as one has another name while a running QEMU leaves it; and what it is built on."""

from __future__ import annotations

import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain
from ansible_collections.platter.qemu.plugins.module_utils._inspect.image import Seen
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_new, resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec


def there(path: str) -> str:
    """What is called C(path), or was until a QEMU began to leave it."""
    return path if os.path.lexists(path) or not os.path.lexists(path + family.LEAVING) else path + family.LEAVING


def target_of(image: str) -> str:
    """The file behind the name of an image. Raises RefusedError as C(resolve_target) does."""
    try:
        return there(resolve_target(image))
    except errors.RefusedError as exc:
        target = str(exc.facts["evidence"].get("target"))
        if exc.reason != "dangling_symlink" or there(target) == target:
            raise
        return there(target)


def with_overlay(spec: SnapshotSpec) -> SnapshotSpec:
    """The spec with the overlay that it names by the name that layers are known by. Raises RefusedError."""
    return replace(spec, overlay=resolve_new(spec.overlay)) if spec.overlay else spec


def base_of(path: str, seen: Seen) -> t.Optional[str]:
    """The file that an image is built on, resolved; None for none, and for one that is not on this host."""
    name = seen.header.backing_file if seen.header else None
    kind, target = chain.resolve_backing(path, name) if name else ("", "")
    return os.path.realpath(target) if kind == "file" else None
