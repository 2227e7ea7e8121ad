"""A disk with snapshots, what it held at each of them, and QEMU's own programs to tell whether that is still so."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.platter.qemu.tests.lab import beats
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, check, filename, qemu_io
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img

Result = dict[str, Any]


def held(path: object, format: str = "qcow2", snapshot: str = "") -> str:
    """SHA-256 of what a guest reads of the image, or of an internal snapshot in it (up to the size of now)."""
    chosen = ["-l", f"snapshot.name={snapshot}"] if snapshot else []
    with tempfile.TemporaryDirectory() as directory:
        raw = Path(directory) / "raw"
        qemu_img("convert", "-U", *chosen, "-O", "raw", filename(path, format), raw)
        return hashlib.sha256(raw.read_bytes()).hexdigest()


def names_in(path: Path) -> list[str]:
    """The internal snapshots of an image by qemu-img's account."""
    return [each["name"] for each in info(path, "qcow2").get("snapshots", [])]


@dataclass
class Disk:
    """C(image): the name that tasks use; C(active): the file the guest writes to; C(then): what it held, by snapshot."""

    image: Path
    kind: str = "internal"
    switch: str = "none"
    format: str = "qcow2"
    active: Path = Path()
    then: dict[str, str] = field(default_factory=dict)
    result: Result = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def task(self, **options: Any) -> dict[str, Any]:
        """The options of a task about this disk."""
        own: dict[str, Any] = {"image": str(self.image), "format": self.format, "kind": self.kind}
        if self.switch != "none":
            own["switch"] = self.switch
        return {**own, **self.more, **options}

    def write(self, byte: int, offset: int = 0, length: int = 64 * KIB) -> None:
        """As the guest does."""
        qemu_io(self.active, self.active_format, f"write -q -P {byte} {offset} {length}")

    @property
    def active_format(self) -> str:
        """Overlays are qcow2 whatever is below them."""
        return self.format if self.active.resolve() == self.image.resolve() and not self.then else "qcow2"

    def now(self) -> str:
        """What the guest sees."""
        return held(self.active, self.active_format)

    def beats(self, **options: Any) -> Result:
        """The four beats of a task that changes something."""
        self.result = beats.four_beats(**self.task(**options))
        self.active = Path(self.result["snapshot"]["active"])
        return self.result

    def take(self, name: str) -> Result:
        """Four beats of a new snapshot."""
        seen = self.now()
        result = self.beats(name=name)
        self.then[name] = seen
        return result

    def refuses(self, reason: str, **options: Any) -> Result:
        """The same refusal with and without check mode."""
        return beats.refused(reason, **self.task(**options))

    def settled(self, **options: Any) -> None:
        """Nothing is done."""
        beats.settled(**self.task(**options))

    def points(self) -> dict[str, Path | None]:
        """The snapshots that the last result names, with their files."""
        found = self.result["snapshot"]["snapshots"]
        return {each["name"]: Path(each["path"]) if "path" in each else None for each in found}

    def points_now(self) -> dict[str, Path | None]:
        """The same, looked at again."""
        self.result = call("image_snapshot", check=True, **self.task(name="no such", state="absent"))
        return self.points()

    def sound(self, *names: str) -> None:
        """These snapshots are there, hold what they held, and nothing is leaked or damaged."""
        found = self.points()
        assert list(found) == list(names), found
        for name, path in found.items():
            seen = held(path, format_of(path)) if path else held(self.active, "qcow2", name)
            assert seen == self.then[name], name
        for path in {self.active, *(each for each in found.values() if each)}:
            if format_of(path) == "qcow2":
                assert not check(path, "qcow2").keys() & {"leaks", "corruptions"}
        if self.kind == "internal":
            assert names_in(self.active) == list(names)


def format_of(path: Path) -> str:
    """Of the files that these tests make, which are qcow2 or raw."""
    return "qcow2" if path.read_bytes()[:4] == b"QFI\xfb" else "raw"


def disk(directory: Path, kind: str = "internal", switch: str = "none", size: str = "1M", **more: Any) -> Disk:
    """A new disk in a directory of its own, written to once. C(options): of its image; C(format): raw or qcow2."""
    format, options = more.pop("format", "qcow2"), more.pop("options", "")
    place = directory / "images"
    place.mkdir(exist_ok=True)
    image = place / f"web1.{format}"
    if switch == "symlink":
        file = create(place / f"web1-disk.{format}", format, size, options)
        image.symlink_to(more.pop("link", file))
    else:
        file = create(image, format, size, options)
    made = Disk(image, kind, switch, format, file, more=more)
    made.write(1)
    made.write(2, MIB // 2)
    return made


def backing_name(path: Path) -> str | None:
    """The backing file as the overlay's header names it."""
    return json.loads(qemu_img("info", "--output=json", filename(path, "qcow2"))).get("backing-filename")
