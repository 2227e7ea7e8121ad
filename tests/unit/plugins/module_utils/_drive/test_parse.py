"""How QEMU reads its options: names of files, old spellings, what belongs to what."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    facts,
    file_name,
    nodes,
    parse_arguments,
    read_spec,
    styles,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec, Node


def parsed(line: str) -> DrivesSpec:
    return parse_arguments.parse(parse_arguments.words(line)).spec


def only(line: str) -> Drive:
    (drive,) = parsed(line).drives
    return drive


INET = {"type": "inet", "host": "h", "port": "10809"}


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("/i/a:b", {"driver": "file", "filename": "/i/a:b"}),
        ("./nbd:evil", {"driver": "file", "filename": "./nbd:evil"}),
        ("a/b:c", {"driver": "file", "filename": "a/b:c"}),
        ("file:a", {"driver": "file", "filename": "a"}),
        ("/dev/sda1", {"driver": "host_device", "filename": "/dev/sda1"}),
        ("/dev/shm/a", {"driver": "file", "filename": "/dev/shm/a"}),
        ("/dev/cdrom", {"driver": "host_cdrom", "filename": "/dev/cdrom"}),
        ("host_device:/dev/sdb", {"driver": "host_device", "filename": "/dev/sdb"}),
        ("nbd:h:10809:exportname=a:b", {"driver": "nbd", "server": INET, "export": "a:b"}),
        ("nbd:unix:/run/s", {"driver": "nbd", "server": {"type": "unix", "path": "/run/s"}}),
        ("nbd://h/a%2Fb", {"driver": "nbd", "server": INET, "export": "a/b"}),
        ("nbd+unix:///a?socket=/run/s", {"driver": "nbd", "server": {"type": "unix", "path": "/run/s"}, "export": "a"}),
        ("https://h/d.qcow2", {"driver": "https", "url": "https://h/d.qcow2"}),
        (
            "ssh://u@h/i/d?host_key_check=no",
            {
                "driver": "ssh",
                "path": "/i/d",
                "server": {"host": "h", "port": "22"},
                "user": "u",
                "host-key-check": {"mode": "none"},
            },
        ),
        (
            "iscsi://u@10.0.0.1:3260/iqn.2001-04.com.example:d/1",
            {
                "driver": "iscsi",
                "transport": "tcp",
                "portal": "10.0.0.1:3260",
                "target": "iqn.2001-04.com.example:d",
                "lun": 1,
                "user": "u",
            },
        ),
        (
            "gluster://h/vol/a/b.img",
            {"driver": "gluster", "volume": "vol", "path": "a/b.img", "server": [dict(INET, port="24007")]},
        ),
        ("nfs://h/d/i?uid=0", {"driver": "nfs", "server": {"type": "inet", "host": "h"}, "path": "/d/i", "user": 0}),
        (
            r"rbd:p/i@s:id=admin:conf=/c:mon_host=10.0.0.1\:6789\;m2",
            {
                "driver": "rbd",
                "pool": "p",
                "image": "i",
                "snapshot": "s",
                "user": "admin",
                "conf": "/c",
                "server": [{"host": "10.0.0.1", "port": "6789"}, {"host": "m2", "port": "6789"}],
            },
        ),
        ("nvme://0000:44:00.0/1", {"driver": "nvme", "device": "0000:44:00.0", "namespace": 1}),
        ("fat:floppy:rw:/d", {"driver": "vvfat", "dir": "/d", "floppy": True, "rw": True}),
        ('json:{"driver":"raw","file.driver":"null-co"}', {"driver": "raw", "file": {"driver": "null-co"}}),
    ],
)
def test_a_name_stands_for_a_node(name: str, tree: t.Dict[str, t.Any]) -> None:
    assert file_name.read(name) == tree
    assert nodes.to_tree(nodes.from_tree(tree)) == tree


@pytest.mark.parametrize(
    "name",
    [
        "rbd:p/i:key=AQ==",
        "iscsi://u%p@h/t/0",
        "ftp://u:p@h/d",
        "nbds://h/e",
        "nbd:h",
        "iscsi://h/t",
        "gluster://h/vol",
        "json:[1]",
    ],
)
def test_what_is_no_name_or_carries_a_secret_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        file_name.read(name)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("https://joe:pw@h:8443/d?a=@", {"url": "https://h:8443/d?a=@", "username": "joe"}),
        ("iscsi://joe%pw@10.0.0.1/iqn.a:b/1", {"user": "joe"}),
        ("rbd:p/i:id=joe:key=pw", {"user": "joe"}),
    ],
)
def test_a_password_of_an_old_line_is_told_and_not_kept(name: str, left: t.Dict[str, t.Any]) -> None:
    notes: t.List[str] = []
    tree = file_name.read(name, notes)
    assert {key: tree[key] for key in left} == left
    assert "pw" not in str(tree)
    assert len(notes) == 1
    assert "everybody on the host can read" in notes[0]


@pytest.mark.parametrize(
    ("line", "id", "device", "bus", "unit"),
    [
        ("-hda /d", "ide0-hd0", "ide-hd", "ide.0", 0),
        ("-hdd /d", "ide1-hd1", "ide-hd", "ide.1", 1),
        ("-cdrom /d", "ide1-cd0", "ide-cd", "ide.1", 0),
        ("-M q35 -cdrom /d", "ide2-cd0", "ide-cd", "ide.2", 0),
        ("-drive file=/d,bus=1,unit=1", "ide1-hd1", "ide-hd", "ide.1", 1),
        ("-fdb /d", "floppy1", "floppy", "", 1),
        ("-drive file=/d,if=virtio", "virtio0", "virtio-blk-pci", "", None),
        ("-machine pc-q35-7.2,accel=kvm -hdb /d", "ide1-hd0", "ide-hd", "ide.1", 0),
        ("-m 1G /d", "ide0-hd0", "ide-hd", "ide.0", 0),
    ],
)
def test_a_drive_is_where_the_machine_puts_it(line: str, id: str, device: str, bus: str, unit: t.Any) -> None:  # noqa: A002
    drive = only(line)
    assert drive.frontend is not None
    assert (drive.id, drive.frontend.device, drive.frontend.bus) == (id, device, bus)
    assert drive.frontend.property("unit") == unit


def test_a_cdrom_is_read_only_and_a_format_that_is_guessed_is_told() -> None:
    read = parse_arguments.parse(["-cdrom", "/d"])
    assert read.spec.drives[0].backend == Node(
        "", (("read-only", True),), (("file", Node("file", (("filename", "/d"),))),)
    )
    assert read.notes == ["the format of ide1-cd0 is not given, so QEMU guesses it"]


@pytest.mark.parametrize(
    ("mode", "options", "write_cache"),
    [
        ("none", (("cache.direct", True),), None),
        ("off", (("cache.direct", True),), None),
        ("writeback", (), None),
        ("unsafe", (("cache.no-flush", True),), None),
        ("writethrough", (), "off"),
        ("directsync", (("cache.direct", True),), "off"),
        ("none,cache.direct=off", (), None),
    ],
)
def test_a_cache_mode_is_of_the_node_and_of_the_device(mode: str, options: t.Any, write_cache: t.Any) -> None:
    drive = only("-drive file=/d,format=raw,if=virtio,cache=" + mode)
    assert drive.backend is not None
    assert drive.frontend is not None
    assert drive.backend.options == options
    assert drive.frontend.property("write-cache") == write_cache


def test_old_spellings_mean_what_new_ones_do() -> None:
    old = parsed("-drive file=/d,format=raw,if=none,id=a,readonly,serial=S,iops_rd=5,bps=1M -device virtio-blk,drive=a")
    new = parsed(
        "-drive file.driver=file,file.filename=/d,driver=raw,if=none,id=a,read-only=on,throttling.iops-read=5,"
        "throttling.bps-total=1048576 -device virtio-blk-pci,drive=a,serial=S"
    )
    assert old == new


def test_drive_and_blockdev_can_be_told_apart_only_by_their_filters() -> None:
    old = parsed(
        "-drive file=/d,format=raw,if=none,id=a,throttling.iops-total=5,copy-on-read=on -device virtio-blk,drive=a"
    )
    new = parsed(
        '-object {"qom-type":"throttle-group","id":"a","limits":{"iops-total":5}}'.replace('"', '\\"')
        + " -blockdev driver=throttle,node-name=a,throttle-group=a,file.driver=copy-on-read,file.file.driver=raw,"
        "file.file.file.driver=file,file.file.file.filename=/d -device virtio-blk-pci,drive=a"
    )
    assert old == new


def test_what_libvirt_writes_is_one_drive() -> None:
    drive = only(
        """-blockdev '{"driver":"file","filename":"/d","node-name":"s","auto-read-only":true,"discard":"unmap"}'
        -blockdev '{"node-name":"f","read-only":false,"driver":"qcow2","file":"s","backing":null}'
        -device '{"driver":"virtio-blk-pci","bus":"pci.4","addr":"0x0","drive":"f","id":"virtio-disk0","bootindex":1}'"""
    )
    storage = Node("file", (("auto-read-only", True), ("discard", "unmap"), ("filename", "/d")), (), "s", True)
    assert drive.backend == Node("qcow2", (("backing", None),), (("file", storage),))
    assert drive.frontend == Device("virtio-blk-pci", "virtio-disk0", "pci.4", (("addr", "0x0"), ("bootindex", 1)))


def test_queues_of_several_iothreads_stay_a_list() -> None:
    words = [
        *("-object", "iothread,id=a", "-object", "iothread,id=b"),
        *("-blockdev", '{"driver":"null-co","node-name":"d"}'),
        *(
            "-device",
            '{"driver":"virtio-blk-pci","drive":"d","iothread-vq-mapping":[{"iothread":"a"},{"iothread":"b"}]}',
        ),
    ]
    spec = read_spec.read(facts.of_spec(parse_arguments.parse(words).spec))
    written = styles.render(spec, "blockdev").words
    assert json.loads(written[-1])["iothread-vq-mapping"] == [{"iothread": "a"}, {"iothread": "b"}]
    assert parse_arguments.parse(written).spec == spec


def test_what_is_about_something_else_is_left_as_it_is() -> None:
    words = ["-name", "a,b", "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n", "-S", "-global", "x.y=z"]
    read = parse_arguments.parse(["qemu-system-x86_64", *words, "-hda", "/d"])
    assert (read.program, read.rest) == (["qemu-system-x86_64"], words)


@pytest.mark.parametrize(
    "before",
    [
        "LC_ALL=C PATH=/bin HOME=/var/lib/libvirt /usr/bin/qemu-system-x86_64",
        "sudo taskset -a -c 1-2 /opt/qemu/qemu-system-x86_64",
        "MALLOC_PERTURB_=1 /usr/libexec/qemu-kvm",
        "kvm",
        "/usr/bin/kvm-spice -name qemu-kvm -accel kvm",
        "",
    ],
)
def test_what_standsoptions_the_program_is_no_disk(before: str) -> None:
    read = parse_arguments.parse(parse_arguments.words(before + " -hda /d -S"))
    assert [each.id for each in read.spec.drives] == ["ide0-hd0"]
    program, options, rest = before.partition(" -name ")
    assert (read.program, read.rest) == (program.split(), [*(options + rest).split(), "-S"])


def test_a_script_is_read_as_its_shell_reads_it() -> None:
    text = "# the disk\nqemu-system-x86_64 \\\r\n  -drive file=/vm#1.img,format=raw \\\n  # -hdb /old\n  -hdc '/a b'\n"
    words = parse_arguments.words(text)
    assert words == ["qemu-system-x86_64", "-drive", "file=/vm#1.img,format=raw", "-hdc", "/a b"]
    assert parse_arguments.words("-hda '/a\r\n# b\\\n' \\' \"/c\\\nd\"  # it's\n # it's\n") == [
        *("-hda", "/a\r\n# b\\\n", "'", "/cd", "#"),
        "its\n # its",
    ]


def test_firmware_is_a_drive_in_both_ways() -> None:
    old = only("-drive if=pflash,format=raw,unit=1,file=/vars,id=v")
    new = only("-machine q35,pflash1=v,accel=kvm -blockdev driver=raw,node-name=v,file.driver=file,file.filename=/vars")
    assert old == new
    assert parse_arguments.parse(
        ["-machine", "q35,pflash1=v,accel=kvm", "-blockdev", "driver=null-co,node-name=v"]
    ).rest == [
        "-machine",
        "type=q35,accel=kvm",
    ]


def test_snapshot_is_of_all_disks_that_have_a_medium() -> None:
    spec = parsed("-snapshot -hda /d -drive if=floppy")
    assert [each.snapshot for each in spec.drives] == [True, False]


def test_controllers_are_made_where_a_drive_has_none() -> None:
    image = {"path": "/d", "format": "raw"}
    spec = read_spec.read([{"id": "a", "image": image, "device": "scsi-hd"}, {"id": "b", "device": "floppy"}], "q35")
    assert [(each.device, each.id) for each in spec.controllers] == [("virtio-scsi-pci", "scsi0"), ("isa-fdc", "fdc0")]
    many = [{"id": "d%d" % number, "image": image, "device": "ide-hd"} for number in range(8)]
    buses = [each.frontend.bus for each in read_spec.read(many, "virt").drives if each.frontend]
    assert buses == ["ahci%d.%d" % divmod(number, 6) for number in range(8)]
    buses = [each.frontend.bus for each in read_spec.read(many, "pc").drives if each.frontend]
    assert buses == ["ide.0", "ide.0", "ide.1", "ide.1", "ahci0.0", "ahci0.1", "ahci0.2", "ahci0.3"]
