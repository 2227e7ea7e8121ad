"""What QEMU cannot be told to merge down is not begun: it would end in the middle, and could not be ended by anybody."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import committable, merge_actions
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan import plan_snapshots
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    BitmapState,
    Layer,
    Point,
    SnapshotReading,
    SnapshotState,
)

MIB = 1 << 20
LOST = BitmapState("b", True, 65536, True)


def planned(low: Layer, size: int, state: str) -> list[str]:
    """The kinds of the steps that take the snapshot out which C(low) is, when the disk on it has that size."""
    top = Layer("/d/a.s1.qcow2", "qcow2", size, "/d/a", low.format)
    low = replace(low, point="s1", children=(top.path,))
    point = Point("s1", content="then", virtual_size=low.virtual_size, path=low.path)
    spec = SnapshotSpec(top.path, "qcow2", name="s1", kind="external", state=state)
    seen = SnapshotState(spec.image, "external", top.path, None, size, "now", (point,), (low.path, top.path))
    reading = SnapshotReading(
        Header("qcow2", size), kind="file", layers={low.path: low, top.path: top}, named=spec.image
    )
    return [type(action).__name__ for action in plan_snapshots(spec, seen, reading)]


@pytest.mark.parametrize(
    ("format", "size", "more"),
    [
        *((name, 2 * MIB, {}) for name in sorted(set(FEATURES) - set(committable.GROWING))),
        ("parallels", MIB, {}),
        ("vmdk", MIB, {"variant": "streamOptimized"}),
        ("qcow2", 2 * MIB, {"variant": "0.10", "snapshots": ("i",)}),
        ("qcow2", 2 * MIB, {"variant": "1.1", "bitmaps": (LOST,)}),
    ],
)
def test_what_cannot_go_down_is_not_begun(format: str, size: int, more: dict[str, t.Any]) -> None:
    low = Layer("/d/a", format, MIB, **more)
    with pytest.raises(RefusedError) as refusal:
        planned(low, size, "committed")
    assert refusal.value.reason == "cannot_commit"
    if not more:  # else its file would be lost with what is beside its data
        assert planned(low, size, "absent") == planned(low, size, "streamed") == [merge_actions.StreamBase.__name__]


@pytest.mark.parametrize(
    ("format", "size", "more"),
    [
        *((name, MIB, {}) for name in sorted(set(FEATURES) - {"parallels", "luks"})),
        *((name, 2 * MIB, {}) for name in ("raw", "qed", "qcow2")),
        ("qcow2", MIB, {"variant": "0.10", "snapshots": ("i",), "bitmaps": (LOST,)}),
        ("qcow2", 2 * MIB, {"variant": "1.1", "snapshots": ("i",), "bitmaps": (replace(LOST, in_use=False),)}),
    ],
)
def test_the_others_go_down(format: str, size: int, more: dict[str, t.Any]) -> None:
    assert committable.obstacle(Layer("/d/a", format, MIB, **more), size) is None


def test_the_formats_that_grow_are_those_that_disk_image_resizes() -> None:
    assert set(committable.GROWING) == {name for name, features in FEATURES.items() if features.grow}
