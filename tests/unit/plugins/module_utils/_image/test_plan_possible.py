"""What QEMU would not do is refused by the plan, before any step of it is done."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import BackingSpec, ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import (
    Backing,
    BaseReading,
    ImageReading,
    ImageState,
)

MIB = 1 << 20
OTHER = Backing("/d/other", "qcow2", "/d/other")
ONTO: t.Dict[str, t.Any] = {"backing": BackingSpec("/d/base", "qcow2")}
OLD = {"compat": "0.10", "cluster_size": 65536}
NEW = {"compat": "1.1", "cluster_size": 65536}


def steps(
    asked: t.Dict[str, t.Any],
    has: t.Dict[str, t.Any],
    *,
    format: str = "qcow2",
    backing: t.Optional[Backing] = OTHER,
    size: int = MIB,
    **seen: t.Any,
) -> t.List[str]:
    """The kinds of the steps for an overlay whose header says C(has), or the reason of the refusal."""
    options = asked.pop("options", {})
    spec = ImageSpec("/d/a", format=format, options=tuple(options.items()), **asked)
    so = tuple((name, has.get(name, value)) for name, value in options.items())
    state = ImageState("/d/a", format, size, so, backing=backing)
    base = BaseReading("/d/base", True, ("qcow2",), 4 * MIB)
    header = Header(format, size, options=has)
    reading = ImageReading("file", header=header, detected=(format,), base=base, **seen)
    try:
        return [type(step).__name__ for step in plan_image(spec, state, reading)]
    except RefusedError as exc:
        return [exc.reason]


@pytest.mark.parametrize(
    ("has", "asked", "seen", "done"),
    [
        (OLD, {}, {}, "exists_different"),
        (NEW, {}, {}, "ResizeImage"),
        (OLD, {"options": {"compat": "1.1"}}, {}, "AmendImage, ResizeImage"),
        (NEW, {"options": {"compat": "0.10"}}, {}, "exists_different"),
        (OLD, {}, {"current_base_size": MIB}, "ResizeImage"),
        (OLD, {}, {"current_base_size": None}, "ResizeImage"),
        (OLD, {}, {"size": MIB - 512}, "exists_different"),
        (OLD, {"size": MIB}, {"size": MIB - 512}, "ResizeImage"),
        (OLD, {"flatten": True}, {}, "RebaseImage, ResizeImage"),
        (OLD, ONTO, {"current_base_size": None}, "exists_different"),
        ({}, {}, {"format": "qed"}, "exists_different"),
        ({}, {}, {"format": "qed", "current_base_size": MIB}, "ResizeImage"),
    ],
)
def test_what_a_longer_base_holds_is_not_shown_by_growing(
    has: t.Dict[str, t.Any], asked: t.Dict[str, t.Any], seen: t.Dict[str, t.Any], done: str
) -> None:
    """Zeros cover it; within the last cluster it does not matter, as QEMU fills that up."""
    assert ", ".join(steps({"size": 2 * MIB, **asked}, has, **{"current_base_size": 4 * MIB, **seen})) == done


@pytest.mark.parametrize(
    ("has", "options", "done"),
    [
        (OLD, {"lazy_refcounts": True}, "exists_different"),
        (OLD, {"lazy_refcounts": True, "compat": "1.1"}, "AmendImage"),
        (NEW, {"lazy_refcounts": True}, "AmendImage"),
        (OLD, {"extended_l2": True}, "exists_different"),
        (OLD, {"extended_l2": True, "compat": "1.1"}, "RewriteImage"),
        ({**NEW, "cluster_size": 4096}, {"extended_l2": True}, "exists_different"),
        (NEW, {"cluster_size": 4096, "preallocation": "metadata"}, "exists_different"),
        (NEW, {"cluster_size": 4096, "preallocation": "off"}, "RewriteImage"),
    ],
)
def test_asked_options_go_together_with_those_that_are_there(
    has: t.Dict[str, t.Any], options: t.Dict[str, t.Any], done: str
) -> None:
    has = {"lazy_refcounts": False, "extended_l2": False, **has}
    assert ", ".join(steps({"options": options, "allow_rewrite": True}, has)) == done


@pytest.mark.parametrize("asked", [ONTO, {"flatten": True}], ids=["another", "none"])
def test_the_base_of_an_old_format_stays(asked: t.Dict[str, t.Any]) -> None:
    """QEMU reads all of it, and then says that it cannot."""
    assert steps(dict(asked), {}, format="qed") == ["RebaseImage"]
    assert steps(dict(asked), {}, format="qcow") == ["exists_different"]
    assert steps({}, {}, format="qcow") == []
