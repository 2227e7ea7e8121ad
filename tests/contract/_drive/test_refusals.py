"""What is refused before QEMU starts is what QEMU refuses, or takes and does something else with."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec, render_arguments, styles
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QemuRefusedError, ask
from ansible_collections.platter.qemu.tests.lab.oracle import create

Task = t.Dict[str, t.Any]


def drive(**more: t.Any) -> Task:
    """A disk without a fault, but for what is said."""
    given: Task = {"id": "d", "image": {"path": "I", "format": "raw"}, "device": "virtio-blk-pci"}
    return {key: value for key, value in {**given, **more}.items() if value is not None}


def two(first: Task, second: Task) -> t.List[Task]:
    """Two disks, each with its own image."""
    return [drive(**first), drive(**{"id": "e", "image": {"path": "J", "format": "raw"}, **second})]


def node(**options: t.Any) -> Task:
    """An image by its node."""
    return {"blockdev": {"driver": "raw", "file": {"driver": "file", "filename": "I"}, **options}}


#: the reason, the drives, and what QEMU says; empty where it takes it
CASES: t.List[t.Tuple[str, t.List[Task], str]] = [
    ("aio_needs_direct", [drive(aio="native")], "aio=native was specified, but it requires cache.direct=on"),
    ("bad_option", [drive(detect_zeroes="unmap")], "setting detect-zeroes to unmap is not allowed"),
    ("bad_option", [drive(rerror="enospc")], ""),
    ("bad_option", [drive(throttle={"iops_total": 1, "iops_read": 1})], "cannot be used at the same time"),
    ("bad_option", [drive(copy_on_read=True, read_only=True)], ""),
    ("unknown_option", [drive(image=node(**{"lazy-refcounts": True}))], "Unexpected parameter|lazy-refcounts"),
    ("unknown_option", [drive(device="scsi-hd", iothread="io1")], "Property 'scsi-hd.iothread' not found"),
    ("duplicate_name", two({}, {"device_id": "d"}), "Duplicate device ID|Duplicate ID 'd'"),
    (
        "duplicate_name",
        [drive(image=node(file={"driver": "file", "filename": "I", "node-name": "d"}))],
        "Duplicate node",
    ),
    ("bad_name", [drive(id="1d")], "expects an identifier"),
    (
        "bad_name",
        [drive(image=node(file={"driver": "file", "filename": "I", "node-name": "d" * 32}))],
        "Node name too long",
    ),
    ("duplicate_property", two({"serial": "S"}, {"serial": "S"}), ""),
    ("duplicate_property", two({"bootindex": 1}, {"bootindex": 1}), "bootindex 1 has already been used"),
    ("duplicate_address", two({"addr": "5"}, {"addr": "5"}), "PCI: slot 5 function 0 not available"),
    (
        "duplicate_address",
        two(*({"device": "ide-hd", "bus": "ide.0", "unit": 1} for _number in range(2))),
        "IDE unit 1 is in use",
    ),
    (
        "duplicate_address",
        two(*({"device": "scsi-hd", "scsi_id": 3, "lun": 0} for _number in range(2))),
        "lun already used",
    ),
    ("shared_image", [drive(), drive(id="e")], 'Failed to get "write" lock'),
    ("serial_missing", [drive(device="nvme")], "serial property not set"),
    ("serial_too_long", [drive(serial="S" * 21)], ""),
    ("read_only_device", [drive(device="ide-hd", read_only=True)], "read-only"),
    ("bad_size", [drive(logical_block_size=1000)], "multiple of 512|power of 2"),
    ("bad_size", [drive(logical_block_size=4096, physical_block_size=512)], "logical_block_size > physical_block_size"),
    ("image_missing", [drive(image=None)], "drive property not set"),
    ("node_missing", [drive(image=node(file="nowhere"))], "Cannot find device=nowhere nor node.name=nowhere|nowhere"),
    (
        "secret_missing",
        [drive(image={"blockdev": {"driver": "luks", "key-secret": "k", "file": node()["blockdev"]["file"]}})],
        "No secret",
    ),
    ("secret_in_arguments", [drive(image={"blockdev": {"driver": "https", "url": "https://u:p@127.0.0.1:1/d"}})], ""),
    (
        "secret_in_arguments",
        [drive(image={"blockdev": {"driver": "https", "url": "https://h/d", "cookie": "a=b"}})],
        "",
    ),
    ("format_missing", [drive(image={"path": "I"})], ""),
]


WAYS_OUT: t.List[t.Tuple[str, t.List[Task]]] = [
    (
        "objects: {qom-type: tls-creds-x509, id: tls0, endpoint: client, dir: /DIRECTORY}",
        [
            drive(
                image={
                    "blockdev": {
                        "driver": "nbd",
                        "server": {"type": "inet", "host": "h", "port": "1"},
                        "tls-creds": "tls0",
                    }
                }
            )
        ],
    ),
    ("Write iops_total.", [drive(throttle={"iops": 100})]),
    ("Write bps_total, iops_read and the like.", [drive(throttle={"speed": 100})]),
]


@pytest.mark.parametrize(("way_out", "drives"), WAYS_OUT)
def test_the_way_out_can_be_copied(way_out: str, drives: t.List[Task]) -> None:
    with pytest.raises(errors.SpecError) as caught:
        styles.render(read_spec.read(drives), "blockdev")
    assert way_out in caught.value.message


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two disks, I and J."""
    create(tmp_path / "I", "raw", "1M")
    create(tmp_path / "J", "raw", "1M")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("reason", "drives", "words"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_qemu_would_not_take_is_refused_with_a_way_out(
    place: Path, reason: str, drives: t.List[Task], words: str
) -> None:
    spec = read_spec.read(drives)
    with pytest.raises(errors.SpecError, match=r"^refused: drive ") as caught:
        styles.render(spec, "blockdev")
    assert caught.value.reason == reason
    if words:
        with pytest.raises(QemuRefusedError, match=words):
            ask(render_arguments.blockdev(spec), [])
