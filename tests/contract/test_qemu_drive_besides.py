"""What a VM starts with besides drives: shares, a kernel of the host, shared memory; as the real QEMU takes them."""

from __future__ import annotations

import socket
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.drive_qemu import started
from ansible_collections.platter.qemu.tests.lab.linux import kernel
from ansible_collections.platter.qemu.tests.lab.modules import call

Task = t.Dict[str, t.Any]


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A VM that is known to this test only; a directory with a comma in its name, and an initrd."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    for name in ("vms", "home,1"):
        (tmp_path / name).mkdir()
    (tmp_path / "note").write_text("no kernel" * 1000)
    with (tmp_path / "initrd").open("wb") as initrd:
        initrd.truncate(70 << 20)  # more than a VM of 64 MiB takes
    return {"vm": "web1", "config": str(tmp_path / "vms" / "web1"), "qmp_socket": str(tmp_path / "qmp")}


def nine_p(tmp_path: Path, **more: t.Any) -> Task:
    return {"tag": "home", "driver": "9p", "path": str(tmp_path / "home,1"), "security_model": "none", **more}


def boot(tmp_path: Path, **more: t.Any) -> Task:
    return {"kernel": str(kernel()[0]), "initrd": str(tmp_path / "initrd"), "append": "a,b 'c' $d", **more}


def test_a_vm_without_disks_is_started_as_it_is_defined(tmp_path: Path, vm: Task) -> None:
    told = {"shares": [nine_p(tmp_path)], "boot": boot(tmp_path), "shared_memory": "256M", "machine": "q35"}
    real = four_beats(watch=[tmp_path / "home,1"], **vm, **told)
    assert real["validation"] == {"level": "device"}
    with started(tmp_path / "qmp", vm["config"] + "/start") as process:
        words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        assert words[words.index("-append") :][:2] == ["-append", "a,b 'c' $d"]
        known = call("qemu_drive_info", config=vm["config"], pid=process.pid)
        assert known["started"]["shares"] == [dict(nine_p(tmp_path), multidevs="remap")]
        assert (known["started"]["boot"], known["started"]["shared_memory"]) == (told["boot"], 256 << 20)
        assert call("qemu_drive", **vm)["live"]["needs_restart"] == []
        change = {"shares": [nine_p(tmp_path, read_only=True)], "boot": boot(tmp_path, append="quiet")}
        real = four_beats(**vm, **change)
        assert [each["what"] for each in real["live"]["needs_restart"]] == ["share home", "boot"]
        again = call("qemu_drive", **vm)
        assert (again["changed"], again["live"]["needs_restart"]) == (False, real["live"]["needs_restart"])
    with started(tmp_path / "qmp", vm["config"] + "/start"):
        assert call("qemu_drive", **vm)["live"]["needs_restart"] == []
        settled(**vm)


def test_a_server_of_virtiofs_is_left_alone(tmp_path: Path, vm: Task) -> None:
    """It takes one VM, and ends with it."""
    share = {"tag": "data", "driver": "virtiofs", "socket": str(tmp_path / "served")}
    refused("memory_not_shared", shares=[share], arguments=["-m", "64"], **vm)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(share["socket"])
        server.listen()
        server.setblocking(False)
        real = four_beats(shares=[share], shared_memory="64M", **vm)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert real["validation"] == {"level": "device", "no_stand_in": ["data"]}
    other = {"vm": "two", "config": str(tmp_path / "vms" / "two"), "shared_memory": "64M", "validate": "none"}
    (tmp_path / "link").symlink_to(tmp_path)
    same = dict(share, tag="x", socket=str(tmp_path / "link" / "served"))
    refusal = refused("share_claimed", shares=[same], **other)
    assert refusal["evidence"] == {"vm": "web1", "config": vm["config"], "share": "data", "place": share["socket"]}
    refused("share_claimed", shares=[dict(same, tag="y")], **vm)
    four_beats(shares=[dict(same, socket=str(tmp_path / "another"))], **other)
    refused("validation_failed", shares=[dict(share, properties={"colour": "red"})], validate="syntax", **vm)


WRONG: t.List[t.Tuple[str, str, t.Callable[[Path], Task]]] = [
    ("open", "it is no file", lambda place: {"boot": {"kernel": str(place)}}),
    ("open", "Not a directory", lambda place: {"shares": [nine_p(place, path=str(place / "initrd"))]}),
    ("device", "invalid kernel header", lambda place: {"boot": {"kernel": str(place / "note")}}),
    ("device", "pci.7", lambda place: {"shares": [nine_p(place, bus="pci.7")]}),
    ("syntax", "no device virtio-9p-none", lambda place: {"shares": [nine_p(place, device="virtio-9p-none")]}),
]


@pytest.mark.parametrize(("level", "said", "told"), WRONG)
def test_what_qemu_does_not_take_is_not_written(
    tmp_path: Path, vm: Task, level: str, said: str, told: t.Callable[[Path], Task]
) -> None:
    refusal = refused("validation_failed", validate=level, **vm, **told(tmp_path))
    assert said in refusal["evidence"]["said"] and not Path(vm["config"]).exists(), refusal
