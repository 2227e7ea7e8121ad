"""What root starts, and what its VMs open, is nobody else's to put there: looked at in each run."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places, store
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.led import led, place_of_roots, with_data_file
from ansible_collections.platter.qemu.tests.lab.live_qemu import live_qemu
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can give files to others")
NOBODY = 65534
Options = dict[str, Any]


@pytest.fixture(autouse=True)
def vms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where definitions are; with the links to all VMs, of this test only."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    (tmp_path / "i").mkdir()
    return tmp_path / "vms"


def task(config: Path, *drives: Options, **more: Any) -> Options:
    return {"vm": "one", "config": str(config), "drives": list(drives), "validate": "none", **more}


def disk(path: Path, format: str = "raw", **more: Any) -> Options:
    return {"id": "d", "image": {"path": str(path), "format": format}, "device": "virtio-blk-pci", **more}


# --- the definition


def test_a_directory_that_has_come_to_be_others_is_refused_in_every_run(vms: Path) -> None:
    four_beats(**task(vms / "one"))
    for change in (lambda: os.chmod(vms / "one", 0o777), lambda: os.chown(vms / "one", NOBODY, NOBODY)):
        change()
        for state in ("present", "absent"):
            refusal = refused("unsafe_directory", **task(vms / "one"), state=state)
            assert refusal["evidence"]["directory"] == str(vms / "one")
        os.chown(vms / "one", 0, 0)
        os.chmod(vms / "one", 0o700)
    settled(**task(vms / "one"))


@pytest.mark.parametrize("name", ["start", "definition.json", ""])
def test_what_belongs_to_another_user_is_written_anew(vms: Path, name: str) -> None:
    four_beats(**task(vms / "one"))
    os.chown(vms / "one" / "current" / name, NOBODY, NOBODY)
    four_beats(**task(vms / "one"))
    assert (vms / "one" / "current" / name).stat().st_uid == 0
    os.chmod(vms / "one" / "current", 0o777)
    four_beats(**task(vms / "one"))


def test_another_users_link_to_the_directory_is_refused(vms: Path, tmp_path: Path) -> None:
    (vms / "one").mkdir(mode=0o700)
    os.symlink(vms / "one", tmp_path / "link")
    four_beats(**task(tmp_path / "link"))
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    refusal = refused("unsafe_directory", **task(tmp_path / "link"))
    assert refusal["evidence"] == {"directory": str(tmp_path), "owner": NOBODY}


def test_what_is_no_file_does_not_hang_other_tasks(vms: Path) -> None:
    four_beats(**task(vms / "one"))
    (vms / "two" / "current").mkdir(parents=True)
    os.mkfifo(vms / "two" / "current" / "definition.json")
    found: list[Any] = []
    changed = task(vms / "one", arguments=["-S"])
    work = threading.Thread(target=lambda: found.append(refused("definition_unreadable", **changed)), daemon=True)
    work.start()
    work.join(180)
    assert found and found[0]["evidence"] == {"path": str(vms / "two" / "current" / "definition.json")}


def test_a_directory_that_another_user_makes_meanwhile_is_refused(vms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(vms, 0o1777)
    real = store.refuse_unsafe

    def look_and_be_late(config: str) -> None:
        real(config)
        monkeypatch.setattr(store, "refuse_unsafe", real)
        os.mkdir(config, 0o777)
        os.chown(config, NOBODY, NOBODY)

    monkeypatch.setattr(store, "refuse_unsafe", look_and_be_late)
    result = call("qemu_drive", **task(vms / "one"))
    assert (result["failed"], result["reason"]) == (True, "unsafe_directory"), result
    assert os.listdir(vms / "one") == []


# --- images, and what they lead to


def test_an_image_in_another_users_directory_is_refused(vms: Path, tmp_path: Path) -> None:
    own = tmp_path / "i" / "own"
    own.mkdir()
    one = create(own / "one", "raw", "1M")
    for change in (lambda: os.chown(own, NOBODY, 0), lambda: os.chmod(own, 0o777)):
        change()
        assert refused("unsafe_directory", **task(vms / "one", disk(one)))["evidence"]["directory"] == str(own)
        os.chown(own, 0, 0)
        os.chmod(own, 0o755)
    os.chmod(own, 0o1777)
    os.chown(one, NOBODY, 0)
    assert refused("unsafe_directory", **task(vms / "one", disk(one)))["evidence"]["owner"] == NOBODY
    os.chown(one, 0, 0)
    four_beats(**task(vms / "one", disk(one)))


def test_a_share_or_a_kernel_in_another_users_directory_is_refused(vms: Path, tmp_path: Path) -> None:
    own = tmp_path / "i" / "own"
    (own / "tree").mkdir(parents=True)
    (own / "vmlinuz").write_bytes(b"a kernel")
    os.symlink(own / "tree", tmp_path / "i" / "link")
    share = {"tag": "root", "driver": "9p", "path": str(own / "tree"), "security_model": "passthrough"}
    for asked in ({"shares": [share]}, {"boot": {"kernel": str(own / "vmlinuz")}}):
        os.chown(own, NOBODY, 0)
        assert refused("unsafe_directory", **task(vms / "one", **asked))["evidence"]["directory"] == str(own)
        os.chown(own, 0, 0)
        four_beats(**task(vms / "one", **asked))
    os.chown(tmp_path / "i" / "link", NOBODY, 0, follow_symlinks=False)
    asked = {"shares": [{**share, "path": str(tmp_path / "i" / "link")}]}
    assert refused("unsafe_directory", **task(vms / "one", **asked))["evidence"] == {"owner": NOBODY}


def test_another_users_link_to_an_image_is_refused(vms: Path, tmp_path: Path) -> None:
    one = create(tmp_path / "i" / "one", "raw", "1M")
    os.symlink(one, tmp_path / "i" / "link")
    os.chown(tmp_path / "i" / "link", NOBODY, 0, follow_symlinks=False)
    assert refused("unsafe_directory", **task(vms / "one", disk(tmp_path / "i" / "link")))["evidence"] == {
        "owner": NOBODY
    }


def test_an_image_does_not_lead_to_what_its_owner_could_not_open(vms: Path, tmp_path: Path) -> None:
    with place_of_roots() as place:
        for make, name in ((with_data_file, "data"), (led, "disk")):
            image = make(place / name, place / "secret")
            refusal = refused("image_references_file", **task(vms / "one", disk(image, "qcow2"), validate="open"))
            assert refusal["evidence"]["file"] == str(place / "secret")
            image.rename(tmp_path / "i" / name)
        os.rename(tmp_path / "i" / "disk", place / "disk")
        tree = {"driver": "qcow2", "file": {"driver": "file", "filename": str(place / "disk")}}
        below = {"driver": "raw", "file": {"driver": "file", "filename": str(place / "secret")}, "read-only": True}
        meant = {"blockdev": dict(tree, backing=below)}
        four_beats(**task(vms / "one", dict(disk(place / "disk"), image=meant), validate="open"))


def test_an_image_that_leads_there_since_it_was_defined_is_not_plugged_in(vms: Path, tmp_path: Path) -> None:
    with place_of_roots() as place, live_qemu(tmp_path, "-name", "one", machine="pc") as qemu:
        image = create(place / "disk", "qcow2", "1M")
        prepared("qemu_drive", **task(vms / "one", disk(image, "qcow2")))
        led(image, place / "secret")
        running = task(vms / "one", disk(image, "qcow2"), qmp_socket=str(qemu.socket))
        assert refused("image_references_file", **running)["evidence"]["file"] == str(place / "secret")
        assert not qemu.nodes()


def test_an_image_does_not_lead_to_another_host(vms: Path, tmp_path: Path) -> None:
    image = tmp_path / "i" / "top"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "nbd://127.0.0.1:1/x", "-F", "raw", image, "1M")
    refused("backing_protocol_refused", **task(vms / "one", disk(image, "qcow2"), validate="open"))


def test_a_secret_that_others_can_read_or_change_is_refused(vms: Path, tmp_path: Path) -> None:
    image, key = tmp_path / "i" / "one", tmp_path / "i" / "key"
    key.write_bytes(b"secret")
    create(image, "luks", "1M", "key-secret=key,iter-time=10", "--object", f"secret,id=key,file={key}")
    encrypted = task(vms / "one", disk(image, "luks", encryption={"secret_file": str(key)}))
    for mode, owner in ((0o644, 0), (0o620, 0), (0o600, NOBODY)):
        os.chmod(key, mode)
        os.chown(key, owner, 0)
        refused("key_permissions", **encrypted)
    os.chown(key, 0, 0)
    four_beats(**encrypted)
