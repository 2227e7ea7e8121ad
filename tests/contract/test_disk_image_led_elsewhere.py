"""Images whose headers lead to another host: nobody is spoken to, neither to carry out a task nor to find out about it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import digest, four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB, guest_bytes
from ansible_collections.platter.qemu.tests.lab.headers import descriptor, qcow2, vmdk
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img


@pytest.fixture
def spy(tmp_path: Path) -> Iterator[str]:
    """The address of a server that nobody may speak to."""
    path = tmp_path / "spy"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield f"nbd+unix:///?socket={path}"
        listening.setblocking(False)
        with contextlib.suppress(BlockingIOError), listening.accept()[0]:
            pytest.fail("the server was spoken to")


def of_its_own(where: Path, target: str) -> dict[str, Any]:
    """An image with that data file."""
    path = where / "disk.qcow2"
    path.write_bytes(qcow2(data_file=target))
    return {"path": str(path), "format": "qcow2"}


def below(where: Path, target: str) -> dict[str, Any]:
    """An overlay on such an image."""
    base = of_its_own(where, target)["path"]
    path = create(where / "top.qcow2", "qcow2", "1M", "", "-u", "-b", base, "-F", "qcow2")
    return {"path": str(path), "format": "qcow2"}


def in_extents(where: Path, target: str) -> dict[str, Any]:
    """A VMDK with that extent."""
    path = where / "disk.vmdk"
    path.write_bytes(descriptor(f'RW 2048 FLAT "{target}" 0', create_type="monolithicFlat"))
    return {"path": str(path), "format": "vmdk", "allow_rewrite": True}


def in_a_json_name(where: Path, target: str) -> dict[str, Any]:
    """An overlay on an innocent image, which is given a base by the name that it has here."""
    base = create(where / "base.qcow2", "qcow2", "1M")
    below = {"driver": "raw", "file": {"driver": "nbd", "server.type": "unix", "server.path": target.partition("=")[2]}}
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(base)}, "backing": below}
    path = create(where / "top.qcow2", "qcow2", "1M", "", "-u", "-b", "json:" + json.dumps(node), "-F", "qcow2")
    return {"path": str(path), "format": "qcow2"}


Making = Callable[[Path, str], "dict[str, Any]"]
SMALLER = {"size": "512K", "allow_shrink": True}
LED: list[tuple[Making, dict[str, Any], str]] = [
    (of_its_own, {"repair": "all"}, "relative_data_file"),
    (of_its_own, SMALLER, "relative_data_file"),
    (below, {"repair": "leaks"}, "backing_protocol_refused"),
    (below, SMALLER, "backing_protocol_refused"),
    (below, {"size": "2M"}, "backing_protocol_refused"),
    (below, {"flatten": True}, "backing_protocol_refused"),
    (in_a_json_name, {"flatten": True}, "backing_protocol_refused"),
    (in_extents, SMALLER, "image_references_file"),
]


@pytest.mark.parametrize(("make", "task", "reason"), LED)
def test_nobody_is_led_to_another_host(
    tmp_path: Path, spy: str, make: Making, task: dict[str, Any], reason: str
) -> None:
    refused(reason, **make(tmp_path, spy), **task)


def test_a_base_by_a_json_name_of_its_file_is_worked_on_as_ever(tmp_path: Path) -> None:
    """As QEMU and libvirt write it."""
    base = create(tmp_path / "base.qcow2", "qcow2", "1000K")
    for node in ({"driver": "qcow2"}, {}):
        name = "json:" + json.dumps({**node, "file": {"driver": "file", "filename": str(base)}})
        path = create(tmp_path / f"top{len(node)}", "qcow2", "1000K", "", "-u", "-b", name, "-F", "qcow2")
        settled(path=str(path), format="qcow2", size="1000K")
        four_beats(path=str(path), format="qcow2", size="2M")
        four_beats(path=str(path), format="qcow2", flatten=True)


def chain_of(path: Path) -> list[str]:
    told = call("disk_image_info", paths=[str(path)], backing_chain=True)["images"][0]
    return [link["path"] for link in told["backing_chain"]]


@pytest.mark.parametrize("change", [{"flatten": True}, {"size": "2M"}, {"repair": "all"}], ids=str)
def test_what_a_guest_has_written_into_a_raw_base_is_no_header(tmp_path: Path, change: dict[str, Any]) -> None:
    """Overlays as QEMU made them without a format: it guesses. All it takes to mend one is a task that names it."""
    base, path, secret = tmp_path / "base.raw", tmp_path / "old.qcow2", tmp_path / "secret"
    secret.write_bytes(b"root's own" * 6554)
    prepared("disk_image", path=str(base), format="raw", size="1M")
    base.write_bytes(qcow2(backing=str(secret), backing_format="raw").ljust(1 * MIB, b"\0"))
    path.write_bytes(qcow2(backing=str(base)))
    task = {"path": str(path), "format": "qcow2"}
    assert refused("backing_format_missing", **task, **change)["evidence"]["chain"].count(str(base))
    assert chain_of(path) == [str(path), str(base)]
    named = {"backing": {"path": str(base), "format": "raw"}, "allow_nested_header": True}
    if "size" not in change:
        four_beats(**task, **named)
        named = {}
    seen = digest(base)
    prepared("disk_image", **task, **named, **change)
    assert guest_bytes(path, "qcow2")[:MIB] == base.read_bytes()
    assert digest(base) == seen


def test_a_guessed_base_further_below_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(qcow2())
    (tmp_path / "middle").write_bytes(qcow2(backing=str(tmp_path / "base")))
    (tmp_path / "top").write_bytes(qcow2(backing=str(tmp_path / "middle"), backing_format="qcow2"))
    task = {"path": str(tmp_path / "top"), "format": "qcow2", "flatten": True}
    refused("backing_format_missing", **task)
    qemu_img("rebase", "-q", "-u", "-f", "qcow2", "-b", tmp_path / "base", "-F", "qcow2", tmp_path / "middle")
    four_beats(**task)


def test_an_extent_that_is_a_descriptor_itself_is_not_followed(tmp_path: Path) -> None:
    """QEMU does so where a sparse extent says that it has no capacity."""
    secret, whole, inner = tmp_path / "secret", tmp_path / "d.vmdk", tmp_path / "d-s001.vmdk"
    secret.write_bytes(b"root's own" * 104858)
    create_type = "twoGbMaxExtentSparse"
    whole.write_bytes(descriptor('RW 2048 SPARSE "d-s001.vmdk"', create_type=create_type))
    inner.write_bytes(vmdk(text=descriptor(f'RW 2048 FLAT "{secret}" 0', create_type="monolithicFlat"), capacity=0))
    task = {"path": str(whole), "format": "qcow2", "current_format": "vmdk", "allow_rewrite": True}
    refused("image_references_file", **task)
    source = {"path": str(whole), "format": "vmdk", "trusted": True}
    refused("image_references_file", path=str(tmp_path / "new"), format="qcow2", source=source)
    over = create(tmp_path / "over.qcow2", "qcow2", "1M", "", "-u", "-b", whole, "-F", "vmdk")
    refused("image_references_file", path=str(over), format="qcow2", flatten=True)
    told = call("disk_image_info", paths=[str(whole)], map=True)["images"][0]["map"]
    assert told["reason"] == "image_references_file", told


def test_a_relative_data_file_below_is_refused(tmp_path: Path) -> None:
    refused("relative_data_file", **below(tmp_path, "data"), size="2M")


def test_features_below_that_are_not_known_are_refused(tmp_path: Path) -> None:
    task = below(tmp_path, "/dev/null")
    (tmp_path / "disk.qcow2").write_bytes(qcow2(incompatible=1 << 40))
    refused("unknown_features", **task, size="2M")


def test_a_new_base_leads_nowhere_either(tmp_path: Path, spy: str) -> None:
    """Only its name is needed for a new overlay, and for a reference that is changed without a look."""
    base = {"path": below(tmp_path, spy)["path"], "format": "qcow2"}
    overlay = {"path": str(tmp_path / "overlay"), "format": "qcow2"}
    create(Path(overlay["path"]), "qcow2", "1M")
    refused("backing_protocol_refused", **overlay, backing=base)
    assert call("disk_image", **overlay, backing={**base, "rebase": "unsafe"})["changed"]
    assert call("disk_image", **{**overlay, "path": str(tmp_path / "new")}, backing=base)["changed"]


@pytest.mark.parametrize("task", [{"repair": "leaks"}, SMALLER])
def test_root_opens_nothing_by_its_name_to_find_out(tmp_path: Path, task: dict[str, Any]) -> None:
    """Who owns the directory could give the name to another image, after our look at its header."""
    directory = tmp_path / "user"
    directory.mkdir()
    disk = create(directory / "disk", "qcow2", 1 * MIB)
    os.chown(directory, 1234, 1234)
    result = refused("unsafe_directory", path=str(disk), format="qcow2", **task)
    assert result["evidence"] == {"directory": str(directory), "owner": 1234}
    os.chown(directory, 0, 0)
    qemu_img("resize", "-q", "--shrink", disk, "512K")
    settled(path=str(disk), format="qcow2", **task)
