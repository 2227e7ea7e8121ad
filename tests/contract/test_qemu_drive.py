"""The drives of a VM as state: what is defined is what the real QEMU starts with, and what it would not take is not written."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import files
from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, snapshot
from ansible_collections.platter.qemu.tests.lab.drive_qemu import started
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, exported

ODD = "a,b=c:d {e}'f\" $HOME.raw"
Drive = dict[str, Any]
COLD = ("-S", "-nodefaults", "-display", "none")


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The links to all VMs, of this test only."""
    path = tmp_path / "registry"
    monkeypatch.setattr(places, "registry", lambda: str(path))
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Some images and a secret."""
    place = tmp_path / "images"
    place.mkdir()
    for name, format in (("a", "qcow2"), ("v", "vmdk"), ("r", "raw"), (ODD, "raw")):
        create(place / name, format, "16M")
    create(place / "floppy", "raw", "1440K")
    return place


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "vms").mkdir()
    return str(tmp_path / "vms" / "web1")


def drive(name: str, path: object, format: str, device: str, **more: Any) -> Drive:
    return {"id": name, "image": {"path": str(path), "format": format}, "device": device, **more}


def many(images: Path) -> list[Drive]:
    return [
        drive("sys", images / "a", "qcow2", "virtio-blk-pci", cache="none", aio="native", bootindex=1, iothread="io1"),
        drive("odd", images / ODD, "raw", "scsi-hd", serial="S,1"),
        drive("cd", images / "r", "raw", "ide-cd"),
        {"id": "tray", "device": "scsi-cd"},
        drive("fd", images / "floppy", "raw", "floppy"),
        drive("slow", images / "v", "vmdk", "virtio-blk-pci", throttle={"iops_total": 77}, copy_on_read=True),
    ]


def files_of(config: str, *words: str) -> list[str]:
    """What a QEMU that is started with the definition has open, by its own answer."""
    asked = {"execute": "query-named-block-nodes", "arguments": {"flat": True}, "id": 1}
    told = [{"execute": "qmp_capabilities"}, asked, {"execute": "quit"}]
    done = subprocess.run(
        [config + "/start", *COLD, "-qmp", "stdio", *words],
        input="\n".join(map(json.dumps, told)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=DEADLINE,
    )
    (answer,) = [each for each in map(json.loads, done.stdout.splitlines()) if each.get("id") == 1]
    return sorted(each["file"] for each in answer["return"] if each["drv"] == "file")


# --- four beats


@pytest.mark.parametrize("style", ["blockdev", "drive_device"])
def test_drives_of_all_kinds_are_those_of_the_vm(images: Path, config: str, style: str) -> None:
    real = four_beats(vm="web1", config=config, drives=many(images), style=style, arguments=["-m", "64"])
    assert real["validation"] == {"level": "device"}
    assert files_of(config) == sorted(str(images / name) for name in ("a", "r", "floppy", "v", ODD))
    modes = {name: stat.S_IMODE(os.stat(f"{config}/{name}").st_mode) for name in os.listdir(config)}
    assert {name: modes[name] for name in ("start", "args", "definition.json", "current")} == {
        "start": 0o700,
        "args": 0o600,
        "definition.json": 0o600,
        "current": 0o700,
    }
    assert Path(config, "args").read_text().split("\0")[:-1] == real["definition"]["args"]
    four_beats(vm="web1", config=config, state="absent")
    assert not os.path.exists(config)


@pytest.mark.parametrize(("style", "more"), [("drive", {}), ("hda", {"lossy": True})])
def test_old_styles(images: Path, config: str, style: str, more: dict[str, Any]) -> None:
    drives = [
        drive("sys", images / "r", "raw", "ide-hd"),
        drive("cd", images / ODD, "raw", "ide-cd", unit=0, bus="ide.1"),
    ]
    real = four_beats(vm="web1", config=config, drives=drives, style=style, **more)
    lost = ["image.format=raw of sys", "image.format=raw of cd"] if more else []
    assert real["definition"].get("lost", []) == lost and len(real.get("warnings", [])) == bool(lost), real
    assert files_of(config, "-m", "64") == sorted([str(images / "r"), str(images / ODD)])


def test_a_chain_that_is_cut_is_not_opened(images: Path, config: str) -> None:
    create(images / "top", "qcow2", "", "", "-b", images / "a", "-F", "qcow2")
    cut = drive("top", images / "top", "qcow2", "virtio-blk-pci")
    cut["image"]["options"] = {"backing": None}
    four_beats(vm="web1", config=config, drives=[cut], validate="open", arguments=["-m", "64"])
    assert files_of(config) == [str(images / "top")]


def test_one_more_one_less_and_one_changed(images: Path, config: str) -> None:
    four_beats(vm="web1", config=config, drives=many(images), arguments=["-m", "64"])
    change = [
        {"id": "odd", "state": "absent"},
        drive("more", images / ODD, "raw", "scsi-hd"),
        drive("cd", images / "r", "raw", "ide-cd", bootindex=2),
    ]
    real = four_beats(vm="web1", config=config, drives=change)
    assert [action.partition(": ")[2] for action in real["actions"]] == ["add more; remove odd; change cd (bootindex)."]
    assert [each["id"] for each in real["definition"]["drives"]] == ["sys", "cd", "tray", "fd", "slow", "more"]
    assert len(files_of(config)) == 5
    purged = four_beats(vm="web1", config=config, drives=change[1:], purge=True)
    assert [each["id"] for each in purged["definition"]["drives"]] == ["more", "cd"]


def test_files_that_somebody_has_changed_are_mended(images: Path, config: str) -> None:
    drives = [drive("a", images / "a", "qcow2", "virtio-blk-pci")]
    options = {"vm": "web1", "config": config, "drives": drives, "validate": "none"}
    four_beats(**options)
    for name in ("start", "args"):
        with open(f"{config}/{name}", "a", encoding="utf-8") as stream:
            stream.write("# more\n")
        assert four_beats(**options)["definition"].get("altered") is None
    os.chmod(f"{config}/start", 0o755)
    four_beats(**options)
    os.unlink(f"{config}/args")
    four_beats(**options)
    Path(config, "current/definition.json").write_text("{}")
    assert refused("definition_unreadable", **options)["evidence"]["path"] == config + "/current/definition.json"


def test_what_is_not_ours_stays(images: Path, config: str) -> None:
    options = {"vm": "web1", "config": config}
    four_beats(drives=[drive("a", images / "a", "qcow2", "virtio-blk-pci")], **options)
    Path(config, "notes").write_text("mine")
    for state in ("present", "absent"):
        assert refused("name_taken", state=state, vm="web2", config=config)["evidence"] == {"vm": "web1"}
    four_beats(state="absent", **options)
    assert os.listdir(config) == ["notes"]
    Path(config, "start").write_text("mine too")
    refused("name_taken", **options)


def test_a_directory_of_others_is_refused(images: Path, config: str) -> None:
    os.chmod(os.path.dirname(config), 0o777)
    refused("unsafe_directory", vm="web1", config=config, drives=[])


def test_a_vm_without_drives(config: str) -> None:
    four_beats(vm="web1", config=config, arguments=["-m", "64"])
    assert files_of(config) == []


# --- what QEMU proves, and that nothing is written for it


def test_images_are_left_as_they_are_beside_a_vm_that_runs(images: Path, config: str, tmp_path: Path) -> None:
    options = {"vm": "web1", "config": config, "arguments": ["-m", "64"]}
    four_beats(drives=many(images)[:-1], watch=[images], **options)  # what is copied on read, the VM itself writes
    change = [dict(each, serial="N-" + each["id"]) for each in many(images)[:2]]
    with started(tmp_path / "monitor", config + "/start"):
        found = snapshot([str(images)])
        four_beats(drives=change, watch=[images], **options)
        assert snapshot([str(images)]) == found


@pytest.mark.parametrize(
    ("level", "said", "wrong"),
    [
        ("syntax", "sheepdog", {"image": {"blockdev": {"driver": "sheepdog", "vdi": "a"}}, "device": "scsi-hd"}),
        (
            "open",
            "actual size",
            {"image": {"path": "r", "format": "raw", "options": {"size": 1 << 30}}, "device": "scsi-hd"},
        ),
        ("device", "sd-bus", {"image": {"path": "r", "format": "raw"}, "device": "sd-card"}),
        ("device", "ide.9", {"image": {"path": "r", "format": "raw"}, "device": "ide-hd", "bus": "ide.9"}),
    ],
)
def test_what_qemu_does_not_take_is_not_written(
    images: Path, config: str, level: str, said: str, wrong: dict[str, Any]
) -> None:
    path = wrong["image"].get("path", "/")
    wrong = dict(wrong, id="bad")
    if not path.startswith("/"):
        wrong["image"] = dict(wrong["image"], path=str(images / path))
    drives = [drive("a", images / ODD, "raw", "virtio-blk-pci"), wrong]
    levels = ["none", "syntax", "open", "device"]
    for each in levels[levels.index(level) :]:
        refusal = refused("validation_failed", vm="web1", config=config, drives=drives, validate=each, watch=[images])
        assert said in refusal["evidence"]["said"], refusal
        assert refusal["evidence"]["drive"] == ("" if level == "device" else "bad")
    assert not os.path.exists(config)
    below = levels[levels.index(level) - 1]
    assert four_beats(vm="web1", config=config, drives=drives, validate=below)["validation"] == {"level": below}


def test_what_a_start_needs_and_is_not_there_is_named(images: Path, config: str, tmp_path: Path) -> None:
    away, one = str(tmp_path / "away"), drive("sys", images / "a", "qcow2", "virtio-blk-pci")
    share = {"tag": "home", "driver": "9p", "path": away, "security_model": "none"}
    hidden = dict(one, encryption={"secret_file": away})
    boot = {"kernel": str(images / "r"), "initrd": away}
    told: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        ("image_missing", {"drive": "sys"}, {"drives": [drive("sys", away, "qcow2", "virtio-blk-pci")]}),
        ("secret_missing", {"object": "sys-secret"}, {"drives": [hidden]}),
        ("share_missing", {"share": "home"}, {"drives": [one], "shares": [share]}),
        ("kernel_missing", {"option": "boot.initrd"}, {"drives": [one], "boot": boot}),
    ]
    for reason, whose, options in told:
        refusal = refused(reason, vm="web1", config=config, validate="open", **options)
        assert refusal["evidence"] == {"path": away, **whose} and "in check mode has not made it" in refusal["msg"]
        assert "validate: none" not in refusal["msg"]
        assert call("qemu_drive", check=True, vm="web1", config=config, validate="syntax", **options)["changed"]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["-mm", "64M"], "-mm: invalid option"), (["--smpp=2"], "--smpp=2: invalid"), (["-smp"], "requires an argument")],
)
def test_options_that_qemu_does_not_have_are_refused(config: str, words: list[str], said: str) -> None:
    options = {"vm": "web1", "config": config, "arguments": ["--m", "64M", "-no-reboot", *words]}
    refusal = refused("validation_failed", validate="syntax", **options)
    assert said in refusal["evidence"]["said"] and "the arguments of VM web1" in refusal["msg"], refusal
    four_beats(validate="none", **options)


def test_without_qemu(images: Path, config: str) -> None:
    options = {"vm": "web1", "config": config, "drives": [drive("a", images / "a", "qcow2", "virtio-blk-pci")]}
    refusal = refused("tool_missing", qemu="/nowhere/qemu", **options)
    assert refusal["evidence"]["qemu"] == "/nowhere/qemu"
    four_beats(qemu="/nowhere/qemu", validate="none", **options)


def test_a_qemu_that_says_nothing_is_not_waited_for(images: Path, config: str, tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    options = {"vm": "web1", "config": config, "qemu": str(silent), "timeout": 1}
    result = call("qemu_drive", drives=[drive("a", images / "a", "qcow2", "virtio-blk-pci")], **options)
    assert (result["reason"], "has not answered for 1 s" in result["msg"]) == ("validation_failed", True), result


def test_an_export_is_opened_and_its_length_known(images: Path, config: str, tmp_path: Path) -> None:
    socket = tmp_path / "nbd"
    server = {"type": "unix", "path": str(socket)}
    export = {"id": "far", "image": {"blockdev": {"driver": "nbd", "server": server}}, "device": "virtio-blk-pci"}
    refused("validation_failed", vm="web1", config=config, drives=[export])
    with exported(images / "r", "raw", socket):
        four_beats(vm="web1", config=config, drives=[export], watch=[images])


def test_pass_through_is_named_as_not_tried(images: Path, config: str) -> None:
    drives = [drive("pass", images / "r", "raw", "scsi-block")]
    real = four_beats(vm="web1", config=config, drives=drives)
    assert real["validation"] == {"level": "device", "no_stand_in": ["pass"]}


def test_bridges_of_ones_own_are_part_of_the_proof(images: Path, config: str) -> None:
    drives = [drive("a", images / "a", "qcow2", "virtio-blk-pci", bus="rp1")]
    refused("validation_failed", vm="web1", config=config, drives=drives, machine="q35")
    arguments = ["-m", "64", "-device", "pcie-root-port,id=rp1,chassis=1"]
    four_beats(vm="web1", config=config, drives=drives, machine="q35", arguments=arguments)
    assert files_of(config) == [str(images / "a")]


def test_directories_above_the_definition_are_made_for_good_and_for_their_owner(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    known = files.fsync_path
    monkeypatch.setattr(files, "fsync_path", lambda path: (written.append(path), known(path)))
    place = tmp_path / "new" / "vms"
    options = {"vm": "web1", "config": str(place / "web1"), "drives": many(images)[1:2], "validate": "none"}
    before = os.umask(0)
    try:
        four_beats(**options)
    finally:
        os.umask(before)
    for made in (place.parent, place, tmp_path / "registry"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o755 and str(made.parent) in written, made
    below_a_file = {**options, "config": str(images / "a" / "x"), "vm": "web2"}
    assert refused("directory_missing", **below_a_file)["evidence"] == {"path": str(images / "a")}
