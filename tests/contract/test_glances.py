"""What another program only reads for a moment, as udev or a look at the headers of a directory does, is not in use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator, Sequence

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import holders, waiting
from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QEMU, started
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import running

pytestmark = pytest.mark.usefixtures("glance")
READS = "import sys; f = open(sys.argv[1], 'rb'); print(flush=True); sys.stdin.read()"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "image", "raw", "16M")


@pytest.fixture
def glance(image: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program has the image open for reading, until a task has seen it."""
    find, seen = holders.find_holders, []

    def look(paths: Sequence[str]) -> dict[str, list[holders.Holder]]:
        found = find(paths)
        if program.pid in [each.pid for using in found.values() for each in using]:
            seen.append(program.pid)
            program.kill()
            program.wait()
        return found

    with running(sys.executable, "-c", READS, image) as program:
        assert program.stdout and program.stdout.readline()
        monkeypatch.setattr(holders, "find_holders", look)
        # on a busy machine it may be long before it is looked at again
        monkeypatch.setattr(waiting, "_PASSING_SECONDS", 60.0)
        yield
        assert seen


def test_an_export_that_is_written_to(image: Path) -> None:
    name = exports.new_name()
    with exports.cleaned(name):
        made = call("nbd_export", name=name, image=str(image), format="raw", read_only=False)
        assert made["changed"] and not made.get("failed"), made


def test_the_drive_of_a_vm(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    drive = {"id": "d", "image": {"path": str(image), "format": "raw"}, "device": "virtio-blk-pci"}
    made = call("qemu_drive", vm="one", config=str(tmp_path / "vms" / "one"), drives=[drive], validate="none")
    assert made["changed"] and not made.get("failed"), made


def test_an_image_that_grows_by_its_vm(image: Path, tmp_path: Path) -> None:
    grown = {"path": str(image), "format": "raw", "size": "32M", "qmp_socket": str(tmp_path / "qmp")}
    drive = ("-drive", f"if=virtio,file={image},format=raw,file.locking=off")
    with started(tmp_path / "qmp", QEMU, "-m", "32", *drive):
        made = call("disk_image", **grown)
        assert made["changed"] and not made.get("failed"), made
