"""What the module can do to an image, each as a small world and the task that changes it."""

from __future__ import annotations

import shutil
import typing as t
from dataclasses import dataclass
from pathlib import Path

from .modules import call
from .oracle import create
from .patterns import write_pattern

Options = t.Dict[str, t.Any]


@dataclass(frozen=True)
class Verb:
    """C(prepare) makes the world in an empty directory, C(task) changes the image C(image) in it.

    C(in_place): the file is edited, so that only what the guest sees is old or new at every instant.
    C(members): what is removed file by file, so that a part of it may be gone.
    """

    name: str
    image: str
    prepare: t.Callable[[Path], None]
    task: t.Callable[[Path], Options]
    in_place: bool = False
    members: bool = False

    def options(self, world: Path) -> Options:
        """The task's options in that world."""
        return dict(self.task(world), path=str(world / self.image))


def _nothing(world: Path) -> None:
    """An empty directory."""


def _image(name: str, format: str, options: str = "", size: str = "4M", seed: int = 1) -> t.Callable[[Path], None]:
    def prepare(world: Path) -> None:
        create(world / name, format, size, options)
        write_pattern(world / name, format, seed)

    return prepare


def _chain(world: Path) -> None:
    """Two bases with different content, and an overlay of the first with some of its own."""
    for name, seed in (("base.qcow2", 1), ("other.qcow2", 2)):
        _image(name, "qcow2", seed=seed)(world)
    overlay = {"path": str(world / "disk.qcow2"), "format": "qcow2", "backing": _backing(world, "base.qcow2")}
    assert call("disk_image", **overlay)["changed"]
    write_pattern(world / "disk.qcow2", "qcow2", 3, places=3)


def _moved_base(world: Path) -> None:
    """The overlay's base is there twice."""
    _chain(world)
    shutil.copy2(world / "base.qcow2", world / "other.qcow2")


def _base(world: Path) -> None:
    _image("base.qcow2", "qcow2")(world)


def _split(world: Path) -> None:
    _image("disk.vmdk", "vmdk", "subformat=twoGbMaxExtentSparse", size="2049M")(world)


def _replaced(world: Path) -> None:
    """An image that was imported from another source than is there now."""
    _image("source.raw", "raw", seed=1)(world)
    done = call("disk_image", **_replacement(world), path=str(world / "disk.qcow2"))
    assert done["changed"], done
    write_pattern(world / "source.raw", "raw", 2)


def _replaced_split(world: Path) -> None:
    """The same for an image of several files."""
    _image("source.qcow2", "qcow2", seed=1)(world)
    done = call("disk_image", **_split_replacement(world), path=str(world / "disk.vmdk"))
    assert done["changed"], done
    write_pattern(world / "source.qcow2", "qcow2", 2)


def _split_replacement(world: Path) -> Options:
    source = _source(world, "qcow2")
    return {"format": "vmdk", "options": _SPLIT, "source": source, "source_policy": "if_changed"}


def _replacement(world: Path) -> Options:
    return {"format": "qcow2", "source": _source(world, "raw"), "source_policy": "if_changed"}


def _source(world: Path, format: str) -> Options:
    return {"path": str(world / f"source.{format}"), "format": format, "compression": "none"}


def _backing(world: Path, name: str) -> Options:
    return {"path": str(world / name), "format": "qcow2"}


_SPLIT: Options = {"subformat": "twoGbMaxExtentSparse"}

VERBS = (
    Verb("create-raw", "disk.raw", _nothing, lambda w: {"format": "raw", "size": "4M"}),
    Verb("create-qcow2", "disk.qcow2", _nothing, lambda w: {"format": "qcow2", "size": "4M"}),
    Verb("create-overlay", "disk.qcow2", _base, lambda w: {"format": "qcow2", "backing": _backing(w, "base.qcow2")}),
    Verb("create-split", "disk.vmdk", _nothing, lambda w: {"format": "vmdk", "size": "2049M", "options": _SPLIT}),
    Verb(
        "import-raw-to-qcow2",
        "disk.qcow2",
        _image("source.raw", "raw"),
        lambda w: {"format": "qcow2", "source": _source(w, "raw")},
    ),
    Verb(
        "import-qcow2-to-vmdk",
        "disk.vmdk",
        _image("source.qcow2", "qcow2"),
        lambda w: {"format": "vmdk", "source": _source(w, "qcow2")},
    ),
    Verb(
        "import-qcow2-to-split",
        "disk.vmdk",
        _image("source.qcow2", "qcow2", size="2049M"),
        lambda w: {"format": "vmdk", "options": _SPLIT, "source": _source(w, "qcow2")},
    ),
    Verb(
        "import-by-copy",
        "disk.qcow2",
        _image("source.qcow2", "qcow2"),
        lambda w: {"format": "qcow2", "source": _source(w, "qcow2")},
    ),
    Verb(
        "rewrite-cluster-size",
        "disk.qcow2",
        _image("disk.qcow2", "qcow2"),
        lambda w: {"format": "qcow2", "options": {"cluster_size": "128K"}, "allow_rewrite": True},
    ),
    Verb(
        "rewrite-to-split",
        "disk.img",
        _image("disk.img", "qcow2", size="2049M"),
        lambda w: {"format": "vmdk", "options": _SPLIT, "current_format": "qcow2", "allow_rewrite": True},
    ),
    Verb(
        "rewrite-split",
        "disk.vmdk",
        _split,
        lambda w: {"format": "qcow2", "current_format": "vmdk", "allow_rewrite": True},
    ),
    Verb("replace", "disk.qcow2", _replaced, _replacement),
    Verb("replace-split", "disk.vmdk", _replaced_split, _split_replacement),
    Verb(
        "rebase",
        "disk.qcow2",
        _chain,
        lambda w: {"format": "qcow2", "backing": _backing(w, "other.qcow2")},
        in_place=True,
    ),
    Verb("flatten", "disk.qcow2", _chain, lambda w: {"format": "qcow2", "flatten": True}, in_place=True),
    Verb(
        "grow-qcow2",
        "disk.qcow2",
        _image("disk.qcow2", "qcow2"),
        lambda w: {"format": "qcow2", "size": "6G"},
        in_place=True,
    ),
    Verb("grow-raw", "disk.raw", _image("disk.raw", "raw"), lambda w: {"format": "raw", "size": "8M"}, in_place=True),
    Verb(
        "amend",
        "disk.qcow2",
        _image("disk.qcow2", "qcow2", "compat=0.10"),
        lambda w: {"format": "qcow2", "options": {"compat": "1.1", "lazy_refcounts": True}},
        in_place=True,
    ),
    Verb("remove", "disk.qcow2", _image("disk.qcow2", "qcow2"), lambda w: {"state": "absent"}),
    Verb("remove-split", "disk.vmdk", _split, lambda w: {"state": "absent"}, members=True),
)
#: what else a task may come to; killing these at each call would tell nothing new
OTHERS = (
    Verb(
        "shrink",
        "disk.qcow2",
        _image("disk.qcow2", "qcow2", size="64M"),
        lambda w: {"format": "qcow2", "size": "32M", "allow_shrink": True},
        in_place=True,
    ),
    Verb(
        "rebase-unsafe",
        "disk.qcow2",
        _moved_base,
        lambda w: {"format": "qcow2", "backing": dict(_backing(w, "other.qcow2"), rebase="unsafe")},
        in_place=True,
    ),
    Verb("mode", "disk.qcow2", _image("disk.qcow2", "qcow2"), lambda w: {"format": "qcow2", "mode": "0640"}, True),
    Verb(
        "remove-with-backup",
        "disk.qcow2",
        _image("disk.qcow2", "qcow2"),
        lambda w: {"state": "absent", "backup": True},
    ),
    Verb(
        "import-compressed",
        "disk.qcow2",
        _image("source.raw", "raw"),
        lambda w: {"format": "qcow2", "compressed": True, "source": _source(w, "raw")},
    ),
    Verb(
        "nothing-to-do",
        "disk.qcow2",
        _image("disk.qcow2", "qcow2"),
        lambda w: {"format": "qcow2", "size": "4M", "options": {"cluster_size": "64K"}},
    ),
    Verb("refused", "disk.qcow2", _image("disk.qcow2", "qcow2"), lambda w: {"format": "qcow2", "size": "1M"}),
)
BY_NAME = {verb.name: verb for verb in VERBS + OTHERS}


def made(verb: Verb, world: Path) -> Path:
    """The verb's world, made in the new directory C(world)."""
    world.mkdir()
    verb.prepare(world)
    return world
