"""drive_args and drive_parse as plays use them."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.filter import drive_args as args_plugin
from ansible_collections.platter.qemu.plugins.filter import drive_parse as parse_plugin
from ansible_collections.platter.qemu.plugins.filter.drive_args import drive_args
from ansible_collections.platter.qemu.plugins.filter.drive_parse import drive_parse
from ansible_collections.platter.qemu.plugins.filter.libvirt_disk import libvirt_disk

DISK = {"id": "d", "image": {"path": "/i/d", "format": "raw"}, "device": "ide-hd"}


class TaggedText(str):
    """As ansible-core's own strings: not exactly str."""


def test_an_old_line_is_written_anew() -> None:
    told = drive_parse("qemu-system-x86_64 -m 1G -drive file=/i/d,format=raw,if=virtio,cache=none -nographic")
    assert (told["program"], told["rest"]) == (["qemu-system-x86_64"], ["-m", "1G", "-nographic"])
    assert drive_args(told, "blockdev", form="keys") == [
        "-blockdev",
        "driver=raw,node-name=virtio0,cache.direct=on,file.driver=file,file.filename=/i/d",
        "-device",
        "virtio-blk-pci,drive=virtio0",
    ]


OLD = "qemu-system-x86_64 -m 1G -hda /i/d -cdrom /i/c.iso -drive file=/i/e,format=raw,if=virtio"


def test_a_line_without_formats_is_written_anew_with_those_that_are_told() -> None:
    told = drive_parse(OLD, formats={"/i/d": TaggedText("qcow2"), "/i/c.iso": "raw"})
    assert [each["image"] for each in told["drives"]] == [
        {"path": "/i/d", "format": "qcow2"},
        {"path": "/i/c.iso", "format": "raw"},
        {"path": "/i/e", "format": "raw"},
    ]
    assert told["notes"] == []
    assert drive_parse(" ".join(drive_args(told, "drive_device")))["drives"] == told["drives"]


@pytest.mark.parametrize(
    ("formats", "said"),
    [
        ({"/i/x": "raw"}, "formats names /i/x, which no drive has without a format"),
        ({"/i/e": "raw"}, "formats names /i/e, which"),
        ({"/i/d": "host_device"}, "formats has 'host_device' for /i/d, which is none of"),
        ("qcow2", "formats is no dictionary"),
    ],
)
def test_a_format_that_no_drive_waits_for_is_no_silence(formats: t.Any, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(said)):
        drive_parse(OLD, formats=formats)


def test_the_arguments_of_a_process_are_read_as_bytes_and_as_text() -> None:
    words = ["/usr/bin/qemu-system-x86_64", "-drive", "file=/i/ä b,format=raw", "-S"]
    cmdline = "\0".join(words) + "\0"
    assert drive_parse(cmdline.encode()) == drive_parse(cmdline) == drive_parse(words)
    assert drive_parse(cmdline)["drives"][0]["image"] == {"path": "/i/ä b", "format": "raw"}


@pytest.mark.parametrize("count", [1, 2])
def test_the_list_that_libvirt_disk_returns_is_read_as_xml(count: int) -> None:
    disks = [dict(DISK, id=name, image={"path": f"/i/{name}", "format": "raw"}) for name in ("d", "e")[:count]]
    disks = [dict(each, device="virtio-blk-pci") for each in disks]
    assert drive_parse(libvirt_disk(disks))["drives"] == disks


def test_a_file_name_that_is_no_text_stays_what_it_is() -> None:
    told = drive_parse(b"qemu-system-x86_64\0-hda\0/i/\xff\0")
    assert told["drives"][0]["image"]["path"].encode("utf-8", "surrogateescape") == b"/i/\xff"


def test_text_of_ansible_is_text() -> None:
    disk = {TaggedText("id"): TaggedText("d"), "image": {"path": TaggedText("/i/d"), "format": TaggedText("raw")}}
    written = drive_args([disk], TaggedText("drive"), machine=TaggedText("q35"))
    assert [each.__class__ for each in written] == [str, str]


def test_a_report_tells_what_is_lost() -> None:
    report = drive_args([DISK], "hda", lossy=True, output="report")
    assert report == {"args": ["-hda", "/i/d"], "line": "-hda /i/d", "lost": ["image.format=raw of d"]}


def test_a_line_of_qmp_is_refused_as_it_is_none() -> None:
    commands = drive_args([dict(DISK, device="scsi-hd")], "qmp")
    assert [each["execute"] for each in commands] == ["device_add", "blockdev-add", "device_add"]
    with pytest.raises(AnsibleFilterError, match="QMP commands are no line"):
        drive_args([dict(DISK, device="scsi-hd")], "qmp", output="line")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"style": "floppy"}, "style is 'floppy', not one of hda, drive, drive_device, blockdev, qmp"),
        ({"form": "xml"}, "form is 'xml'"),
        ({"output": "text"}, "output is 'text'"),
        ({"style": "hda"}, "refused: style hda: it cannot say image.format=raw of d"),
    ],
)
def test_what_is_wrong_is_named(given: t.Dict[str, t.Any], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        drive_args([DISK], **given)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-drive file=/a,cache=fast", "cache is 'fast', not one of"),
        ("-drive file=/a,if=floppi", "if is 'floppi'"),
        ("-drive file=/a,index=0 -hda /b", "two drives at ide0-hd0"),
        ("-device scsi-hd,drive=x", "names the drive x, which is not there"),
        ("-blockdev {", "is no JSON"),
        ("-blockdev driver=null-co", "without node-name"),
        ("-drive file=gopher://a/b", "gopher: is not known here"),
        (7, "neither a line nor a list"),
    ],
)
def test_what_qemu_would_not_take_is_said(line: t.Any, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said):
        drive_parse(line)


@pytest.mark.parametrize("plugin", [args_plugin, parse_plugin])
def test_ansible_finds_the_filters_and_their_documentation(plugin: t.Any) -> None:
    documented = yaml.safe_load(Path(plugin.__file__).with_suffix(".yml").read_text(encoding="utf-8"))
    assert list(plugin.FilterModule().filters()) == [documented["DOCUMENTATION"]["name"]]
