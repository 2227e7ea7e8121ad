"""Who writes to an image is its only user, and what others are built on nobody writes to, by whatever name or way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import records
from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QEMU, started
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported

Options = dict[str, Any]


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The links to all VMs, of this test only."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    (tmp_path / "i").mkdir()


def image(tmp_path: Path, name: str, format: str = "raw", *more: str) -> Path:
    return create(tmp_path / "i" / name, format, "16M", *more)


def overlay(tmp_path: Path, name: str, base: Path, format: str = "raw") -> Path:
    return create(tmp_path / "i" / name, "qcow2", "", "", "-b", base, "-F", format)


def disk(name: str, image: Any, format: str = "raw", **more: Any) -> Options:
    named = {"blockdev": image} if isinstance(image, dict) else {"path": str(image), "format": format}
    return {"id": name, "image": named, "device": "virtio-blk-pci", **more}


def asked(tmp_path: Path, vm: str, *drives: Options, **more: Any) -> Options:
    return {"vm": vm, "config": str(tmp_path / "vms" / vm), "drives": list(drives), "validate": "none", **more}


def file(path: Path) -> Options:
    return {"driver": "file", "filename": str(path)}


# --- what becomes a writer is looked at anew


def test_a_reader_that_becomes_a_writer_of_a_base_is_refused(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = overlay(tmp_path, "top", base)
    four_beats(**asked(tmp_path, "one", disk("d", base, read_only=True)))
    refusal = refused("has_overlays", **asked(tmp_path, "one", disk("d", base)))
    assert refusal["evidence"] == {"overlays": [str(top)]}


def test_an_overlay_beside_a_link_to_its_base_is_found(tmp_path: Path) -> None:
    base, link = image(tmp_path, "base"), tmp_path / "link"
    os.symlink(base, link)
    four_beats(**asked(tmp_path, "one", disk("d", link), arguments=["-m", "64"]))
    top = create(tmp_path / "top", "qcow2", "", "", "-b", link, "-F", "raw")
    assert f"is the backing file of {top}" in str(call("qemu_drive", **asked(tmp_path, "one"))["warnings"])
    ended = subprocess.run([tmp_path / "vms" / "one" / "start"], check=False, capture_output=True, text=True)
    assert (ended.returncode, str(top) in ended.stderr) == (1, True), ended


def test_the_base_of_its_own_overlay_is_refused(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = overlay(tmp_path, "top", base)
    four_beats(**asked(tmp_path, "one", disk("d", top, "qcow2")))
    refusal = refused("has_overlays", **asked(tmp_path, "one", disk("d", base), purge=True))
    assert refusal["evidence"] == {"overlays": [str(top)]}


def test_a_reader_that_becomes_a_writer_of_what_another_process_reads_is_refused(tmp_path: Path) -> None:
    used = image(tmp_path, "used")
    four_beats(**asked(tmp_path, "one", disk("d", used, read_only=True)))
    with exported(used, "raw", tmp_path / "socket", "--read-only"):
        refused("image_in_use", **asked(tmp_path, "one", disk("d", used)))


# --- share: true is consent to a second VM, and to nothing else


def test_sharing_is_no_consent_to_damage_overlays(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = overlay(tmp_path, "top", base)
    shared: Options = {"share": True, "share_rw": True}
    refusal = refused("has_overlays", **asked(tmp_path, "one", disk("d", base, **shared)))
    assert refusal["evidence"] == {"overlays": [str(top)]}


def test_sharing_is_no_consent_to_a_base_of_another_directory(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = create(tmp_path / "top", "qcow2", "", "", "-b", base, "-F", "raw")
    shared: Options = {"share": True, "share_rw": True}
    four_beats(**asked(tmp_path, "one", disk("d", top, "qcow2", **shared)))
    refusal = refused("image_claimed", **asked(tmp_path, "two", disk("d", base, **shared)))
    assert "share" not in refusal["msg"].rpartition("changed.")[2]


def test_an_image_with_tables_is_shared_by_nobody(tmp_path: Path) -> None:
    top = image(tmp_path, "top", "qcow2")
    shared = disk("d", top, "qcow2", share=True, share_rw=True, locking="off")
    four_beats(**asked(tmp_path, "one", shared))
    refusal = refused("image_claimed", **asked(tmp_path, "two", shared))
    assert "raw" in refusal["msg"].rpartition("changed.")[2]


def test_sharing_is_no_consent_to_what_is_no_vm(tmp_path: Path) -> None:
    shared = image(tmp_path, "shared")
    drive = disk("d", shared, share=True, share_rw=True)
    with exported(shared, "raw", tmp_path / "socket") as server:
        refusal = refused("image_in_use", **asked(tmp_path, "one", drive))
        assert refusal["evidence"]["in_use_by"][0]["pid"] == server.pid
    words = (
        "-M",
        "pc",
        "-drive",
        f"if=none,id=d,format=raw,file={shared}",
        "-device",
        "virtio-blk,drive=d,share-rw=on",
    )
    with started(tmp_path / "monitor", QEMU, *words):
        four_beats(**asked(tmp_path, "one", drive))


# --- data files and extents are written to with their image


def test_two_images_with_one_data_file_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "i" / "data"
    one = image(tmp_path, "one", "qcow2", f"data_file={data},data_file_raw=on")
    other = tmp_path / "other"
    two = create(tmp_path / "two", "qcow2", "16M", f"data_file={other},data_file_raw=on")
    os.unlink(other)
    os.link(data, other)
    four_beats(**asked(tmp_path, "one", disk("d", one, "qcow2")))
    refusal = refused("image_claimed", **asked(tmp_path, "two", disk("d", two, "qcow2")))
    assert refusal["evidence"]["place"] == str(other)
    four_beats(**asked(tmp_path, "one", state="absent"))
    refused("has_overlays", **asked(tmp_path, "two", disk("d", data)))


def test_an_extent_is_no_disk_of_another_vm(tmp_path: Path) -> None:
    split = image(tmp_path, "split", "vmdk", "subformat=monolithicFlat")
    four_beats(**asked(tmp_path, "one", disk("d", split, "vmdk")))
    refused("image_claimed", **asked(tmp_path, "two", disk("d", tmp_path / "i" / "split-flat", read_only=True)))


# --- one VM with an image twice


def test_one_image_by_two_names_is_refused(tmp_path: Path) -> None:
    one = image(tmp_path, "one")
    os.symlink(one, tmp_path / "i" / "link")
    both = (disk("a", one), disk("b", tmp_path / "i" / "link"))
    assert refused("shared_image", **asked(tmp_path, "one", *both))["evidence"]["drives"] == ["a", "b"]
    four_beats(**asked(tmp_path, "one", *(dict(each, share_rw=True) for each in both)))


def test_an_overlay_and_its_base_are_no_two_disks(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = create(tmp_path / "top", "qcow2", "", "", "-b", base, "-F", "raw")
    refused("shared_image", **asked(tmp_path, "one", disk("a", top, "qcow2"), disk("b", base)))
    both = (disk("a", top, "qcow2", share_rw=True), disk("b", base, share_rw=True))
    refused("shared_image", **asked(tmp_path, "one", *both))
    four_beats(**asked(tmp_path, "one", disk("a", top, "qcow2"), disk("b", base, read_only=True)))


def test_a_base_that_is_named_by_its_overlay_is_read(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = overlay(tmp_path, "top", base)
    below = {"id": "below", "image": {"path": str(base), "format": "raw"}}
    tree = {"driver": "qcow2", "file": file(top), "backing": "below"}
    four_beats(**asked(tmp_path, "one", below, disk("top", tree), validate="device", arguments=["-m", "64"]))


# --- what is opened by other ways


def test_what_lies_below_a_filter_is_read(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = create(tmp_path / "top", "qcow2", "", "", "-b", base, "-F", "raw")
    limits = {"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": 9}}
    tree = {"driver": "qcow2", "file": {"driver": "throttle", "throttle-group": "g", "file": file(top)}}
    four_beats(**asked(tmp_path, "one", disk("d", tree), objects=[limits]))
    refused("image_claimed", **asked(tmp_path, "two", disk("d", base)))


def test_what_lies_below_an_image_whose_format_is_guessed_is_read(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    top = create(tmp_path / "top", "qcow2", "", "", "-b", base, "-F", "raw")
    drive = {"id": "ide0-hd0", "image": {"path": str(top)}, "device": "ide-hd", "bus": "ide.0", "unit": 0}
    four_beats(**asked(tmp_path, "one", drive, style="hda", lossy=True))
    refused("image_claimed", **asked(tmp_path, "two", disk("d", base)))


def test_a_node_that_no_drive_names_is_claimed(tmp_path: Path) -> None:
    one = image(tmp_path, "one")
    node = {"driver": "raw", "node-name": "spare", "file": file(one)}
    four_beats(**asked(tmp_path, "one", nodes=[node]))
    assert refused("image_claimed", **asked(tmp_path, "two", disk("d", one)))["evidence"]["drive"] == "spare"


@pytest.mark.parametrize(("driver", "option"), [("io_uring", "filename"), ("virtio-blk-vhost-vdpa", "path")])
def test_a_driver_that_names_a_file_claims_the_file(tmp_path: Path, driver: str, option: str) -> None:
    one = image(tmp_path, "one")
    four_beats(**asked(tmp_path, "one", disk("d", one)))
    refused("image_claimed", **asked(tmp_path, "two", disk("d", {"driver": driver, option: str(one)})))


def test_a_directory_that_is_shown_as_a_disk_is_claimed(tmp_path: Path) -> None:
    tree = {"driver": "vvfat", "dir": str(tmp_path / "i")}
    four_beats(**asked(tmp_path, "one", disk("d", dict(tree, rw=True))))
    refused("image_claimed", **asked(tmp_path, "two", disk("d", dict(tree, floppy=True))))
    prepared("qemu_drive", **asked(tmp_path, "one", state="absent"))
    four_beats(**asked(tmp_path, "one", disk("d", tree)))
    four_beats(**asked(tmp_path, "two", disk("d", tree)))


# --- who is the VM itself


def test_a_program_that_is_called_like_the_vm_is_not_the_vm(tmp_path: Path) -> None:
    used = image(tmp_path, "used")
    read = "import sys; f = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    line = [sys.executable, "-c", read, str(used), "/usr/bin/qemu-system-x86_64", "-name", "one"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stdout.readline()
        refusal = refused("image_in_use", **asked(tmp_path, "one", disk("d", used)))
        assert refusal["evidence"]["in_use_by"][0]["pid"] == process.pid
        process.stdin.close()


def test_the_vm_is_known_by_the_name_that_its_arguments_give_it(tmp_path: Path) -> None:
    more = image(tmp_path, "more")
    named = {"arguments": ["--name", "guest=other", "-m", "64"], "qmp_socket": str(tmp_path / "nobody")}
    four_beats(**asked(tmp_path, "one", **named))
    words = ("-S", "-nodefaults", "-drive", f"if=none,id=d,format=raw,file={more}")
    with started(tmp_path / "monitor", tmp_path / "vms" / "one" / "start", *words) as process:
        refusal = refused("qmp_unreachable", **asked(tmp_path, "one", disk("d", more), **named))
        assert refusal["evidence"] == {"socket": named["qmp_socket"], "pids": [process.pid]}
        assert refusal["msg"].startswith("refused: changing the running VM: nobody is at ")
        four_beats(**asked(tmp_path, "another", **named))
        four_beats(**asked(tmp_path, "one", disk("d", more)))


# --- the next start


def test_what_has_become_a_backing_file_since_is_not_started_with(tmp_path: Path) -> None:
    disks = [image(tmp_path, "a", "qcow2"), image(tmp_path, "b"), image(tmp_path, "read")]
    drives = [disk("a", disks[0], "qcow2"), disk("b's", disks[1]), disk("read", disks[2], read_only=True)]
    drives[1]["id"] = "b"
    options = asked(tmp_path, "one", *drives, arguments=["-m", "64"])
    four_beats(**options)
    start = [str(tmp_path / "vms" / "one" / "start"), "-version"]
    overlay(tmp_path, "on-read", disks[2])
    assert subprocess.run(start, check=True, capture_output=True, text=True).stdout.startswith("QEMU")

    (tmp_path / "far").mkdir()
    tops = [overlay(tmp_path, "on-a", disks[0], "qcow2"), tmp_path / "far" / "on-b", tmp_path / "i" / "json"]
    create(tops[1], "qcow2", "", "", "-b", disks[1], "-F", "raw")
    records.write_record(str(disks[1]), {"snapshot": {"overlays": [str(tops[1])]}})
    assert f"is the backing file of {tops[1]}" in str(call("qemu_drive", **options)["warnings"])
    for top, base in zip(tops, disks):
        ended = subprocess.run(start, check=False, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"VM one is not started: {base} is the backing file of {top}" in ended.stderr, ended.stderr
        top.unlink()
        if top == tops[1]:
            node = {"driver": "raw", "file": {"driver": "file", "filename": str(disks[1])}}
            create(tops[2], "qcow2", "", "", "-b", "json:" + json.dumps(node), "-F", "raw")
            disks[2] = disks[1]
    assert subprocess.run(start, check=True, capture_output=True, text=True).stdout.startswith("QEMU")


def test_a_vm_without_a_name_is_taken_for_this_one_where_it_has_its_images(tmp_path: Path) -> None:
    one, other = image(tmp_path, "one"), image(tmp_path, "other")
    options = asked(tmp_path, "one", disk("d", one), qmp_socket=str(tmp_path / "monitor"))
    four_beats(**options)
    words = ("-M", "pc", "-m", "64", "-device", "virtio-scsi-pci,id=s", "-drive")
    with started(tmp_path / "monitor", QEMU, *words, f"if=none,id=x,format=raw,file={other}"):
        assert refused("other_vm", **options, purge=True)["evidence"] == {"socket": options["qmp_socket"], "vm": ""}
    with started(tmp_path / "monitor", QEMU, *words, f"if=none,id=x,format=raw,file={one}"):
        told = call("qemu_drive", check=True, **options)
        assert told.get("reason") is None and told["live"]["running"], told


def test_what_has_become_a_backing_file_since_is_not_plugged_in(tmp_path: Path) -> None:
    base = image(tmp_path, "base")
    options = asked(tmp_path, "one", arguments=["-m", "64"])
    four_beats(**options)
    with started(tmp_path / "monitor", tmp_path / "vms" / "one" / "start"):
        more = asked(tmp_path, "one", disk("d", base))
        four_beats(**more)
        top = overlay(tmp_path, "top", base)
        running: Options = {"qmp_socket": str(tmp_path / "monitor")}
        refusal = refused("has_overlays", **more, **running)
        assert refusal["evidence"] == {"overlays": [str(top)]}
        top.unlink()
        with exported(base, "raw", tmp_path / "socket", "--read-only"):
            refused("image_in_use", **more, **running)
        four_beats(**more, **running)


def test_a_definition_that_somebody_has_changed_is_no_word_for_what_the_vm_had(tmp_path: Path) -> None:
    base, other = image(tmp_path, "base"), image(tmp_path, "othr")
    four_beats(**asked(tmp_path, "one", disk("d", other)))
    overlay(tmp_path, "top", base)
    written = tmp_path / "vms" / "one" / "current" / "definition.json"
    written.write_text(written.read_text().replace(str(other), str(base)))
    refused("has_overlays", vm="one", config=str(tmp_path / "vms" / "one"), validate="none")


def test_a_data_file_is_no_disk_once_its_image_has_gone(tmp_path: Path) -> None:
    data = tmp_path / "i" / "data"
    top = image(tmp_path, "top", "qcow2", f"data_file={data},data_file_raw=on")
    four_beats(**asked(tmp_path, "one", disk("d", top, "qcow2")))
    assert refused("has_overlays", **asked(tmp_path, "one", disk("d", data)))["evidence"] == {"overlays": [str(top)]}


def test_a_driver_that_nobody_knows_here_claims_what_it_says(tmp_path: Path) -> None:
    tree = {"driver": "some-store", "volume": "a"}
    four_beats(**asked(tmp_path, "one", disk("d", tree)))
    refused("image_claimed", **asked(tmp_path, "two", disk("d", dict(tree, **{"read-only": True}))))
    four_beats(**asked(tmp_path, "two", disk("d", dict(tree, volume="b"))))
