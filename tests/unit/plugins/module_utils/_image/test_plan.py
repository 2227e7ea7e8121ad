"""From asked and so to steps or a refusal: tables, and the proof that a plan leaves nothing to do."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Bitmap, Header, InternalSnapshot
from ansible_collections.platter.qemu.plugins.module_utils._core.place import parse_place
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import (
    BackingSpec,
    EncryptionSpec,
    ImageSpec,
    Keyslot,
    SourceSpec,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.state import (
    Backing,
    BaseReading,
    ImageReading,
    ImageState,
    SourceReading,
)

MIB = 1 << 20
PATH = "/d/a"
ASKED = Backing("/d/base", "qcow2", "/d/base")
UNNAMED = ("backing_format_missing", "x")
BASE = BaseReading("/d/base", True, ("qcow2",), 8 * MIB)
OTHER = Backing("/d/other", "qcow2", "/d/other")


def spec(**more: t.Any) -> ImageSpec:
    """A qcow2 image as asked."""
    return ImageSpec(**{"path": PATH, "format": "qcow2", **more})


def state(**more: t.Any) -> ImageState:
    """A qcow2 image of 4 MiB as it is."""
    return ImageState(**{"path": PATH, "format": "qcow2", "virtual_size": 4 * MIB, **more})


def reading(**more: t.Any) -> ImageReading:
    """A healthy qcow2 file."""
    header = Header(more.pop("format", "qcow2"), 4 * MIB, options=more.pop("header_options", {}))
    return ImageReading(**{"kind": "file", "header": header, "detected": (header.format,), **more})


def with_snapshots(**options: t.Any) -> ImageReading:
    """An image with one internal snapshot."""
    found = reading(header_options=options)
    snapshot = InternalSnapshot("1", "s", 0, 0, 0, 0)
    return replace(found, header=found.header._replace(snapshots=(snapshot,)))


BITS = (("refcount_bits", 16),)
ABSENT = (ImageState(PATH), ImageReading())
OVERLAY = {"backing": BackingSpec("/d/base", "qcow2")}


@pytest.mark.parametrize(
    ("asked", "before", "seen", "steps"),
    [
        ({"size": MIB}, *ABSENT, ["Create /d/a as qcow2 of 1 MiB."]),
        (
            {"size": MIB, "options": (("encrypt_format", "luks"),), "encryption": EncryptionSpec("/key")},
            *ABSENT,
            ["Create /d/a as encrypted qcow2 of 1 MiB."],
        ),
        (
            {"compressed": True, "source": SourceSpec("raw", parse_place("/s.xz"), compression="xz")},
            ABSENT[0],
            ImageReading(source=SourceReading(4 * MIB)),
            ["Import /s.xz (raw, packed by xz) to /d/a as compressed qcow2, 4 MiB."],
        ),
        ({**OVERLAY}, ABSENT[0], ImageReading(base=BASE), ["Create /d/a as qcow2 of 8 MiB on /d/base (qcow2)."]),
        ({"size": 4 * MIB}, state(), reading(), []),
        ({}, state(), reading(), []),
        ({"size": 5 * MIB}, state(), reading(), ["Grow /d/a from 4 MiB to 5 MiB."]),
        ({"size": MIB, "allow_shrink": True}, state(), reading(), ["Shrink /d/a from 4 MiB to 1 MiB."]),
        (
            {"options": (("lazy_refcounts", True),)},
            state(options=(("lazy_refcounts", False),)),
            reading(),
            ["Amend /d/a: lazy_refcounts from off to on."],
        ),
        (
            {"options": (("cluster_size", 131072),), "allow_rewrite": True},
            state(options=(("cluster_size", 65536),)),
            reading(),
            ["Rewrite /d/a as qcow2 because of cluster_size 65536 instead of 131072."],
        ),
        (
            {"format": "vmdk", "allow_rewrite": True},
            state(),
            reading(),
            ["Rewrite /d/a as vmdk because of format qcow2 instead of vmdk."],
        ),
        (
            {"flatten": True},
            state(backing=OTHER),
            reading(current_base_exists=True),
            ["Flatten /d/a: copy what it takes from its backing file, then drop the reference."],
        ),
        (
            {**OVERLAY},
            state(backing=OTHER),
            reading(base=BASE, current_base_exists=True),
            ["Rebase /d/a onto /d/base (qcow2), keeping what the guest sees."],
        ),
        (
            {**OVERLAY, "size": 9 * MIB},
            state(backing=replace(ASKED, format=None)),
            reading(base=BASE, current_base_exists=True, current_base_is_asked=True, chain_problem=UNNAMED),
            [
                "Rebase /d/a onto /d/base (qcow2), changing the reference only: it is the same file.",
                "Grow /d/a from 4 MiB to 9 MiB.",
            ],
        ),
        (
            {"repair": "leaks"},
            state(leaks=3),
            reading(),
            ["Repair /d/a (leaks): 3 leaked clusters and 0 corruptions."],
        ),
        (
            {"repair": "all", "size": 9 * MIB},
            state(corruptions=1),
            reading(),
            ["Repair /d/a (all): 0 leaked clusters and 1 corruption.", "Grow /d/a from 4 MiB to 9 MiB."],
        ),
        ({"state": "absent"}, state(), reading(), ["Remove /d/a."]),
        ({"state": "absent"}, *ABSENT, []),
    ],
)
def test_steps(asked: t.Dict[str, t.Any], before: ImageState, seen: ImageReading, steps: t.List[str]) -> None:
    assert [str(action) for action in plan_image(spec(**asked), before, seen)] == steps


@pytest.mark.parametrize(
    ("reason", "asked", "before", "seen"),
    [
        ("size_missing", {}, *ABSENT),
        ("bad_size", {"size": 9 * MIB, "max_virtual_size": MIB}, *ABSENT),
        ("bad_size", {"size": 9 * MIB, "max_virtual_size": MIB}, state(), reading()),
        ("not_a_file", {"size": MIB}, ImageState(PATH), ImageReading(kind="directory")),
        ("not_removable", {"state": "absent"}, state(), reading(kind="block")),
        ("format_mismatch", {"state": "absent", "format": "raw"}, state(), reading()),
        ("format_mismatch", {}, state(format="unknown"), ImageReading(kind="file")),
        ("format_mismatch", {"format": "raw"}, state(format="raw"), reading(format="raw", detected=("qcow2",))),
        ("shrink_refused", {"size": MIB}, state(), reading()),
        ("shrink_cuts_data", {"size": MIB, "allow_shrink": True}, state(), reading(data_end=(2 * MIB, "a partition"))),
        ("exists_different", {"format": "raw"}, state(), reading()),
        (
            "exists_different",
            {"options": (("cluster_size", 1024),)},
            state(options=(("cluster_size", 65536),)),
            reading(),
        ),
        ("exists_different", {"format": "vdi", "size": 5 * MIB}, state(format="vdi"), reading(format="vdi")),
        (
            "exists_different",
            {"format": "raw", "size": 5 * MIB},
            state(format="raw"),
            reading(format="raw", kind="block", detected=()),
        ),
        ("base_missing", OVERLAY, ABSENT[0], ImageReading(base=BaseReading("/d/base", False))),
        ("base_missing", OVERLAY, state(backing=OTHER), reading(base=BASE, current_base_exists=False)),
        ("format_mismatch", OVERLAY, ABSENT[0], ImageReading(base=replace(BASE, detected=("vmdk",)))),
        ("backing_loop", OVERLAY, ABSENT[0], ImageReading(base=replace(BASE, in_chain_of=("/d/base", PATH)))),
        ("chain_too_long", OVERLAY, ABSENT[0], ImageReading(base=replace(BASE, chain_problem=("chain_too_long", "x")))),
        ("backing_loop", {"flatten": True}, state(backing=OTHER), reading(chain_problem=("backing_loop", "x"))),
        ("exists_different", {"size": 9 * MIB}, state(), with_snapshots(compat="0.10")),
        (
            "exists_different",
            {"options": (("refcount_bits", 1),)},
            state(options=BITS),
            with_snapshots(refcount_bits=16),
        ),
        ("member_missing", {}, state(), reading(lacking=("member_missing", "x"))),
        ("image_corrupt", {"repair": "leaks", "size": 9 * MIB}, state(corruptions=1), reading()),
        ("image_corrupt", {"repair": "leaks", "size": 9 * MIB}, state(leaks=1, corruptions=1), reading()),
        ("image_corrupt", {"repair": "leaks", "flatten": True}, state(corruptions=1, backing=OTHER), reading()),
        ("backing_format_missing", {"size": 9 * MIB}, state(backing=OTHER), reading(chain_problem=UNNAMED)),
        ("backing_format_missing", {"repair": "all"}, state(backing=OTHER), reading(chain_problem=UNNAMED)),
        (
            "unknown_features",
            {**OVERLAY, "size": 9 * MIB},
            state(backing=replace(ASKED, format=None)),
            reading(
                base=replace(BASE, opening_problem=("unknown_features", "x")),
                current_base_exists=True,
                current_base_is_asked=True,
                chain_problem=UNNAMED,
            ),
        ),
        (
            "backing_format_missing",
            {**OVERLAY, "size": MIB, "allow_shrink": True},
            state(backing=replace(ASKED, format=None)),
            reading(base=BASE, current_base_exists=True, current_base_is_asked=True, chain_problem=UNNAMED),
        ),
        ("base_changed", {}, state(backing=OTHER, base_unchanged=False), reading()),
        (
            "last_keyslot",
            {"encryption": EncryptionSpec("/k", (Keyslot(0, False),))},
            state(keyslots=(0,)),
            reading(),
        ),
    ],
)
def test_refusals(reason: str, asked: t.Dict[str, t.Any], before: ImageState, seen: ImageReading) -> None:
    with pytest.raises(RefusedError) as caught:
        plan_image(spec(**asked), before, seen)
    assert caught.value.reason == reason
    assert caught.value.message.startswith(("refused: a ", "refused: the removal of "))
    assert ". Nothing was changed. " in caught.value.message
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    "header",
    [
        Header("qcow2", 4 * MIB, snapshots=(InternalSnapshot("1", "s", 0, 0, 0, 0),)),
        Header("qcow2", 4 * MIB, bitmaps=(Bitmap("b", 65536, ()),)),
    ],
)
def test_a_rewrite_never_loses_snapshots_or_bitmaps(header: Header) -> None:
    with pytest.raises(RefusedError) as caught:
        plan_image(spec(format="raw", allow_rewrite=True), state(), reading(header=header))
    assert caught.value.reason == "would_lose_snapshots"


@pytest.mark.parametrize(
    ("consent", "reason"), [("allow_shrink", "shrink_cuts_data"), ("discard_data", "shrink_refused")]
)
def test_an_import_smaller_than_its_source_takes_both_consents(consent: str, reason: str) -> None:
    """The virtual size of a source says nothing of where its data ends."""
    asked = {"size": MIB, "source": SourceSpec("raw", parse_place("/s")), consent: True}
    seen = ImageReading(source=SourceReading(4 * MIB))
    with pytest.raises(
        RefusedError, match=r"has a virtual size of 4 MiB.* is not looked for.*in a later task"
    ) as caught:
        plan_image(spec(**asked), ABSENT[0], seen)
    assert (caught.value.reason, caught.value.facts["evidence"]) == (reason, {"virtual_size": 4 * MIB, "size": MIB})
    assert plan_image(spec(**{**asked, "allow_shrink": True, "discard_data": True}), ABSENT[0], seen)


@pytest.mark.parametrize(
    "header_options",
    [{"compression_type": "zstd"}, {"extended_l2": True}, {"refcount_bits": 64}],
    ids=lambda options: next(iter(options)),
)
def test_what_needs_version_3_is_not_amended_to_version_2(header_options: t.Dict[str, t.Any]) -> None:
    """QEMU 7.2 does so for a zstd image, which no QEMU can read afterwards."""
    asked, before = spec(options=(("compat", "0.10"),)), state(options=(("compat", "1.1"),))
    with pytest.raises(RefusedError) as caught:
        plan_image(asked, before, reading(header_options={"compat": "1.1", **header_options}))
    assert caught.value.reason == "exists_different"


@pytest.mark.parametrize(
    ("before", "seen", "said"),
    [
        (state(format="unknown"), ImageReading(kind="file"), "Correct path; or, if that is a disk without a format"),
        (state(format="unknown"), ImageReading(kind="file", detected=("vmdk",)), "name its format in current_format"),
        (state(backing=OTHER), reading(chain_problem=("base_missing", "x")), "name its new place in backing"),
    ],
)
def test_the_way_out_is_one_that_there_is(before: ImageState, seen: ImageReading, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        plan_image(spec(size=9 * MIB), before, seen)
    assert said in caught.value.message


def test_a_moved_base_is_proven_by_its_fingerprint() -> None:
    mark = {"size": 1, "mtime_ns": 2, "ino": 3}
    seen = reading(base=replace(BASE, fingerprint=mark), current_base_exists=False)
    seen = replace(seen, record={"base": {**mark, "name": OTHER.name}})
    (step,) = plan_image(spec(**OVERLAY), state(backing=OTHER), seen)
    assert str(step).endswith("changing the reference only: it is the same file, moved.")


@pytest.mark.parametrize("name", [{"name": "/d/base"}, {"name": None}, {}])
def test_what_is_remembered_of_a_base_goes_with_its_name(name: t.Dict[str, t.Any]) -> None:
    """Others have given the overlay another base since, which is gone now: this one was under it once."""
    mark = {"size": 1, "mtime_ns": 2, "ino": 3}
    seen = reading(base=replace(BASE, fingerprint=mark), current_base_exists=False, record={"base": {**mark, **name}})
    with pytest.raises(RefusedError) as caught:
        plan_image(spec(**OVERLAY), state(backing=OTHER), seen)
    assert caught.value.reason == "base_missing"


def test_an_accepted_change_of_the_base_is_remembered_once() -> None:
    asked = spec(backing=BackingSpec("/d/base", "qcow2", accept_changed=True))
    before = state(backing=Backing("/d/base", "qcow2", "/d/base"), base_unchanged=False)
    seen = reading(base=BASE, current_base_exists=True, current_base_is_asked=True)
    plan = plan_image(asked, before, seen)
    assert [str(step) for step in plan] == ["Accept that /d/base, the backing file of /d/a, has changed."]
    assert plan_image(asked, predict(before, plan), seen) == []


SIZES = st.sampled_from([None, 512, MIB, 4 * MIB, 10 * MIB, 10_000_384])
FORMATS = st.sampled_from(["raw", "qcow2", "vmdk", "vpc", "qed", "vdi", "luks"])
CONSENT = st.booleans()
OPTIONS = st.dictionaries(
    st.sampled_from(["cluster_size", "lazy_refcounts", "compat", "refcount_bits"]), st.integers(0, 1), max_size=3
)
VALUES = {
    "cluster_size": (65536, 131072),
    "lazy_refcounts": (False, True),
    "compat": ("0.10", "1.1"),
    "refcount_bits": (16, 32),
}
MODES = st.sampled_from([(), (("mode", "0600"),), (("mode", "0644"),)])


@st.composite
def situations(draw: st.DrawFn) -> t.Tuple[ImageSpec, ImageState, ImageReading]:
    """What is asked, what is so, and what was read, fitting together as the observer makes them."""
    wanted, there = draw(FORMATS), draw(st.one_of(st.none(), FORMATS))
    choice = draw(OPTIONS) if wanted == "qcow2" else {}
    asked = tuple(sorted((name, VALUES[name][which]) for name, which in choice.items()))
    current = {name: VALUES[name][draw(st.integers(0, 1))] for name in choice}
    overlay = wanted == "qcow2" and draw(st.booleans())
    backing = draw(st.sampled_from([None, OTHER, Backing("/d/base", "qcow2", "/d/base")])) if there == "qcow2" else None
    modes = draw(MODES)
    want = ImageSpec(
        PATH,
        state=draw(st.sampled_from(["present", "present", "absent"])),
        format=wanted,
        size=draw(SIZES),
        options=asked,
        backing=BackingSpec("/d/base", "qcow2") if overlay else None,
        flatten=not overlay and draw(CONSENT),
        allow_shrink=draw(CONSENT),
        discard_data=draw(CONSENT),
        allow_rewrite=draw(CONSENT),
        repair=draw(st.sampled_from([None, "leaks", "all"])),
    )
    if there is None:
        return want, ImageState(PATH), ImageReading(base=BASE if overlay else None, desired_attributes=modes)
    before = ImageState(
        PATH,
        format=there,
        virtual_size=draw(st.sampled_from([MIB, 4 * MIB])),
        options=tuple(sorted(current.items())) if there == wanted else asked,
        backing=backing,
        leaks=draw(st.integers(0, 1)) if want.repair else 0,
        corruptions=draw(st.integers(0, 1)) if want.repair == "all" else 0,
        attributes=tuple((name, "0600") for name, _value in modes),
    )
    seen = ImageReading(
        kind="file",
        header=Header(there, before.virtual_size or 0),
        detected=(there,) if there != "raw" else (),
        base=BASE if overlay else None,
        current_base_exists=backing is not None,
        current_base_is_asked=backing is not None and backing.path == "/d/base",
        desired_attributes=modes,
    )
    return want, before, seen


def _read_again(seen: ImageReading, after: ImageState) -> ImageReading:
    """What the observer would read of the predicted state."""
    if not after.exists:
        return replace(seen, kind="absent", header=None, detected=())
    return replace(
        seen,
        kind="file",
        header=Header(str(after.format), after.virtual_size or 0),
        detected=(str(after.format),) if after.format != "raw" else (),
        current_base_exists=after.backing is not None,
        current_base_is_asked=after.backing is not None and after.backing.path == "/d/base",
    )


@given(situations())
def test_a_plan_leaves_nothing_to_do(situation: t.Tuple[ImageSpec, ImageState, ImageReading]) -> None:
    want, before, seen = situation
    try:
        plan = plan_image(want, before, seen)
    except RefusedError:
        assume(False)
    after = predict(before, plan)
    assert plan_image(want, after, _read_again(seen, after)) == []


@given(situations())
def test_nothing_shrinks_or_is_rewritten_without_consent(
    situation: t.Tuple[ImageSpec, ImageState, ImageReading],
) -> None:
    want, before, seen = situation
    try:
        plan = plan_image(want, before, seen)
    except RefusedError:
        assume(False)
    after = predict(before, plan)
    if before.exists and after.exists:
        assert want.allow_shrink or (after.virtual_size or 0) >= (before.virtual_size or 0)
        assert want.allow_rewrite or after.format == before.format
    assert after.exists == (want.state == "present")


@given(situations())
def test_steps_are_sentences_that_name_the_image(situation: t.Tuple[ImageSpec, ImageState, ImageReading]) -> None:
    want, before, seen = situation
    try:
        plan = plan_image(want, before, seen)
    except RefusedError as refusal:
        assert PATH in refusal.message
        return
    assert all(PATH in str(step) and str(step).endswith(".") for step in plan)
