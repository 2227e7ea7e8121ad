"""Another base, or none: what an image shows stays as it is, its snapshots too, or the task is refused."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, InternalSnapshot
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import BackingSpec, ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import (
    Backing,
    BaseReading,
    ImageReading,
    ImageState,
)

MIB = 1 << 20
PATH = "/d/a"
OTHER = Backing("/d/other", "qcow2", "/d/other")
FINGERPRINT = {"size": 1, "mtime_ns": 2, "ino": 3}
ONTO: t.Dict[str, t.Any] = {"backing": BackingSpec("/d/base", "qcow2")}
UNSAFE: t.Dict[str, t.Any] = {"backing": BackingSpec("/d/base", "qcow2", rebase="unsafe")}
FLATTEN: t.Dict[str, t.Any] = {"flatten": True}
SNAPSHOTS = (InternalSnapshot("1", "s", 0, 0, 0, 0),)


def steps(
    asked: t.Dict[str, t.Any], is_so: t.Dict[str, t.Any], header: t.Dict[str, t.Any], **seen: t.Any
) -> t.List[str]:
    """The kinds of the steps for a qcow2 image of 4 MiB."""
    spec = ImageSpec(PATH, format="qcow2", **asked)
    state = ImageState(PATH, "qcow2", 4 * MIB, **is_so)
    header = {"options": {"compat": "1.1"}, **header}
    base = BaseReading("/d/base", True, ("qcow2",), 4 * MIB, fingerprint=FINGERPRINT)
    reading = ImageReading("file", header=Header("qcow2", 4 * MIB, **header), detected=("qcow2",), base=base, **seen)
    return [type(step).__name__ for step in plan_image(spec, state, reading)]


def refusal(*given: t.Any, **seen: t.Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        steps(*given, **seen)
    return caught.value


@pytest.mark.parametrize("asked", [ONTO, FLATTEN])
def test_snapshots_keep_what_they_take_from_the_base(asked: t.Dict[str, t.Any]) -> None:
    refused = refusal(asked, {"backing": OTHER}, {"snapshots": SNAPSHOTS})
    assert (refused.reason, refused.facts["evidence"]) == ("would_lose_snapshots", {"snapshots_and_bitmaps": ["s"]})
    assert steps(asked, {"backing": OTHER}, {}) == ["RebaseImage"]


def test_snapshots_of_an_image_without_a_base_show_none_of_a_new_one() -> None:
    assert refusal(ONTO, {}, {"snapshots": SNAPSHOTS}).reason == "would_lose_snapshots"


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (UNSAFE, {}),
        (ONTO, {"current_base_is_asked": True}),
    ],
    ids=["unsafe", "the same base by another name"],
)
def test_the_same_content_below_leaves_snapshots_as_they_are(
    asked: t.Dict[str, t.Any], seen: t.Dict[str, t.Any]
) -> None:
    assert steps(asked, {"backing": OTHER}, {"snapshots": SNAPSHOTS}, **seen) == ["RebaseImage"]


def test_an_image_without_a_base_must_be_able_to_say_zero() -> None:
    old = {"options": {"compat": "0.10"}}
    assert refusal(ONTO, {}, old).reason == "exists_different"
    assert steps(ONTO, {}, {}) == ["RebaseImage"]
    assert steps(ONTO, {"backing": OTHER}, old) == ["RebaseImage"]
    assert steps(UNSAFE, {}, old) == ["RebaseImage"]


def test_compat_rises_before_the_base_is_put_under_and_falls_afterwards() -> None:
    up = {**ONTO, "options": (("compat", "1.1"),)}
    assert steps(up, {"options": (("compat", "0.10"),)}, {"options": {"compat": "0.10"}}) == [
        "AmendImage",
        "RebaseImage",
    ]
    down = {**ONTO, "options": (("compat", "0.10"),)}
    assert steps(down, {"options": (("compat", "1.1"),)}, {}) == ["RebaseImage", "AmendImage"]


@pytest.mark.parametrize(("compat", "possible"), [({"compat": "0.10"}, False), ({"compat": "1.1"}, True), ({}, False)])
def test_a_rewritten_image_too_must_be_able_to_say_zero(compat: t.Dict[str, str], possible: bool) -> None:
    """The copy keeps compat 0.10 unless the task asks for another."""
    options = {"cluster_size": 4096, **compat}
    asked = {**ONTO, "allow_rewrite": True, "options": tuple(options.items())}
    so = {"options": tuple({**options, "cluster_size": 65536}.items())}
    header = {"options": {"compat": "0.10", "cluster_size": 65536}}
    if possible:
        assert steps(asked, so, header) == ["RewriteImage", "RebaseImage"]
    else:
        assert refusal(asked, so, header).reason == "exists_different"


@pytest.mark.parametrize(
    ("is_so", "header"), [({"corruptions": 2}, {}), ({}, {"corrupt": True})], ids=["found by check", "marked"]
)
def test_what_is_damaged_is_repaired_before_it_is_rewritten(
    is_so: t.Dict[str, t.Any], header: t.Dict[str, t.Any]
) -> None:
    asked = {"repair": "all", "allow_rewrite": True, "options": (("cluster_size", 4096),)}
    so = {**is_so, "options": (("cluster_size", 65536),)}
    assert refusal(asked, so, header).reason == "image_corrupt"
    assert steps(asked, {**so, "corruptions": 0, "leaks": 1}, {}) == ["RewriteImage"]
