"""The program of a definition starts a Linux, whose kernel, disk and directories are those that were defined."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.guest import guest_bytes, scribble
from ansible_collections.platter.qemu.tests.lab.initramfs import basis
from ansible_collections.platter.qemu.tests.lab.linux import has_module, kernel
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import listens, running, wait_until
from ansible_collections.platter.qemu.tests.lab.vm import KERNEL_LINE, Guest

Task = t.Dict[str, t.Any]
MIB = 1 << 20
#: not every kernel has it
NINE_P = ("9pnet_virtio", "9p")
#: where distributions have the server of virtiofs
SERVERS = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of this test only; so are the links to all VMs."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    for name in ("vms", "run", "home,1", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "home,1" / "note").write_text("from the host\n")
    (tmp_path / "data" / "note").write_text("from the host too\n")
    return tmp_path


@contextlib.contextmanager
def served(place: Path) -> t.Iterator[t.List[Task]]:
    """The share of a virtiofsd while the block runs; none where the machine has no such program."""
    program = next(filter(os.path.exists, SERVERS), None)
    if program is None:
        yield []
        return
    path = place / "served"
    with running(program, f"--socket-path={path}", "-o", f"source={place / 'data'}", "-o", "sandbox=chroot"):
        wait_until(lambda: listens(path), "virtiofsd listens")
        yield [{"tag": "data", "driver": "virtiofs", "socket": str(path)}]


def mounted(guest: Guest, kind: str, tag: str, options: str) -> str:
    """What the guest reads in a share."""
    return guest.run(f"mount -t {kind} -o {options} {tag} /mnt && cat /mnt/note && umount /mnt")


def linux(place: Path) -> t.Dict[str, str]:
    """The lab's own, with what the kernel has for shares."""
    modules = [name for name in ("virtiofs", *NINE_P) if has_module(name)]
    (place / "initrd").write_bytes(basis(tuple(modules)).content())
    line = KERNEL_LINE + " told='a b,c'"
    return {"kernel": str(kernel()[0]), "initrd": str(place / "initrd"), "append": line}


def test_a_linux_is_started_with_all_that_was_defined(place: Path) -> None:
    image, config = create(place / "a,b 'c'.qcow2", "qcow2", 4 * MIB), place / "vms" / "web1"
    scribble(image, "qcow2")
    digest = hashlib.md5(guest_bytes(image, "qcow2"), usedforsecurity=False).hexdigest()
    drive = {"id": "sys", "image": {"path": str(image), "format": "qcow2"}, "device": "virtio-blk-pci", "serial": "S,1"}
    home = {"tag": "home", "driver": "9p", "path": str(place / "home,1"), "security_model": "none", "read_only": True}
    with served(place) as shares:
        vm = {"drives": [drive], "boot": linux(place), "shares": [home, *shares], "shared_memory": "192M"}
        made = call("qemu_drive", vm="web1", config=str(config), **vm)
        assert made["changed"] and made["validation"]["level"] == "device", made
        guest = Guest(place / "run", (), agent=False, begin=(config / "start", "-accel", "tcg", "-cpu", "qemu64"))
        try:
            guest.boot()
            assert "told='a b,c'" in guest.run("cat /proc/cmdline")
            assert guest.run("cat /sys/block/vda/serial; echo; md5sum </dev/vda").split()[:2] == ["S,1", digest]
            if shares:
                assert mounted(guest, "virtiofs", "data", "rw") == "from the host too\n"
            if all(map(has_module, NINE_P)):
                assert mounted(guest, "9p", "home", "trans=virtio,version=9p2000.L") == "from the host\n"
        finally:
            guest.end()
