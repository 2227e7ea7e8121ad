"""The first file system of a VM without disks: made whole, the same each time, and a guest of it gets to its root."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab import diskless
from ansible_collections.platter.qemu.tests.lab.linux import kernel
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.patterns import files_of

Task = t.Dict[str, t.Any]
VIRTIOFS: Task = {"type": "virtiofs", "source": "root"}
NFS: Task = {"type": "nfs", "source": "192.0.2.1:/srv/it's $(web1)"}


@pytest.fixture
def asked(tmp_path: Path) -> Task:
    (tmp_path / "own").mkdir(mode=0o700)
    return {"path": str(tmp_path / "own" / "i"), "root": VIRTIOFS, "modules_directory": str(kernel()[1])}


def four_beats(**options: t.Any) -> Task:
    """Check, real, again, again in check mode; three of them write nothing."""
    place = Path(options["path"]).parent
    before = files_of(place)
    checked = call("initramfs_image", check=True, **options)
    assert checked["changed"] and files_of(place) == before, checked
    real = call("initramfs_image", **options)
    told = ("changed", "actions", "diff", "initramfs")
    assert [real[key] for key in told] == [checked[key] for key in told]
    there = files_of(place)
    for check in (False, True):
        again = call("initramfs_image", check=check, **options)
        assert (again["changed"], again["actions"], again.get("failed")) == (False, [], None), again
    assert files_of(place) == there
    return real


def refused(reason: str, **options: t.Any) -> Task:
    place = Path(options["path"]).parent
    before = files_of(place)
    results = [call("initramfs_image", check=check, **options) for check in (True, False)]
    assert [each.get("reason") for each in results] == [reason, reason], results
    assert files_of(place) == before
    return results[1]


def unpacked(image: str, directory: Path) -> Path:
    """By another program than ours."""
    directory.mkdir()
    with open(image, "rb") as content:
        subprocess.run(["busybox", "cpio", "-id"], stdin=content, cwd=directory, check=True, capture_output=True)
    return directory


@pytest.mark.parametrize("root", (VIRTIOFS, NFS), ids=lambda root: root["type"])
def test_it_holds_what_the_root_needs_and_a_program_for_it(asked: Task, tmp_path: Path, root: Task) -> None:
    made = four_beats(**{**asked, "root": root})
    inside = unpacked(asked["path"], tmp_path / "inside")
    assert os.access(inside / "init", os.X_OK)
    subprocess.run(["busybox", "sh", "-n", inside / "init"], check=True)
    order = (inside / "modules/order").read_text().split()
    assert order == made["modules"] and {"virtiofs": "virtiofs", "nfs": "nfsv4"}[root["type"]] in order
    assert all((inside / f"modules/{name}.ko").read_bytes()[:4] == b"\x7fELF" for name in order)
    assert (inside / "bin/busybox").read_bytes() == Path(str(shutil.which("busybox"))).read_bytes()


def test_another_root_makes_it_anew_and_absent_removes_it(asked: Task) -> None:
    assert call("initramfs_image", **asked)["changed"]
    assert four_beats(**{**asked, "root": NFS})["actions"][0].startswith("Make anew ")
    gone = {"path": asked["path"], "state": "absent"}
    assert four_beats(**gone)["actions"] == [f"Remove {asked['path']}."]


def test_a_file_of_somebody_else_stays(asked: Task) -> None:
    Path(asked["path"]).write_bytes(b"070701 a letter" * 100)
    refused("initramfs_foreign", **asked)
    refused("initramfs_foreign", path=asked["path"], state="absent")


def test_what_others_could_exchange_is_not_made(asked: Task) -> None:
    Path(asked["path"]).parent.chmod(0o777)
    refused("unsafe_directory", **asked)


def test_what_is_missing_is_named(asked: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused("modules_missing", **asked, modules=["no_such"])["evidence"] == {"modules": ["no_such"]}
    told = refused("modules_missing", **{**asked, "modules_directory": str(tmp_path)})
    assert all(str(path.parent) in told["msg"] for path in Path("/lib/modules").glob("*/modules.dep"))
    refused("directory_missing", **{**asked, "path": str(tmp_path / "none" / "i")})
    told = refused("tool_missing", **{**asked, "root": _without(monkeypatch, tmp_path)})
    assert told["evidence"] == {"programs": ["mdadm"]}


def _without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Task:
    """A root over NBD, on a host that has busybox only."""
    (tmp_path / "bin").mkdir()
    for name in ("busybox", "ldd", "sh", "bash", "setpriv", "prlimit"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("ansible_collections.platter.qemu.plugins.module_utils._initramfs.observe._ALSO_IN", "/none")
    legs = ["nbd://192.0.2.1/a", "nbd://192.0.2.2/a"]
    return {"type": "nbd_raid", "uuid": str(diskless.ARRAY), "legs": legs}


def test_a_guest_boots_from_a_directory_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """virtiofs, as every kernel has it."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    tree, vm = diskless.plant(tmp_path / "tree"), diskless.Diskless(tmp_path, ("virtiofs",))
    with diskless.virtiofs(tree, tmp_path / "served") as share:
        assert vm.make(VIRTIOFS, network={"address": "dhcp"})["changed"]
        with vm.booted(shares=[share], shared_memory="256M") as guest:
            assert vm.answer().startswith("root / virtiofs rw")
            guest.run("echo from the guest >/note; sync; ls /sys/block; [ ! -e /modules ]")
            assert (tree / "note").read_text() == "from the guest\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's task reads what that user can read")
def test_modules_of_another_user_lead_to_no_file_of_the_host(asked: Task, tmp_path: Path) -> None:
    theirs, secret = tmp_path / "6.1-theirs", tmp_path / "own" / "secret"
    secret.write_text("root's alone")
    theirs.mkdir()
    (theirs / "modules.dep").write_text("virtiofs.ko:\n")
    (theirs / "virtiofs.ko").symlink_to(secret)
    os.chown(theirs, 1234, 1234)
    told = refused("unsafe_directory", **{**asked, "modules_directory": str(theirs)})
    assert f"{theirs} (owner 1234" in told["msg"]
    os.chown(theirs, 0, 0)
    assert call("initramfs_image", **{**asked, "modules_directory": str(theirs)})["changed"]
