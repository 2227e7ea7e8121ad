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

GRAIN = 64 << 10
FORMATS = ("raw", "qcow2", "qed", "vmdk", "vdi", "vhdx", "parallels")
NAMES = ("a", "b", "c")
#: what these tasks can be refused for; anything else is a failure
EXPECTED = {"has_overlays", "backing_loop", "exists_different", "bad_option", "format_mismatch", "shrink_refused"}
SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

names = st.sampled_from(NAMES)
formats = st.sampled_from(FORMATS)
grains = st.integers(1, 8)
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

    @initialize(format=formats, size=grains)
    def begin(self, format: str, size: int) -> None:
        self.create("a", format, size)

    @rule(name=names, format=formats, size=grains)
    def create(self, name: str, format: str, size: int) -> None:
        if name not in self.images and self.task(name, format=format, size=str(size * GRAIN)):
            self.images[name] = Model(format, bytes(size * GRAIN))

    @precondition(lambda self: self.images)
    @rule(name=names, base=names)
    def overlay(self, name: str, base: str) -> None:
        if name in self.images or base not in self.images:
            return
        if self.task(name, format="qcow2", backing=self.backing(base)):
            self.images[name] = Model("qcow2", self.images[base].content, base)

    @rule(name=names, source=names, format=formats)
    def import_image(self, name: str, source: str, format: str) -> None:
        if name in self.images or source not in self.images:
            return
        origin = {**self.backing(source), "trusted": True}
        if self.task(name, format=format, source=origin):
            self.images[name] = Model(format, self.images[source].content)

    @rule(name=names, byte=st.integers(0, 255), start=st.integers(0, 7), length=grains)
    def guest_writes(self, name: str, byte: int, start: int, length: int) -> None:
        if name not in self.images or self.builds_on(name):
            return
        image = self.images[name]
        first, last = start * GRAIN, min((start + length) * GRAIN, len(image.content))
        if first < last:
            qemu_io(self.path(name), image.format, f"write -q -P {byte} {first} {last - first}")
            image.content = image.content[:first] + bytes([byte]) * (last - first) + image.content[last:]

    @rule(name=names, more=grains, rewrite=st.booleans())
    def grow(self, name: str, more: int, rewrite: bool) -> None:
        if name not in self.images:
            return
        image = self.images[name]
        size = len(image.content) + more * GRAIN
        if self.task(name, format=image.format, size=str(size), allow_rewrite=rewrite):
            image.content = image.content.ljust(size, b"\0")

    @rule(name=names, format=formats, rewrite=st.booleans())
    def convert(self, name: str, format: str, rewrite: bool) -> None:
        if name in self.images and self.task(name, format=format, allow_rewrite=rewrite):
            if format != self.images[name].format and format not in ("qcow2", "qed"):
                self.images[name].base = None
            self.images[name].format = format

    @rule(name=names, base=names)
    def rebase(self, name: str, base: str) -> None:
        if name in self.images and base in self.images and name != base:
            image = self.images[name]
            if self.task(name, format=image.format, backing=self.backing(base)):
                image.base = base

    @rule(name=names)
    def flatten(self, name: str) -> None:
        if name in self.images and self.task(name, format=self.images[name].format, flatten=True):
            self.images[name].base = None

    @rule(name=names, options=amendments, rewrite=st.booleans())
    def amend(self, name: str, options: dict[str, Any], rewrite: bool) -> None:
        if name in self.images and self.images[name].format == "qcow2":
            self.task(name, format="qcow2", options=options, allow_rewrite=rewrite)

    @rule(name=names)
    def remove(self, name: str) -> None:
        if name in self.images and self.task(name, state="absent"):
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
    max_examples=1000 if SOAK else 12, stateful_step_count=30 if SOAK else 8, phases=PHASES
)
TestLife = Life.TestCase
