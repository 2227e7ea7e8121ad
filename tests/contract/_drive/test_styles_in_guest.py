"""One image, told to QEMU in every style: a guest sees the same disk each time, and what a style loses is named."""

from __future__ import annotations

import hashlib
import shutil
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import libvirt_style, read_spec, styles
from ansible_collections.platter.qemu.tests.lab.guest import guest_bytes, scribble
from ansible_collections.platter.qemu.tests.lab.initramfs import basis
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.vm import Guest

Task = t.Dict[str, t.Any]
MIB = 1 << 20
SERIAL = "SAME-DISK-01"
#: the style, and the device that the guest sees; C(libvirt): written as its XML and read back
WAYS = {
    "hda": "ide-hd",
    "drive": "virtio-blk-pci",
    "drive_device": "scsi-hd",
    "blockdev": "virtio-blk-pci",
    "libvirt": "virtio-blk-pci",
    "qmp": "virtio-blk-pci",
}
#: those have no word for a serial number
WITHOUT_SERIAL = ("hda", "drive")
#: name, bytes and serial number of each disk, as the guest knows them; of SCSI and SATA disks the page of their serial number
LOOK = """
for disk in /sys/block/[sv]d*; do
    serial=$(cat $disk/serial 2>/dev/null || tail -c +5 $disk/device/vpd_pg80)
    case $(readlink $disk) in */ata*) where=ide;; */host*) where=scsi;; *) where=virtio;; esac
    echo "$where $(($(cat $disk/size) * 512)) $(md5sum </dev/${disk##*/} | cut -c1-32) $serial"
done
"""


def told(way: str, image: Path) -> Task:
    """The same disk for each; C(id) tells which way it has gone."""
    task = {"id": way.replace("_", "-"), "image": {"path": str(image), "format": "qcow2"}, "device": WAYS[way]}
    return dict(task, serial=SERIAL + "-" + way[:2]) if way not in WITHOUT_SERIAL else task


def words(way: str, image: Path) -> t.List[t.Any]:
    """As the collection writes it: arguments, or QMP commands."""
    spec = read_spec.read([told(way, image)])
    if way == "libvirt":
        spec, way = libvirt_style.read("".join(libvirt_style.disks(spec)))[0], "blockdev"
    return styles.render(spec, way, lossy=way == "hda").words


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> t.Dict[str, Path]:
    """One image, as often as there are ways: QEMU lets each be written to once."""
    place = tmp_path_factory.mktemp("styles")
    first = create(place / "first", "qcow2", 4 * MIB)
    scribble(first, "qcow2")
    return {way: Path(shutil.copy(first, place / way)) for way in WAYS}


def seen(guest: Guest) -> t.Dict[str, t.List[t.Tuple[str, ...]]]:
    """By what it is on: bytes, digest, serial number of each disk."""
    found: t.Dict[str, t.List[t.Tuple[str, ...]]] = {}
    for line in guest.run(LOOK).splitlines():
        where, *rest = line.split()
        found.setdefault(where, []).append(tuple(rest))
    return {where: sorted(each) for where, each in found.items()}


def test_a_guest_sees_the_same_disk_whatever_the_style(images: t.Dict[str, Path], tmp_path: Path) -> None:
    start = [word for way in WAYS if way != "qmp" for word in words(way, images[way])]
    content = guest_bytes(images["hda"], "qcow2")
    guest = Guest(tmp_path, (), agent=False, options=tuple(start), root=basis(("ata_piix",)).content())
    try:
        guest.boot()
        for command in words("qmp", images["qmp"]):
            guest.monitor.execute(command["execute"], command["arguments"])
        guest.wait(lambda: len(guest.run("cd /sys/block; echo vd*").split()) == 4, "the guest sees what was plugged in")
        found = seen(guest)
    finally:
        guest.end()
    every = (str(4 * MIB), hashlib.md5(content, usedforsecurity=False).hexdigest())
    assert found == {
        "ide": [(*every, "QM00001")],  # what the machine calls a disk without a number
        "scsi": [(*every, SERIAL + "-dr")],
        "virtio": [every, *((*every, SERIAL + "-" + each) for each in ("bl", "li", "qm"))],
    }


@pytest.mark.parametrize("way", WITHOUT_SERIAL)
def test_what_the_guest_would_not_see_is_named(way: str) -> None:
    task = dict(told(way, Path("/i/a")), serial=SERIAL)
    lost = styles.render(read_spec.read([task]), way, lossy=True).lost
    assert "serial=%s of %s" % (SERIAL, way) in lost
