"""Random lives of a few images against a model of what their guests see: the model is a bytes object for each.

Whatever is done to an image by the module, the guest sees what it saw; what check mode predicts is what happens; and a
second run changes nothing.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.platter.qemu.tests.lab.beats import converge
from ansible_collections.platter.qemu.tests.lab.guest import guest_bytes, qemu_io
from ansible_collections.platter.qemu.tests.lab.modules import prepared

GRAIN = 64 << 10
FORMATS = ("raw", "qcow2", "qed", "vmdk", "vdi", "vhdx", "parallels")
NAMES = ("a", "b", "c", "d")
#: what these tasks can be refused for; anything else is a failure
EXPECTED = {"has_overlays", "backing_loop", "exists_different", "bad_option", "format_mismatch", "shrink_refused"}
SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

formats = st.sampled_from(FORMATS)
grains = st.integers(1, 8)
data = st.data()
amendments = st.fixed_dictionaries(
    {},
    optional={
        "compat": st.sampled_from(["0.10", "1.1"]),
        "lazy_refcounts": st.booleans(),
        "refcount_bits": st.sampled_from([1, 16, 64]),
        "cluster_size": st.sampled_from(["32K", "64K"]),
    },
)


@dataclass
class Model:
    """An image as it should be: its format, what its guest sees, and the name of its base."""

    format: str
    content: bytes
    base: str | None = None


class Life(RuleBasedStateMachine):
    """Each rule is one task, or one write of a guest."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.images: dict[str, Model] = {}

    def teardown(self) -> None:
        self.directory.cleanup()

    def path(self, name: str) -> str:
        return str(Path(self.directory.name) / name)

    def task(self, name: str, **options: Any) -> bool:
        """Whether the task was carried out; else the model stays as it is."""
        result = converge(path=self.path(name), **options)
        if result.get("failed"):
            assert result["reason"] in EXPECTED, result["msg"]
            return False
        return True

    def builds_on(self, name: str) -> list[str]:
        return [other for other, model in self.images.items() if model.base == name]

    def backing(self, name: str) -> dict[str, str]:
        return {"path": self.path(name), "format": self.images[name].format}

    def an_image(self, draw: Any, *but: str) -> str:
        return str(draw.draw(st.sampled_from(sorted(set(self.images) - set(but))), label="image"))

    def a_new_name(self, draw: Any) -> str:
        return str(draw.draw(st.sampled_from(sorted(set(NAMES) - set(self.images))), label="new name"))

    @initialize(format=formats, other=formats, size=grains)
    def begin(self, format: str, other: str, size: int) -> None:
        """Two bases that are not alike, and an overlay with data of its own."""
        self.images["a"] = self.made("a", format, 8)
        self.guest_writes_to("a", 0x11, 0, 3)
        self.images["b"] = self.made("b", other, size)
        self.guest_writes_to("b", 0x22, 1, 4)
        prepared("disk_image", path=self.path("c"), format="qcow2", backing=self.backing("a"))
        self.images["c"] = Model("qcow2", self.images["a"].content, "a")
        self.guest_writes_to("c", 0x33, 2, 2)

    def made(self, name: str, format: str, size: int) -> Model:
        prepared("disk_image", path=self.path(name), format=format, size=str(size * GRAIN))
        return Model(format, bytes(size * GRAIN))

    def guest_writes_to(self, name: str, byte: int, start: int, length: int) -> None:
        image = self.images[name]
        first, last = start * GRAIN, min((start + length) * GRAIN, len(image.content))
        if first < last:
            qemu_io(self.path(name), image.format, f"write -q -P {byte} {first} {last - first}")
            image.content = image.content[:first] + bytes([byte]) * (last - first) + image.content[last:]

    @precondition(lambda self: len(self.images) < len(NAMES))
    @rule(draw=data, format=formats, size=grains)
    def create(self, draw: Any, format: str, size: int) -> None:
        name = self.a_new_name(draw)
        assert self.task(name, format=format, size=str(size * GRAIN))
        self.images[name] = Model(format, bytes(size * GRAIN))

    @precondition(lambda self: 0 < len(self.images) < len(NAMES))
    @rule(draw=data)
    def overlay(self, draw: Any) -> None:
        name, base = self.a_new_name(draw), self.an_image(draw)
        assert self.task(name, format="qcow2", backing=self.backing(base))
        self.images[name] = Model("qcow2", self.images[base].content, base)

    @precondition(lambda self: 0 < len(self.images) < len(NAMES))
    @rule(draw=data, format=formats)
    def import_image(self, draw: Any, format: str) -> None:
        name, source = self.a_new_name(draw), self.an_image(draw)
        assert self.task(name, format=format, source={**self.backing(source), "trusted": True})
        self.images[name] = Model(format, self.images[source].content)

    @precondition(lambda self: self.images)
    @rule(draw=data, byte=st.integers(0, 255), start=st.integers(0, 7), length=grains)
    def guest_writes(self, draw: Any, byte: int, start: int, length: int) -> None:
        name = self.an_image(draw)
        if not self.builds_on(name):
            self.guest_writes_to(name, byte, start, length)

    @precondition(lambda self: self.images)
    @rule(draw=data, more=grains, rewrite=st.booleans())
    def grow(self, draw: Any, more: int, rewrite: bool) -> None:
        name = self.an_image(draw)
        image = self.images[name]
        size = len(image.content) + more * GRAIN
        if self.task(name, format=image.format, size=str(size), allow_rewrite=rewrite):
            image.content = image.content.ljust(size, b"\0")

    @precondition(lambda self: self.images)
    @rule(draw=data, format=formats, rewrite=st.booleans())
    def convert(self, draw: Any, format: str, rewrite: bool) -> None:
        name = self.an_image(draw)
        if self.task(name, format=format, allow_rewrite=rewrite):
            if format != self.images[name].format and format not in ("qcow2", "qed"):
                self.images[name].base = None
            self.images[name].format = format

    @precondition(lambda self: len(self.images) > 1)
    @rule(draw=data)
    def rebase(self, draw: Any) -> None:
        name = self.an_image(draw)
        base = self.an_image(draw, name)
        if self.task(name, format=self.images[name].format, backing=self.backing(base)):
            self.images[name].base = base

    @precondition(lambda self: self.images)
    @rule(draw=data)
    def flatten(self, draw: Any) -> None:
        name = self.an_image(draw)
        if self.task(name, format=self.images[name].format, flatten=True):
            self.images[name].base = None

    @precondition(lambda self: any(image.format == "qcow2" for image in self.images.values()))
    @rule(draw=data, options=amendments, rewrite=st.booleans())
    def amend(self, draw: Any, options: dict[str, Any], rewrite: bool) -> None:
        name = self.an_image(draw, *(n for n, image in self.images.items() if image.format != "qcow2"))
        self.task(name, format="qcow2", options=options, allow_rewrite=rewrite)

    @precondition(lambda self: self.images)
    @rule(draw=data)
    def remove(self, draw: Any) -> None:
        name = self.an_image(draw)
        if self.task(name, state="absent"):
            assert not self.builds_on(name)
            del self.images[name]

    @invariant()
    def every_guest_sees_what_it_should(self) -> None:
        for name, image in self.images.items():
            assert guest_bytes(self.path(name), image.format) == image.content, name

    @invariant()
    def nothing_is_left_over(self) -> None:
        assert sorted(os.listdir(self.directory.name)) == sorted(self.images)


#: making a failing life shorter takes minutes, which only a soak has
PHASES = tuple(Phase) if SOAK else (Phase.explicit, Phase.generate)
Life.TestCase.settings = settings(
    max_examples=1000 if SOAK else 20, stateful_step_count=30 if SOAK else 8, phases=PHASES
)
TestLife = Life.TestCase
