"""The same drives in every style are the same drives for the real QEMU, and it knows of them what was asked."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import facts, parse_arguments, read_spec, styles
from ansible_collections.platter.qemu.tests.lab.drive_qemu import ask
from ansible_collections.platter.qemu.tests.lab.oracle import create

Task = t.Dict[str, t.Any]
ODD = "a,b=c:d {e}'f\".raw"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images of several formats, and a secret."""
    place = tmp_path_factory.mktemp("images")
    for name, format in (
        ("a", "qcow2"),
        ("b", "qcow2"),
        ("v", "vmdk"),
        ("r", "raw"),
        ("s", "raw"),
        ("n", "raw"),
        ("u", "raw"),
    ):
        create(place / name, format, "16M")
    create(place / "floppy", "raw", "1440K")
    create(place / ODD, "raw", "16M")
    (place / "overlay.base").touch()
    create(place / "base", "qcow2", "16M")
    return place


def everything(place: Path) -> t.List[Task]:
    """One drive of each kind, with each setting somewhere."""

    def drive(key: str, name: str, format: str, device: str, **more: t.Any) -> Task:
        return dict(more, id=key, image={"path": str(place / name), "format": format}, device=device)

    return [
        drive("sys", "a", "qcow2", "virtio-blk-pci", cache="none", aio="native", discard="unmap", detect_zeroes="unmap")
        | {"bootindex": 1, "queues": 2, "queue_size": 128, "iothread": "io1", "l2_cache_size": "1M", "serial": "S,1"},
        drive("disk", "r", "raw", "scsi-hd", wwn="0x5000c50015ea71ad", rotation_rate=1, rerror="stop", werror="enospc"),
        drive("ro", "v", "vmdk", "scsi-hd", read_only=True, physical_block_size=4096, share_rw=True),
        drive("old", ODD, "raw", "ide-hd", cache="writethrough", locking="on"),
        drive("cd", "s", "raw", "ide-cd"),
        {"id": "tray", "device": "scsi-cd"},
        drive("a", "floppy", "raw", "floppy"),
        drive("nv", "n", "raw", "nvme", serial="N1", cache="unsafe"),
        drive("stick", "u", "raw", "usb-storage", properties={"removable": True}),
        drive("slow", "b", "qcow2", "virtio-blk-pci", throttle={"iops_total": 77}, copy_on_read=True),
    ]


def known(words: t.List[str], machine: str) -> t.List[t.Tuple[t.Any, ...]]:
    """The nodes QEMU has made, filters left out, and what it says of each."""
    (nodes,) = ask(words, [("query-named-block-nodes", {"flat": True})], machine)
    keys = ("drv", "file", "ro", "detect_zeroes")
    found = [
        (*tuple(str(node[key]) for key in keys), node["cache"]["direct"], node["cache"]["no-flush"])
        for node in nodes
        if node["drv"] not in ("throttle", "copy-on-read")
    ]
    return sorted(found)


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_every_style_is_taken_and_makes_the_same_nodes(images: Path, machine: str) -> None:
    spec = read_spec.read(everything(images), machine)
    lines = {
        (style, form): styles.render(spec, style, form=form).words
        for style, form in (("blockdev", "json"), ("blockdev", "keys"), ("drive_device", "json"))
    }
    for words in lines.values():
        assert parse_arguments.parse(words, machine).spec == spec
    first, *others = [known(words, machine) for words in lines.values()]
    assert all(other == first for other in others)
    assert len(first) == 2 * 9
    assert ("qcow2", str(images / "a"), "False", "unmap", True, False) in first
    assert ("vmdk", str(images / "v"), "True", "off", False, False) in first
    assert ("file", str(images / "n"), "False", "off", False, True) in first


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_what_the_machine_makes_is_where_it_was_asked_for(images: Path, machine: str) -> None:
    kinds = ("virtio-blk-pci", "ide-hd", "ide-cd", "floppy")
    drives = [
        {key: each[key] for key in ("id", "image", "device", "cache") if key in each} for each in everything(images)
    ]
    spec = read_spec.read([each for each in drives if each["device"] in kinds], machine)
    written = styles.render(spec, "drive")
    found = ask(written.words, [("query-block", {})], machine)[0]
    assert [each["device"] for each in found] == ["sys", "old", "cd", "a", "slow"]
    again = read_spec.read(facts.of_spec(parse_arguments.parse(written.words, machine).spec))
    assert known(styles.render(again, "drive_device").words, machine) == known(written.words, machine)
    assert known(written.words, machine) == known(styles.render(spec, "blockdev").words, machine)


def test_settings_reach_the_device(images: Path) -> None:
    spec = read_spec.read(everything(images), "q35")
    paths = ["/machine/peripheral/%s" % name for name in ("sys", "disk", "old", "slow")]
    properties = (("serial", 0), ("num-queues", 0), ("wwn", 1), ("rotation_rate", 1), ("write-cache", 2), ("drive", 3))
    wanted = ["S,1", 2, 0x5000C50015EA71AD, 1, "off", "slow"]
    for style in ("blockdev", "drive_device"):
        questions = [("qom-get", {"path": paths[number], "property": name}) for name, number in properties]
        assert ask(styles.render(spec, style).words, questions, "q35") == wanted


def test_limits_hold_in_every_style(images: Path) -> None:
    spec = read_spec.read(everything(images), "q35")
    group = ask(
        styles.render(spec, "blockdev").words, [("qom-get", {"path": "/objects/slow", "property": "limits"})], "q35"
    )
    assert group[0]["iops-total"] == 77
    blocks = ask(styles.render(spec, "drive_device").words, [("query-block", {})], "q35")[0]
    assert [each["inserted"]["iops"] for each in blocks if each["device"] == "slow"] == [77]


def test_qmp_commands_plug_what_can_be_plugged(images: Path) -> None:
    hot = [each for each in everything(images) if each["device"] not in ("floppy", "ide-hd", "ide-cd")]
    spec = read_spec.read(hot, "pc")
    commands = [(each["execute"], each["arguments"]) for each in styles.render(spec, "qmp").words]
    answers = ask([], [*commands, ("query-block", {})], "pc")
    assert answers[:-1] == [{}] * len(commands)
    assert len(answers[-1]) == len(hot)


def test_a_base_that_two_share_is_one_node(images: Path) -> None:
    nodes = [{"driver": "qcow2", "node-name": "shared", "read-only": True, "file": "bytes"}]
    nodes.append({"driver": "file", "node-name": "bytes", "filename": str(images / "base"), "read-only": True})
    drives = [
        {
            "id": name,
            "device": "virtio-blk-pci",
            "image": {
                "blockdev": {
                    "driver": "qcow2",
                    "file": {"driver": "file", "filename": str(images / name)},
                    "backing": "shared",
                }
            },
        }
        for name in ("a", "b")
    ]
    spec = read_spec.read({"nodes": nodes, "drives": drives})
    for form in ("json", "keys"):
        words = styles.render(spec, "blockdev", form=form).words
        assert parse_arguments.parse(words).spec == spec
        (found,) = ask(words, [("query-named-block-nodes", {"flat": True})])
        assert sorted(each["node-name"] for each in found if not each["node-name"].startswith("#")) == [
            "a",
            "b",
            "bytes",
            "shared",
        ]
