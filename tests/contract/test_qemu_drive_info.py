"""The drives of VMs from their definitions, from running QEMUs, and from command lines."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import info_facts, places, read_spec
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QEMU, started
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

#: VMs of other tests run meanwhile
NAME = "info-" + secrets.token_hex(4)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Definitions of this test only."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    monkeypatch.setattr(read_spec, "DIRECTORY", str(tmp_path / "vms"))
    create(tmp_path / "a", "qcow2", "16M")
    return tmp_path


def define(place: Path, **more: Any) -> dict[str, Any]:
    drive = {"id": "d", "image": {"path": str(place / "a"), "format": "qcow2"}, "device": "virtio-blk-pci"}
    options = dict({"vm": NAME, "drives": [drive], "validate": "none", "arguments": ["-m", "64"]}, **more)
    result = call("qemu_drive", **options)
    assert not result.get("failed"), result
    return result["definition"]  # type: ignore[no-any-return]


def test_a_definition_is_found_by_its_name_and_by_its_directory(place: Path) -> None:
    assert call("qemu_drive_info", vm=NAME)["definition"] == {"vm": NAME, "state": "absent"}
    made = define(place)
    assert made["config"] == str(place / "vms" / NAME)
    for options in ({"vm": NAME}, {"config": made["config"]}):
        told = call("qemu_drive_info", **options)
        assert (told["definition"], told["processes"], told["changed"]) == (made, [], False)
    far = define(place, vm="web2", config=str(place / "far" / "x"), drives=[])
    assert call("qemu_drive_info", vm="web2")["definition"] == far
    with open(made["config"] + "/args", "a", encoding="utf-8") as stream:
        stream.write("x")
    assert call("qemu_drive_info", vm=NAME)["definition"]["altered"] is True


def test_all_definitions_of_the_host(place: Path) -> None:
    assert call("qemu_drive_info")["definitions"] == []
    define(place)
    define(place, vm="web2", config=str(place / "far" / "x"), drives=[])
    assert [each["vm"] for each in call("qemu_drive_info")["definitions"]] == [NAME, "web2"]
    Path(place, "vms", NAME, "definition.json").write_text("?")
    told = call("qemu_drive_info")
    assert [each["vm"] for each in told["definitions"]] == ["web2"]
    assert "no definition of this collection" in str(told["warnings"])


def test_a_vm_that_runs_is_seen_from_all_sides(place: Path) -> None:
    made = define(place)
    monitor = place / "qmp"
    assert call("qemu_drive_info", qmp_socket=str(monitor))["live"] == {"qmp_socket": str(monitor), "running": False}
    with started(monitor, made["config"] + "/start") as process:
        told = call("qemu_drive_info", vm=NAME, qmp_socket=str(monitor), pid=process.pid)
        assert told["processes"] == [process.pid]
        assert (told["started"]["drives"], told["started"]["vm"]) == (made["drives"], NAME)
        (live,) = told["live"]["drives"]
        expected = {"id": "d", "device": "virtio-blk-pci", "format": "qcow2", "image": str(place / "a")}
        assert {key: live[key] for key in expected} == expected and live["size"] == 16 << 20
        assert (told["live"]["drift"], told["live"]["machine"]) == ([], "pc")
        define(place, vm=NAME, drives=[{"id": "d", "state": "absent"}])
        assert call("qemu_drive_info", vm=NAME, qmp_socket=str(monitor))["live"]["undeclared"] == ["d"]


def test_what_somebody_has_started_becomes_a_definition_without_its_secrets(place: Path) -> None:
    words = ["-M", "q35", "-object", "secret,id=s,data=hidden", "-drive", f"file={place}/a,format=qcow2,if=virtio,id=x"]
    with started(place / "qmp", QEMU, *words) as process:
        told = call("qemu_drive_info", pid=process.pid)["started"]
        assert "hidden" not in str(told) and told["objects"][0]["data"] == "***"
        assert info_facts.hidden('json:{"file.cookie": "a=\\"b", "cookie":"c"}') == (
            'json:{"file.cookie": "***", "cookie":"***"}'
        )
        assert info_facts.hidden({"cookie": "a", "cookie-secret": "s"}) == {"cookie": "***", "cookie-secret": "s"}
        live = call("qemu_drive_info", qmp_socket=str(place / "qmp"))["live"]
        assert [each["image"] for each in live["drives"]] == [str(place / "a")]
        assert "drift" not in live
    made = define(place, vm="old", machine=told["machine"], drives=told["drives"])
    assert made["drives"] == told["drives"]


@pytest.mark.parametrize("pid", [2, 4194305, 1])
def test_a_process_that_is_no_qemu(pid: int) -> None:
    told = call("qemu_drive_info", pid=pid)
    assert (told["failed"], told["reason"], told["evidence"]) == (True, "process_unreadable", {"pid": pid}), told
