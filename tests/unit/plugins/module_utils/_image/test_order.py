"""The images of one task among each other: the order, and what each finds of its base when it is its turn."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import SpecError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, in_order
from ansible_collections.platter.qemu.plugins.module_utils._image import order
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import BackingSpec, ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import (
    Backing,
    BaseReading,
    ImageReading,
    ImageState,
)

MIB = 1 << 20
ELSEWHERE = ("backing_protocol_refused", "it leads to nbd://host/x")


def there(name: str, *, on: str = "", asked: str = "", base: t.Any = None, **given: t.Any) -> Item:
    """An image of 4 MiB that is there, built on C(on), and asked to be built on C(asked), which was seen as C(base)."""
    backing = Backing(on, "qcow2", on) if on else None
    spec = ImageSpec(name, format="qcow2", backing=BackingSpec(asked, "qcow2", rebase="unsafe") if asked else None)
    mode = given.pop("mode", False)
    before = ImageState(name, "qcow2", 4 * MIB, backing=backing, attributes=(("mode", "0600"),) if mode else ())
    reading = ImageReading(
        "file",
        header=Header("qcow2", 4 * MIB, backing_file=on or None, options={"compat": "1.1"}),
        detected=("qcow2",),
        base=base,
        desired_attributes=(("mode", "0640"),) if mode else (),
    )
    return Item(name, spec, before=before, after=before, reading=reading)


def new(name: str, asked: str, base: BaseReading) -> Item:
    spec = ImageSpec(name, format="qcow2", size=4 * MIB, backing=BackingSpec(asked, "qcow2"))
    return Item(name, spec, before=ImageState(name), after=ImageState(name), reading=ImageReading(base=base))


def seen(path: str, *below: str, **found: t.Any) -> BaseReading:
    return BaseReading(path, True, ("qcow2",), 4 * MIB, in_chain_of=(path, *below), **found)


MISSING = BaseReading("/d/b", exists=False)


def planned(*items: Item) -> t.Dict[str, t.Any]:
    """The reason of each refusal, or the steps, as the engine does it."""
    by_path = {item.name: item for item in items}
    named = {path: path for path in by_path}
    needs = order.needs_of(items, named, {})
    for name in (name for level in in_order(list(by_path), needs) for name in level):
        order.plan_item(by_path[name], by_path, needs, named, {})
    return {
        item.name: item.refusal.facts["reason"] if item.refusal else [type(step).__name__ for step in item.plan]
        for item in items
    }


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        (seen("/d/b", chain_problem=("base_missing", "/d/gone does not exist")), "base_missing"),
        (seen("/d/b", "/o/m", "/d/a"), "backing_loop"),
    ],
    ids=["broken", "loop"],
)
def test_a_base_that_gets_another_mode_is_judged_as_it_is(base: BaseReading, reason: str) -> None:
    found = planned(there("/d/a", asked="/d/b", base=base), there("/d/b", on="/o/m", mode=True))
    assert found == {"/d/a": reason, "/d/b": ["SetAttributes"]}


def test_a_circle_through_a_base_that_is_still_to_be_made_is_found() -> None:
    with pytest.raises(SpecError, match="in a circle"):
        planned(there("/d/a", asked="/d/b", base=MISSING), new("/d/b", "/d/c", seen("/d/c", "/d/a")))


def test_qemu_opens_no_new_base_that_leads_elsewhere() -> None:
    overlay = there("/d/a", asked="/d/b", base=MISSING)
    overlay.spec = ImageSpec("/d/a", format="qcow2", backing=BackingSpec("/d/b", "qcow2"))
    found = planned(overlay, new("/d/b", "/d/c", seen("/d/c", opening_problem=ELSEWHERE)))
    assert found == {"/d/a": "backing_protocol_refused", "/d/b": ["CreateImage"]}


def test_what_is_further_down_is_made_first_and_mends_the_chain() -> None:
    broken = seen("/m/mid", "/d/b", chain_problem=("base_missing", "/d/b does not exist"))
    found = planned(new("/d/a", "/m/mid", broken), new("/d/b", "/d/c", seen("/d/c")))
    assert found == {"/d/a": ["CreateImage"], "/d/b": ["CreateImage"]}


def test_a_link_further_down_that_is_led_elsewhere_counts() -> None:
    overlay = there("/d/a", asked="/m/mid", base=seen("/m/mid", "/d/b", "/d/c"))
    overlay.spec = ImageSpec("/d/a", format="qcow2", backing=BackingSpec("/m/mid", "qcow2"))
    moved = there("/d/b", on="/d/c", asked="/d/x", base=seen("/d/x", opening_problem=ELSEWHERE))
    assert planned(overlay, moved) == {"/d/a": "backing_protocol_refused", "/d/b": ["RebaseImage"]}


def test_a_base_that_becomes_what_is_asked_is_sound() -> None:
    base = BaseReading(
        "/d/b", True, (), 4 * MIB, chain_problem=("header_unreadable", "/d/b is no readable qcow2 image")
    )
    raw = Item(
        "/d/b",
        ImageSpec("/d/b", format="qcow2", current_format="raw", allow_rewrite=True),
        before=ImageState("/d/b", "raw", 4 * MIB),
        reading=ImageReading("file", header=Header("raw", 4 * MIB)),
    )
    assert planned(new("/d/a", "/d/b", base), raw) == {"/d/a": ["CreateImage"], "/d/b": ["RewriteImage"]}


def test_what_needs_an_image_that_is_left_as_it_is_is_refused() -> None:
    source, copy = there("/d/s"), there("/d/a")
    source.plan, copy.notes["skipped_reason"] = ["Remove"], "image_in_use"
    by_path = {item.name: item for item in (source, copy)}
    order.pass_on_refusals(by_path, by_path, {"/d/s": {"/d/a"}, "/d/a": set()})
    assert source.refusal and source.refusal.facts["evidence"] == {"needs": "/d/a", "reason": "image_in_use"}


def test_a_layer_comes_between_an_image_and_its_base() -> None:
    top = there("/d/top", on="/d/b", asked="/d/mid", base=BaseReading("/d/mid", exists=False))
    found = planned(top, new("/d/mid", "/d/b", seen("/d/b")), there("/d/b"))
    assert found == {"/d/top": ["RebaseImage"], "/d/mid": ["CreateImage"], "/d/b": []}
