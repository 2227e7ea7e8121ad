"""Drives of a running QEMU are changed where they are, and what cannot be is told."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import parse_arguments, styles
from ansible_collections.platter.qemu.plugins.module_utils._live import execute
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.live_qemu import PORTS, SCSI, LiveQemu, Task, image, live_qemu
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached
from ansible_collections.platter.qemu.tests.lab.oracle import create


def test_a_medium_comes_is_changed_and_goes(tmp_path: Path) -> None:
    first, second = image(tmp_path / "first.iso"), image(tmp_path / "second.iso", "2M")
    drives = {"scsi-cd": "scsi", "ide-cd": "ide"}
    with live_qemu(tmp_path, *SCSI, "-device", "scsi-cd,id=scsi", "-device", "ide-cd,id=ide,bus=ide.0") as qemu:

        def spec(medium: object) -> object:
            return qemu.spec(*({"id": name, "device": kind, "image": medium} for kind, name in drives.items()))

        for medium in (first, second, None):
            done = qemu.converge(spec(medium))  # type: ignore[arg-type]
            assert len(done.steps) == 2 and not done.needs_restart, done
            told = {each["qdev"]: each for each in qemu.qmp.execute("query-block")}
            for name in ("scsi", "ide"):
                assert told[name].get("inserted", {}).get("file") == (medium and medium["path"])
                assert told[name]["tray_open"] is False
        assert not qemu.nodes()


def test_a_medium_that_cannot_be_opened_leaves_the_old_one_in(tmp_path: Path) -> None:
    good, bad = image(tmp_path / "good.iso"), tmp_path / "bad.qcow2"
    bad.write_bytes(b"\0" * 65536)
    with live_qemu(tmp_path, *SCSI, "-device", "scsi-cd,id=cd") as qemu:
        qemu.converge(qemu.spec({"id": "cd", "device": "scsi-cd", "image": good}))
        before = qemu.nodes()
        with pytest.raises(errors.FailedError) as failed:
            qemu.converge(qemu.spec({"id": "cd", "device": "scsi-cd", "image": {"path": str(bad), "format": "qcow2"}}))
        assert failed.value.facts["reason"] == "plug_failed" and "Image is not in qcow2 format" in failed.value.message
        assert qemu.nodes().keys() == before.keys()
        assert qemu.qmp.execute("query-block")[0]["inserted"]["file"] == good["path"]


def test_a_medium_that_vanishes_at_the_last_moment_leaves_an_empty_drive_which_is_told(tmp_path: Path) -> None:
    drive: Task = {"id": "cd", "device": "scsi-cd"}
    old, new = image(tmp_path / "old.iso"), image(tmp_path / "new.iso")
    with live_qemu(tmp_path, *SCSI, "-device", "scsi-cd,id=cd") as qemu:
        qemu.converge(qemu.spec(dict(drive, image=old)))
        steps = qemu.plan(qemu.spec(dict(drive, image=new))).steps
        with VanishingMedium.connect(str(qemu.socket)) as qmp, pytest.raises(errors.FailedError) as failed:
            execute.execute(qmp, steps)
        assert failed.value.message.endswith("the old medium (%s) is out already: cd is empty now." % old["path"])
        assert not qemu.nodes() and "inserted" not in qemu.qmp.execute("query-block")[0]
        image(tmp_path / "new.iso")
        assert len(qemu.converge(qemu.spec(dict(drive, image=new))).steps) == 1


class VanishingMedium(Qmp):
    """The new medium is there for the try only."""

    def execute(self, command: str, arguments: object = None, **how: object) -> object:  # type: ignore[override]
        if command == "blockdev-open-tray":
            os.unlink(os.path.join(os.path.dirname(self.path), "new.iso"))
        return super().execute(command, arguments, **how)  # type: ignore[arg-type]


def test_limits_change_come_and_go(tmp_path: Path) -> None:
    disk = {"id": "d", "device": "virtio-blk-pci", "image": image(tmp_path / "d")}
    with live_qemu(tmp_path, *PORTS) as qemu:
        for throttle in (None, {"iops_total": 50, "iops_total_max": 99}, {"iops_total": 60, "group": "gold"}, None):
            done = qemu.converge(qemu.spec(dict(disk, throttle=throttle)))
            assert len(done.steps) == 1
        told = qemu.qmp.execute("query-block")[0]["inserted"]
        assert told["iops"] == 0 and "group" not in told


@pytest.mark.parametrize("style", ["blockdev", "drive_device"])
def test_a_vm_that_was_started_with_its_drives_has_them(tmp_path: Path, style: str) -> None:
    drives = [
        {"id": "a", "device": "scsi-hd", "image": image(tmp_path / "a", "1M", "qcow2"), "serial": "A", "cache": "none"},
        {"id": "b", "device": "virtio-blk-pci", "image": image(tmp_path / "b"), "throttle": {"iops_total": 70}},
        {"id": "c", "device": "ide-cd", "image": image(tmp_path / "c")},
        {"id": "e", "device": "scsi-cd"},
    ]
    drives[0].update(aio="io_uring", discard="unmap", werror="stop", device_id="disk-a")
    with live_qemu(tmp_path) as qemu:
        spec = qemu.spec(*drives)
    words = styles.render(spec, style).words
    with live_qemu(tmp_path, *words) as qemu:
        nothing = qemu.converge(spec)
        assert not nothing.steps and not nothing.drift, nothing
        throttled = dict(drives[1], throttle={"iops_total": 80})
        changed = qemu.converge(qemu.spec(drives[0], throttled, *drives[2:]))
        assert len(changed.steps) == 1
        other = qemu.plan(qemu.spec(dict(drives[0], discard="ignore", serial="B"), throttled, *drives[2:]))
        assert not other.steps and {each.what for each in other.needs_restart} == {"options", "serial"}


def test_drives_of_old_options_are_known_and_their_media_changed(tmp_path: Path) -> None:
    images = {name: image(tmp_path / name, "1440k") for name in ("hd", "cd", "other", "fd", "flash")}
    words = ["-hda", "hd", "-drive", "file=cd,format=raw,media=cdrom,index=2", "-fda", "fd"]
    words += ["-drive", "if=pflash,format=raw,file=flash"]
    (tmp_path / "flash").write_bytes(b"\0" * (1 << 20))
    with live_qemu(tmp_path, *words, machine="pc") as qemu:
        spec = parse_arguments.parse(words, "pc").spec
        nothing = qemu.converge(spec)
        assert not nothing.steps and not nothing.drift and len(spec.drives) == 4, nothing
        other = {"id": "ide1-cd0", "device": "ide-cd", "bus": "ide.1", "unit": 0, "image": images["other"]}
        assert len(qemu.converge(qemu.spec(other)).steps) == 1
        floppy = {"id": "floppy0", "device": "floppy", "image": images["other"], "read_only": True}
        assert len(qemu.converge(qemu.spec(dict(other, read_only=True), floppy), exact=False).steps) >= 1
        kept = qemu.plan(qemu.spec(), purge=True)
        assert not kept.steps and {each.drive for each in kept.needs_restart} == {each.id for each in spec.drives}


def test_the_empty_drives_of_a_machine_are_nobodys(tmp_path: Path) -> None:
    with live_qemu(tmp_path, "-drive", "if=ide,media=cdrom,index=2", machine="pc") as qemu:
        assert len(qemu.observe(qemu.spec()).drives) == 1
        nothing = qemu.plan(qemu.spec(), purge=True)
        assert not nothing.steps and not nothing.needs_restart


def test_a_tray_that_was_left_open_is_closed(tmp_path: Path) -> None:
    drive = {"id": "cd", "device": "scsi-cd", "image": image(tmp_path / "medium")}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(drive))
        qemu.qmp.execute("blockdev-open-tray", {"id": "cd"})
        assert [str(step) for step in qemu.converge(qemu.spec(drive)).steps] == ["Close the tray of cd."]


def test_what_others_have_plugged_in_is_taken_as_it_is_declared(tmp_path: Path) -> None:
    """Also where the VM was started with another drive of that name: what it said tells nothing of this one."""
    declared = image(tmp_path / "d")
    node = {"driver": "raw", "node-name": "d", "file": {"driver": "file", "filename": declared["path"]}}
    words = ("-blockdev", json.dumps(dict(node, discard="unmap")), "-device", "scsi-hd,id=d,drive=d")
    with live_qemu(tmp_path, *SCSI, *words) as qemu:
        plain = qemu.spec({"id": "d", "device": "scsi-hd", "image": declared})
        assert [each.what for each in qemu.plan(plain).needs_restart] == ["options"]
        qemu.converge(qemu.spec(), purge=True)
        qemu.qmp.execute("blockdev-add", node)
        qemu.qmp.execute("device_add", {"driver": "scsi-hd", "id": "d", "drive": "d"})
        assert not any(qemu.plan(plain))


def test_what_a_running_qemu_cannot_do_is_told_and_the_rest_is_done(tmp_path: Path) -> None:
    with live_qemu(tmp_path, *PORTS[:2]) as qemu:
        wanted = [
            {"id": "hd", "device": "ide-hd", "image": image(tmp_path / "hd")},
            {"id": "one", "device": "virtio-blk-pci", "image": image(tmp_path / "one")},
            {"id": "two", "device": "virtio-blk-pci", "image": image(tmp_path / "two")},
            {"id": "root", "device": "nvme", "bus": "pcie.0", "serial": "x", "image": image(tmp_path / "root")},
            {"id": "temporary", "device": "virtio-blk-pci", "snapshot": True, "image": image(tmp_path / "three")},
        ]
        done = qemu.converge(qemu.spec(*wanted))
        assert [str(each) for each in done.steps] == ["Plug in one (virtio-blk-pci)."]
        assert {each.drive: each.why for each in done.needs_restart} == {
            "hd": "a running QEMU takes no ide-hd",
            "two": "no pcie-root-port of the VM is free",
            "root": "pcie.0 takes no device while the VM runs: name the id of a free pcie-root-port as bus",
            "temporary": "snapshot is an option of -drive only",
        }


def test_caches_change_under_a_disk_with_a_backing_file(tmp_path: Path) -> None:
    base = image(tmp_path / "base", "1M", "qcow2")
    os.system(f"qemu-img create -q -f qcow2 -b {base['path']} -F qcow2 {tmp_path}/top")
    disk = {"id": "d", "device": "scsi-hd", "image": {"path": str(tmp_path / "top"), "format": "qcow2"}}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(dict(disk, throttle={"iops_total": 9})))
        for more in ({"cache": {"direct": True}}, {"cache": {"no_flush": True}, "detect_zeroes": "on"}, {}):
            done = qemu.converge(qemu.spec(dict(disk, throttle={"iops_total": 9}, **more)))
            assert len(done.steps) == 1 and not done.needs_restart
            found = [each for each in qemu.nodes().values() if each["drv"] in ("file", "qcow2")]
            assert {each["cache"]["direct"] for each in found} == {more.get("cache", {}).get("direct", False)}
        changed = qemu.plan(qemu.spec(dict(disk, throttle={"iops_total": 9}, cache="writethrough")))
        assert [each.what for each in changed.needs_restart] == ["write-cache"]


def test_an_image_whose_node_has_no_name_is_not_opened_again(tmp_path: Path) -> None:
    """C(blockdev-reopen) takes none that QEMU has named itself."""
    file = image(tmp_path / "a")
    words = ("-drive", f"if=none,id=a,format=raw,file={file['path']}", "-device", "scsi-hd,drive=a,id=a")
    with live_qemu(tmp_path, *SCSI, *words) as qemu:
        for changed in ({"detect_zeroes": "on"}, {"cache": "none"}):
            found = qemu.converge(qemu.spec({"id": "a", "device": "scsi-hd", "image": file, **changed}))
            assert not found.steps and [each.drive for each in found.needs_restart] == ["a"], found


@pytest.mark.parametrize("first", [None, {"group": "g", "bps_total": 4096}], ids=["no limits", "limits of its own"])
def test_a_drive_comes_into_the_group_of_one_that_was_plugged_in_without(tmp_path: Path, first: Task | None) -> None:
    group = {"group": "g", "bps_total": 1 << 20}
    plain = {"id": "a", "device": "scsi-hd", "image": image(tmp_path / "a")}
    both = [dict(plain, throttle=group), dict(plain, id="b", image=image(tmp_path / "b"), throttle=group)]
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(plain))
        qemu.converge(qemu.spec(dict(plain, throttle=first)))
        if first:  # with the other one not listed
            found = qemu.converge(qemu.spec(both[1]))
            assert not found.steps and "in its throttle group g" in found.needs_restart[0].why
        qemu.converge(qemu.spec(*both))
        told = {each["qdev"]: each["inserted"] for each in qemu.qmp.execute("query-block")}
        assert told["a"]["bps"] == qemu.get("/objects/g", "limits")["bps-total"] == 1 << 20


def test_a_medium_that_was_put_in_is_closed_when_its_drive_goes(tmp_path: Path) -> None:
    """QEMU forgets who had it, if the drive was made empty."""
    drive, medium = {"id": "cd", "device": "scsi-cd"}, image(tmp_path / "cd.iso")
    with live_qemu(tmp_path, *SCSI) as qemu:
        for drives in ([drive], [dict(drive, image=medium)], []):
            qemu.converge(qemu.spec(*drives), 10.0, purge=True)
        assert not qemu.nodes() and "cd" not in qemu.devices()


def test_a_raw_image_that_has_grown_is_grown_in_the_guest(tmp_path: Path) -> None:
    disk = {"id": "d", "device": "scsi-hd", "image": image(tmp_path / "d", "1M")}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(disk))
        os.truncate(tmp_path / "d", 3 << 20)
        assert [str(each) for each in qemu.converge(qemu.spec(disk)).steps] == [
            "Tell the guest that d has grown to 3145728 bytes."
        ]
        assert qemu.nodes()["d"]["image"]["virtual-size"] == 3 << 20


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_device_of_any_name_that_has_grown_is_grown_in_the_guest(tmp_path: Path) -> None:
    """As a volume's node that LVM itself has made, where there is no udev."""
    file, node = create(tmp_path / "disk", "raw", "1M"), tmp_path / "vg0-data"
    with attached(file) as device, live_qemu(tmp_path, *SCSI) as qemu:
        os.mknod(node, stat.S_IFBLK | 0o600, os.stat(device).st_rdev)
        os.truncate(file, 3 << 20)
        _is_grown(qemu, str(node), lambda: subprocess.run(["losetup", "-c", device], check=True))


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_partition_that_has_grown_is_grown_in_the_guest(tmp_path: Path) -> None:
    with attached(create(tmp_path / "disk", "raw", "8M"), "-P") as device, live_qemu(tmp_path, *SCSI) as qemu:
        _partition(device, 1)
        _is_grown(qemu, device + "p1", lambda: _partition(device, 3))


def _partition(device: str, mebibytes: int) -> None:
    table = f"label: dos\nstart=2048, size={mebibytes * 2048}\n"
    command = ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", device]
    subprocess.run(command, input=table, text=True, check=True)
    subprocess.run(["partx", "--update", device], check=True)


def _is_grown(qemu: LiveQemu, path: str, grow: Callable[[], object]) -> None:
    """C(grow): the kernel's device comes to be 3 MiB by it, and was 1 MiB."""
    node = {"driver": "raw", "file": {"driver": "host_device", "filename": path}}
    disk = {"id": "d", "device": "scsi-hd", "image": {"blockdev": node}}
    qemu.converge(qemu.spec(disk))
    assert qemu.nodes()["d"]["image"]["virtual-size"] == 1 << 20
    grow()
    told = "Tell the guest that d has grown to 3145728 bytes."
    assert [str(each) for each in qemu.converge(qemu.spec(disk)).steps] == [told]
    assert qemu.nodes()["d"]["image"]["virtual-size"] == 3 << 20


@pytest.mark.parametrize(
    "more, above",
    [({"read_only": True}, ""), ({}, "odd"), ({}, "layered")],
    ids=["read-only", "odd length", "not all of the file"],
)
def test_what_has_not_grown_by_whole_blocks_or_is_no_file_alone_stays(tmp_path: Path, more: Task, above: str) -> None:
    """C(block_resize) would make the file as long as it is told."""
    plain = image(tmp_path / "d", "1M", "qcow2" if above == "layered" else "raw")
    if above == "layered":
        below = {"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / "d")}}
        plain = {"blockdev": {"driver": "raw", "file": below}}
    disk = {"id": "d", "device": "scsi-hd", "image": plain, **more}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(disk))
        length = (3 << 20) + (1000 if above == "odd" else 0)
        os.truncate(tmp_path / "d", length)
        assert not qemu.converge(qemu.spec(disk)).steps
        assert (tmp_path / "d").stat().st_size == length


def test_a_window_of_a_file_that_is_declared_whole_does_not_grow(tmp_path: Path) -> None:
    """C(block_resize) would add the offset to it, each time."""
    file = image(tmp_path / "d", "4M")
    drive = {"id": "d", "device": "scsi-hd"}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(dict(drive, image=dict(file, options={"offset": 1 << 20}))))
        whole = qemu.converge(qemu.spec(dict(drive, image=file)))
        assert not whole.steps and [each.what for each in whole.needs_restart] == ["options"]
        assert (tmp_path / "d").stat().st_size == 4 << 20


def test_a_size_that_has_changed_again_is_not_cut_off(tmp_path: Path) -> None:
    disk = {"id": "d", "device": "scsi-hd", "image": image(tmp_path / "d", "1M")}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(disk))
        os.truncate(tmp_path / "d", 2 << 20)
        steps = qemu.plan(qemu.spec(disk)).steps
        os.truncate(tmp_path / "d", 3 << 20)
        with Qmp.connect(str(qemu.socket)) as qmp, pytest.raises(errors.FailedError) as caught:
            execute.execute(qmp, steps, 30.0)
        assert caught.value.facts["reason"] == "changed_meanwhile"
        assert (tmp_path / "d").stat().st_size == 3 << 20


def test_the_boot_order_is_changed_also_where_two_drives_swap(tmp_path: Path) -> None:
    drives = [{"id": f"d{n}", "device": "scsi-hd", "image": image(tmp_path / f"{n}"), "bootindex": n} for n in range(2)]
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(*drives))
        more = {"id": "d2", "device": "scsi-hd", "image": image(tmp_path / "2"), "bootindex": 0}
        swapped = qemu.converge(qemu.spec(dict(drives[0], bootindex=1), dict(drives[1], bootindex=5), more))
        assert len(swapped.steps) == 2
        assert [qemu.get(f"/machine/peripheral/d{n}", "bootindex") for n in range(3)] == [1, 5, 0]


def test_layers_that_were_put_on_an_image_are_no_fault_and_go_with_it(tmp_path: Path) -> None:
    disk = {"id": "d", "device": "scsi-hd", "image": image(tmp_path / "d", "1M", "qcow2")}
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(disk))
        layer = {"node-name": "d", "snapshot-file": str(tmp_path / "layer"), "snapshot-node-name": "platter-0123"}
        qemu.qmp.execute("blockdev-snapshot-sync", dict(layer, format="qcow2"))
        found = qemu.converge(qemu.spec(disk))
        assert not found.steps and [(each.drive, each.what) for each in found.needs_restart] == [("d", "image")]
        assert [(each.what, each.live) for each in found.drift] == [("image", str(tmp_path / "layer"))]
        named = dict(disk, image={"path": str(tmp_path / "layer"), "format": "qcow2"})
        assert qemu.plan(qemu.spec(named)) == ((), (), ())
        qemu.converge(qemu.spec(), purge=True)
        assert not qemu.nodes()


def test_nodes_that_are_described_apart_are_added_once_and_stay(tmp_path: Path) -> None:
    path = image(tmp_path / "shared")["path"]
    shared = {"node-name": "base", "driver": "raw", "read-only": True, "file": {"driver": "file", "filename": path}}
    drives = [
        {
            "id": f"d{n}",
            "device": "scsi-hd",
            "image": {"blockdev": {"driver": "raw", "file": "base"}},
            "read_only": True,
        }
        for n in range(2)
    ]
    with live_qemu(tmp_path, *SCSI) as qemu:
        qemu.converge(qemu.spec(*drives, nodes=[shared]), exact=False)  # where a node apart is, the steps do not say
        qemu.converge(qemu.spec(drives[1]), exact=False, absent=["d0"])  # whoever else is on the node
        assert "base" in qemu.nodes()
        qemu.converge(qemu.spec(nodes=[shared]), exact=False, purge=True)
        assert "base" in qemu.nodes() and not {"d0", "d1"} & qemu.nodes().keys()


def test_an_nbd_export_is_told_from_another(tmp_path: Path) -> None:
    with live_qemu(tmp_path, *SCSI) as server, live_qemu_in(tmp_path / "two", *SCSI) as qemu:
        address = {"type": "unix", "path": str(tmp_path / "nbd")}
        server.qmp.execute("nbd-server-start", {"addr": {"type": "unix", "data": {"path": address["path"]}}})
        for name in ("x", "y"):
            node = {"driver": "null-co", "size": 1 << 20, "node-name": name}
            server.qmp.execute("blockdev-add", node)
            export = {"type": "nbd", "id": name, "node-name": name, "name": name}
            server.qmp.execute("block-export-add", export)

        def disk(name: str) -> dict[str, object]:
            node = {"driver": "nbd", "server": address, "export": name}
            return {"id": "d", "device": "scsi-hd", "image": {"blockdev": node}, "read_only": True}

        qemu.converge(qemu.spec(disk("x")))
        other = qemu.plan(qemu.spec(disk("y")))
        assert [each.what for each in other.needs_restart] == ["image"], json.dumps(qemu.nodes())


def live_qemu_in(directory: Path, *words: str) -> object:
    directory.mkdir()
    return live_qemu(directory, *words)
