"""An image with snapshots of both kinds: a task that forgets the kind is told, and nothing inside a file goes silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.snapshots import Disk, disk, names_in


def warned(one: Disk, **options: Any) -> str:
    """What check mode warns of, which is what the real run warns of."""
    told = [call("image_snapshot", check=check, **one.task(**options)).get("warnings") for check in (True, False)]
    assert told[0] == told[1]
    return str(told[0])


@pytest.mark.parametrize("switch", ["none", "rename"])
@pytest.mark.parametrize("state", ["present", "absent", "reverted"])
def test_external_snapshots_are_named_to_a_task_about_internal_ones(tmp_path: Path, switch: str, state: str) -> None:
    one = disk(tmp_path, "external", switch)
    one.take("s1")
    one.write(3)
    one.beats(name="s1", state="reverted")
    for image in dict.fromkeys((one.image, one.active)):
        forgetful = Disk(image)
        for name in ("s1", "s1.undone"):
            told = forgetful.refuses("kind_differs", name=name, state=state)
            assert told["evidence"] == {"kind": "external", "snapshots": ["s1", "s1.undone"]}
        if state == "absent":
            forgetful.settled(name="other", state=state)


def test_pruning_says_what_it_does_not_look_at(tmp_path: Path) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("n1")
    one.take("n2")
    inside = Disk(one.image)
    rules = {"state": "pruned", "match": "n*", "retention": {"keep_last": 1}}
    inside.settled(**rules)
    said = warned(inside, **rules)
    assert "n1, n2. Set kind: external for those" in said, said
    inside.beats(name="n3")
    assert "n3. Set kind: internal for those" in warned(one, **{**rules, "retention": {"keep_last": 5}})


@pytest.mark.parametrize("state", ["absent", "reverted", "committed", "streamed"])
def test_internal_snapshots_are_named_to_a_task_about_external_ones(tmp_path: Path, state: str) -> None:
    one = disk(tmp_path)
    one.take("inner")
    told = Disk(one.image, "external").refuses("kind_differs", name="inner", state=state)
    assert told["evidence"] == {"kind": "internal", "snapshots": ["inner"]}


def test_an_overlay_hides_what_is_inside_the_file_below(tmp_path: Path) -> None:
    one = disk(tmp_path)
    one.take("inner")
    one.beats(bitmaps=[{"name": "b"}])
    said = warned(Disk(one.image, "external"), name="s1")
    assert f"The internal snapshots inner and dirty bitmaps b of {one.image} stay in the file of snapshot s1" in said


@pytest.mark.parametrize("what", ["snapshots", "bitmaps"])
def test_going_back_loses_nothing_inside_the_file_that_is_left(tmp_path: Path, what: str) -> None:
    one = disk(tmp_path, "external", "rename")
    one.take("s1")
    one.write(3)
    inside = Disk(one.image, active=one.active)
    inside.beats(**({"name": "inner"} if what == "snapshots" else {"bitmaps": [{"name": "inner"}]}))
    told = one.refuses(f"would_lose_{what}", name="s1", state="reverted", save=False)
    assert told["evidence"] == {"path": str(one.active), "names": ["inner"]}
    one.beats(name="s1", state="reverted")
    left = one.points()["s1.undone"]
    assert left
    assert names_in(left) == (["inner"] if what == "snapshots" else [])
    result = one.beats(name="s1.undone", state="absent")
    kind = "internal snapshots" if what == "snapshots" else "dirty bitmaps"
    assert result["actions"][0].endswith(f", and with it its {kind} inner.")
