"""Our NBD client sees what libnbd and QEMU see, with each server, and reads what is there."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_protocol
from ansible_collections.platter.qemu.plugins.module_utils._core.errors import NbdError
from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address
from ansible_collections.platter.qemu.plugins.module_utils._tools.nbd_client import NbdClient
from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB
from ansible_collections.platter.qemu.tests.lab.nbd import SERVERS, Served, nbdinfo, serving, tcp, unix
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, listens, wait_until


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """4 MiB that differ everywhere but in a hole."""
    path = tmp_path / "image"
    path.write_bytes(os.urandom(MIB))
    os.truncate(path, 3 * MIB)
    with path.open("ab") as stream:
        stream.write(os.urandom(MIB))
    return path


@pytest.mark.parametrize("where", [unix, lambda _path: tcp()], ids=["unix", "tcp"])
@pytest.mark.parametrize("server", SERVERS)
def test_it_sees_what_libnbd_sees(tmp_path: Path, image: Path, server: str, where: Callable[[Path], Address]) -> None:
    address = where(tmp_path)
    with serving(server, Served(image), address):
        (seen,) = nbdinfo(str(address))["exports"]
        with NbdClient(address) as client:
            listed, export, contexts = client.exports(), client.info("disk"), client.contexts("disk")
        assert [each.name for each in listed] == [
            each["export-name"] for each in nbdinfo(str(address), "--list")["exports"]
        ]
        assert (export.name, export.size, contexts) == ("disk", 4 * MIB, tuple(sorted(seen["contexts"])))
        assert _flags(export.flags) == _flags_of_libnbd(seen)
        sizes = [seen.get(f"block_size_{which}") for which in ("minimum", "preferred", "maximum")]
        found = export.block_size
        assert [found and found.minimum, found and found.preferred, found and found.maximum] == sizes


def _flags(flags: int) -> dict[str, bool]:
    return nbd_protocol.flag_facts(flags)


def _flags_of_libnbd(seen: dict[str, Any]) -> dict[str, bool]:
    names = {name: name if name.startswith("can_") else f"is_{name}" for name in nbd_protocol.flag_facts(0)}
    return {name: bool(seen.get(theirs, False)) for name, theirs in names.items()}


@pytest.mark.parametrize("server", SERVERS)
def test_it_reads_what_is_there(tmp_path: Path, image: Path, server: str) -> None:
    address, content = unix(tmp_path), image.read_bytes()
    with serving(server, Served(image), address), NbdClient(address) as client:
        reader = client.open("disk")
        assert reader.length == len(content)
        for offset, size in ((0, 512), (1, 1), (MIB - 100, 200), (3 * MIB - 5, 9), (4 * MIB - 3, 99), (4 * MIB, 1)):
            assert reader.read(offset, size) == content[offset : offset + size]
        assert reader.read(0, 8 * MIB) == content


def test_it_reads_in_the_blocks_of_the_server(tmp_path: Path, image: Path) -> None:
    address, content = unix(tmp_path), image.read_bytes()
    policy = ("--filter=blocksize-policy",)
    last = (
        "blocksize-minimum=4096",
        "blocksize-preferred=4096",
        "blocksize-maximum=65536",
        "blocksize-error-policy=error",
    )
    with serving("nbdkit", Served(image, more=policy, last=last), address), NbdClient(address) as client:
        reader = client.open("disk")
        assert reader.export.block_size == nbd_protocol.BlockSize(4096, 4096, 64 * KIB)
        assert reader.read(4095, 2) == content[4095:4097]
        assert reader.read(10, MIB) == content[10 : MIB + 10]


@pytest.fixture
def bitmapped(tmp_path: Path) -> Iterator[Address]:
    path, address = create(tmp_path / "image.qcow2", "qcow2", "64M"), unix(tmp_path, "Größe, 1")
    qemu_img("bitmap", "--add", path, "b0")
    qemu_img("bitmap", "--add", path, "b1")
    more = ("-B", "b0", "-B", "b1", "-A", "-D", "The disk of «web1»")
    with serving("qemu-nbd", Served(path, "qcow2", "Größe, 1", writable=True, more=more), address):
        yield address


def test_contexts_and_descriptions(bitmapped: Address) -> None:
    with NbdClient(bitmapped) as client:
        assert client.exports() == [nbd_protocol.Listed("Größe, 1", "The disk of «web1»")]
        assert client.contexts("Größe, 1") == (
            "base:allocation",
            "qemu:allocation-depth",
            "qemu:dirty-bitmap:b0",
            "qemu:dirty-bitmap:b1",
        )
        export = client.info("Größe, 1")
        assert (export.description, export.canonical_name) == ("The disk of «web1»", "Größe, 1")
        assert not _flags(export.flags)["read_only"]


def test_many_exports(tmp_path: Path) -> None:
    names = sorted(f"disk{number}" for number in range(500))
    plugin = ("memory", "1M", *(f"exportname={name}" for name in names), "exportname-list=explicit")
    served = Served(tmp_path, plugin=plugin, more=("--filter=exportname",))
    with serving("nbdkit", served, unix(tmp_path)), NbdClient(unix(tmp_path)) as client:
        assert sorted(each.name for each in client.exports()) == names
        assert {client.info(name).size for name in names} == {MIB}


def test_a_missing_export_is_told_from_a_missing_server(tmp_path: Path, image: Path) -> None:
    address = unix(tmp_path)
    with serving("qemu-nbd", Served(image), address), NbdClient(address) as client:
        assert _reason(lambda: client.info("other")) == "export_missing"
        assert client.info("disk").size == 4 * MIB, "one no does not end the conversation"
    for gone in (address, tcp(), unix(tmp_path / "nowhere"), Address(host="no-such-host.invalid")):
        assert _reason(lambda gone=gone: NbdClient(gone)) == "place_unreachable"


def test_each_address_of_a_host_is_tried(image: Path) -> None:
    """C(localhost) is ::1 too, where nobody is."""
    address = tcp()
    with serving("qemu-nbd", Served(image), address), NbdClient(replace(address, host="localhost")) as client:
        assert client.info("disk").size == 4 * MIB


def _reason(act: Callable[[], object]) -> str:
    with pytest.raises(NbdError) as raised:
        act()
    return raised.value.reason


def test_asking_is_not_using(tmp_path: Path, image: Path) -> None:
    """A qemu-nbd that ends with its last client (no C(-t)) is there after questions, and gone after a read."""
    address = unix(tmp_path)
    command = ["qemu-nbd", "-f", "raw", "-r", "-x", "disk", "-k", address.socket, str(image)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: listens(address.socket), "qemu-nbd serves")
            for _time in range(3):
                with NbdClient(address) as client:
                    assert client.info(client.exports()[0].name).size == 4 * MIB
                    client.contexts("disk")
            assert process.poll() is None
            with NbdClient(address) as client:
                client.open("disk").read(0, 1)
            assert process.wait(timeout=DEADLINE) == 0
        finally:
            process.kill()


def test_an_error_of_the_disk_is_no_broken_protocol(tmp_path: Path, image: Path) -> None:
    more = ("--filter=error",)
    served = Served(image, more=more, last=("error-pread=EIO", "error-pread-rate=100%"))
    with serving("nbdkit", served, unix(tmp_path)), NbdClient(unix(tmp_path)) as client, pytest.raises(
        NbdError
    ) as raised:
        client.open("disk").read(0, 512)
    assert raised.value.reason == "nbd_refused"
    assert json.dumps(raised.value.facts["evidence"])
