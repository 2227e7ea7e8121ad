# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Files that become points, and points that were written to: what is remembered of them when a run failed or was killed in it."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records, second_names
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, records


@contextlib.contextmanager
def becoming_point(path: str, name: str, **how: t.Any) -> t.Iterator[None]:
    """C(note_point) for the block. If that fails before another file has its name, it is again what it was."""
    before, identity = layer_records.snapshot_in(records.read_record(path)), files.file_facts(path).identity
    layer_records.note_point(path, name, **how)
    try:
        yield
    except BaseException:
        if files.file_facts(path).identity == identity:
            remove_second_name(path)
            layer_records.remember(path, before)
        raise


def remove_second_name(path: str) -> t.List[str]:
    """Take the file at C(path) the name that a killed run has given to it as well; what was removed."""
    second = second_names.second_name(path, layer_records.snapshot_in(records.read_record(path)))
    if second is not None:
        layer_records.remove_layer(second)
        layer_records.remember(path, second_names.no_point(layer_records.snapshot_in(records.read_record(path))))
    return [second] if second else []


def settle_rewritten(points: t.Iterable[str], base: str) -> None:
    """When the merge is about to end that C(base) is about: what a killed run of it was writing to is to stay as it is now."""
    for path in points:
        if layer_records.snapshot_of(path).get("rewriting") == base:
            layer_records.settle_point(path)


def settle_left(points: t.Iterable[str]) -> None:
    """When nobody writes to any of these points: a run may have been killed before it noted what one is to stay."""
    for path in points:
        if not {"mtime_ns", "merging"} & layer_records.snapshot_of(path).keys():
            with contextlib.suppress(PermissionError):
                layer_records.settle_point(path)
