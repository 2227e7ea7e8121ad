"""After a merge that was killed: what it was about is left alone by everything but its end."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.plan import plan_snapshots
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import Retention, SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Layer,
    Point,
    SnapshotReading,
    SnapshotState,
)

MIB = 1 << 20
PATHS = ["/d/a.s0", "/d/a.s1", "/d/a.s2", "/d/a.s3", "/d/a"]


def planned(merging: int, asked: dict[str, t.Any], **merged: bool) -> list[str]:
    """The plan for a disk with s0 to s3, when a run was killed that merged layer C(merging) into the one below it."""
    layers = {}
    for at, path in enumerate(PATHS):
        base = PATHS[at - 1] if at else None
        layers[path] = Layer(path, "qcow2", MIB, base, "qcow2", tuple(PATHS[at + 1 : at + 2]))
        if at < len(PATHS) - 1:
            layers[path] = replace(layers[path], point="s%d" % at)
    below = PATHS[merging - 1]
    layers[below] = replace(layers[below], merging=PATHS[merging], **merged)
    points = tuple(
        Point("s%d" % at, "", family.content_of(layers, path), MIB, path, path == below, date=float(at))
        for at, path in enumerate(PATHS[:-1])
    )
    spec = SnapshotSpec("/d/a", "qcow2", kind="external", switch="rename", **asked)
    state = SnapshotState("/d/a", "external", "/d/a", None, MIB, "now", points, tuple(PATHS))
    header = Header("qcow2", MIB, cluster_size=65536)
    reading = SnapshotReading(header, kind="file", now=9.0, layers=layers, named="/d/a", switch="rename")
    return [str(action) for action in plan_snapshots(spec, state, reading)]


#: what is being merged -> what touches it
TOUCHED: list[tuple[int, dict[str, t.Any]]] = [
    (2, {"name": "s2", "state": "absent"}),
    (2, {"name": "s2", "state": "committed"}),
    (2, {"name": "s2", "state": "streamed"}),
    (2, {"name": "s0", "state": "absent"}),
    (2, {"name": "s0", "state": "streamed"}),
    (4, {"name": "s9", "state": "present"}),
    (4, {"name": "s0", "state": "reverted"}),
    (4, {"name": "s2", "state": "absent"}),
    (2, {"state": "pruned", "match": "s[023]", "retention": Retention(keep_last=1)}),
]


@pytest.mark.parametrize(("merging", "asked"), TOUCHED, ids=str)
def test_what_is_being_merged_is_not_touched(merging: int, asked: dict[str, t.Any]) -> None:
    with pytest.raises(RefusedError) as caught:
        planned(merging, asked)
    assert caught.value.reason == "merge_unfinished"
    assert "name=s%d" % (merging - 1) in caught.value.message


@pytest.mark.parametrize("state", ["absent", "committed", "streamed"])
def test_its_end_is_and_so_is_the_rest(state: str) -> None:
    assert planned(2, {"name": "s1", "state": state})[0].startswith("Merge snapshot s1")
    assert planned(2, {"name": "s3", "state": "absent"})[0].startswith("Merge snapshot s3")
    assert planned(2, {"name": "s9", "state": "present"})[0].startswith("Keep ")
    pruned = planned(2, {"state": "pruned", "match": "s[012]", "retention": Retention(keep_last=1)})
    assert [action.split()[2] for action in pruned] == ["s1", "s0"]


def test_what_is_merged_whole_is_not_copied_again() -> None:
    asked = {"name": "s1", "state": "committed"}
    assert planned(2, asked, copied=True) == [
        "Finish the merge of snapshot s1 of /d/a: all of /d/a.s2 is in /d/a.s1 already."
    ]
    with pytest.raises(RefusedError, match="both have been written to since"):
        planned(2, asked, forked=True)
