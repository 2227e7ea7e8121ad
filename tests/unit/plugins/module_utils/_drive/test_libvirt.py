"""libvirt's XML of a drive is read back as the same drive, and what it cannot say is named."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import contradictions, facts, libvirt_style, read_spec
from ansible_collections.platter.qemu.tests.lab.drives import SOME, vms

Task = t.Dict[str, t.Any]
DISK: Task = {"id": "d", "image": {"path": "/i/d", "format": "qcow2"}, "device": "virtio-blk-pci"}


def read(text: str, machine: str = "") -> Task:
    """The only drive in it."""
    spec, _notes = libvirt_style.read(text, machine)
    (drive,) = facts.of_spec(spec)["drives"]
    return t.cast(Task, drive)


@SOME
@given(
    vms(("virtio-blk-pci", "scsi-hd", "scsi-cd", "ide-hd", "ide-cd", "usb-storage", "floppy")),
    st.sampled_from(("pc", "q35")),
)
def test_what_is_written_is_read_back_or_named(tasks: t.List[Task], machine: str) -> None:
    spec = read_spec.read(tasks, machine)
    assume(not list(contradictions.found(spec)))
    try:
        text = "".join(libvirt_style.disks(spec, lossy=True))
    except errors.SpecError as exc:
        assert exc.reason == "style_cannot"
        return
    again, _notes = libvirt_style.read(text, machine)
    again = replace(again, objects=spec.objects)  # libvirt keeps secrets itself
    assert "".join(libvirt_style.disks(again)) == text
    assert [each.id for each in again.drives] == [each.id for each in spec.drives]


@pytest.mark.parametrize(
    "more",
    [
        {"cache": "none", "aio": "native", "discard": "unmap", "detect_zeroes": "unmap"},
        {"cache": "unsafe", "rerror": "report", "werror": "enospc"},
        {"cache": "directsync", "copy_on_read": True, "l2_cache_size": 2 << 20},
        {"queues": 4, "queue_size": 256, "iothread": "iothread2", "serial": "A 1"},
        {"logical_block_size": 512, "physical_block_size": 4096, "bootindex": 3, "share_rw": True},
        {
            "throttle": {
                "iops_total": 5,
                "iops_total_max": 9,
                "iops_total_max_length": 3,
                "iops_size": 4096,
                "group": "g",
            }
        },
        {"bus": "pci.2", "addr": "0x3.0x1"},
        {"device": "scsi-hd", "bus": "scsi1.0", "channel": 0, "scsi_id": 2, "lun": 3, "wwn": "0x5000c50015ea71ad"},
        {"device": "scsi-hd", "bus": "scsi0.0", "channel": 0, "scsi_id": 0, "lun": 0, "properties": {"vendor": "V"}},
        {
            "device": "scsi-block",
            "bus": "scsi0.0",
            "channel": 0,
            "scsi_id": 0,
            "lun": 0,
            "image": {"path": "/dev/s", "format": "raw"},
        },
        {"device": "ide-hd", "bus": "ide.1", "unit": 1, "rotation_rate": 1},
        {"device": "usb-storage", "bus": "usb0.0", "port": "1.2", "properties": {"removable": True}},
        {"device": "floppy", "unit": 1, "read_only": True},
        {"snapshot": True},
        {"encryption": {"secret": "d-key", "format": "luks"}},
        {"image": {"uri": "nbd+unix:///e?socket=/run/s", "format": "qcow2"}, "reconnect_delay": 5},
        {"image": {"uri": "nbd://[::1]:1/e", "format": "raw"}},
        {"image": {"uri": "rbd:p/i@s:conf=/c", "format": "raw"}},
        {"image": {"uri": "iscsi://10.0.0.1/iqn.2001-04.com.example:d/1", "format": "raw"}},
        {"image": {"uri": "gluster://h/v/a/b", "format": "qcow2"}},
        {"image": {"uri": "https://h:8443/a/b.iso?x=1", "format": "raw"}},
        {"image": {"uri": "http://h/a", "format": "raw"}},
        {"image": {"uri": "ssh://u@h/i/d", "format": "raw"}},
        {"image": {"uri": "nfs://h/d/i?uid=5&gid=6", "format": "raw"}},
    ],
    ids=",".join,
)
def test_all_that_libvirt_has_words_for_is_kept(more: Task) -> None:
    drives = [{**DISK, **more}]
    objects = [{"qom-type": "secret", "id": "d-key", "file": "/k"}]
    spec = read_spec.read({"drives": drives, "objects": objects})
    (text,) = libvirt_style.disks(spec)
    again, _notes = libvirt_style.read(text)
    assert again.drives == spec.drives


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"iothread": "mine"}, "iothread=mine of d"),
        ({"locking": "off"}, "locking=off of d"),
        ({"serial": "A&B"}, "serial=A&B of d"),
        ({"bootindex": 0}, "bootindex=0 of d"),
        ({"image": {"path": "/i/d", "format": "parallels"}}, "the graph of nodes"),
        ({"device": "nvme", "serial": "N"}, "a drive that is nvme"),
        ({"device": "pflash"}, "a drive that is pflash"),
        ({"image": {"path": "/i/\x01", "format": "raw"}}, "for which XML has no place"),
        ({"image": {"uri": "nbd://h/e", "format": "raw"}, "open_timeout": 5}, "open-timeout of nbd"),
        ({"image": {"blockdev": {"driver": "null-co", "size": 1024}}}, "a source of the driver null-co"),
        ({"image": {"blockdev": {"driver": "blkreplay", "image": {"driver": "null-co"}}}}, "the graph of nodes"),
    ],
)
def test_what_libvirt_has_no_words_for_is_refused(more: Task, named: str) -> None:
    with pytest.raises(errors.SpecError, match=named) as caught:
        libvirt_style.disks(read_spec.read([{**DISK, **more}]))
    assert caught.value.reason == "style_cannot"


def test_words_that_are_other_ones_in_libvirt() -> None:
    (text,) = libvirt_style.disks(read_spec.read([{**DISK, "werror": "enospc", "wwn": 1, "device": "scsi-hd"}]))
    assert 'error_policy="enospace"' in text
    assert "<wwn>0000000000000001</wwn>" in text


def test_a_protocol_alone_is_raw_to_libvirt() -> None:
    nbd = {"driver": "nbd", "server": {"type": "inet", "host": "h", "port": "10809"}, "export": "e"}
    alone = {**DISK, "image": {"blockdev": nbd}, "cache": "none", "reconnect_delay": 30}
    with_format = {**alone, "image": {"blockdev": nbd, "format": "raw"}}
    texts = [libvirt_style.disks(read_spec.read([each])) for each in (alone, with_format)]
    assert texts[0] == texts[1]


def test_a_domain_is_read_as_libvirt_means_it() -> None:
    text = """<?xml version='1.0'?>
    <domain type='kvm'><name>a</name><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>
      <disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file='/i/a'/>
        <backingStore type='file'><format type='raw'/><source file='/i/b'/></backingStore>
        <target dev='sda' bus='sata'/><address type='drive' controller='0' bus='0' target='0' unit='2'/></disk>
      <disk type='block' device='cdrom'><target dev='sdb'/><readonly/></disk>
    </devices></domain>"""
    spec, notes = libvirt_style.read(text)
    assert facts.of_spec(spec)["drives"] == [
        {
            "id": "sda",
            "image": {"path": "/i/a", "format": "qcow2"},
            "discard": "unmap",
            "device": "ide-hd",
            "bus": "ide.2",
            "unit": 0,
        },
        {"id": "sdb", "device": "scsi-cd", "bus": "scsi0.0", "scsi_id": 0},
    ]
    assert notes == ["the backing files of sda are those that its header names"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<disk", "no XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><disk/>", "no document type"),
        ("<disk type='file'/>", "without <target>"),
        ("<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>", "of type volume"),
        ("<disk type='network'><source protocol='vxhs'/><target dev='vda'/></disk>", "protocol vxhs"),
        ("<disk type='file'><target dev='xvda' bus='xen'/></disk>", "on the bus xen"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        libvirt_style.read(text)


def test_controllers_come_first_where_they_are_asked_for() -> None:
    spec = read_spec.read([{**DISK, "device": "scsi-hd"}], "q35")
    controller, disk = libvirt_style.disks(spec, controllers=True)
    assert controller == '<controller type="scsi" index="0" model="virtio-scsi" />\n'
    assert read(controller + disk, "q35")["bus"] == "scsi0.0"


def test_what_is_beside_disks_is_named_where_it_is_not_read() -> None:
    share = "<filesystem type='mount'><source dir='/srv'/><target dir='home'/></filesystem>"
    text = "<domain><os><type>hvm</type><kernel>/k</kernel></os><devices>%s</devices></domain>" % share
    assert libvirt_style.read(text)[1] == [
        "the kernel of <os> is not read; describe it in boot",
        "the <filesystem> home is not read; describe it in shares",
    ]


def test_a_path_that_is_not_absolute_is_none_of_libvirts() -> None:
    spec = read_spec.read([{**DISK, "image": {"path": "d.raw", "format": "raw"}}])
    with pytest.raises(errors.SpecError) as refused:
        libvirt_style.disks(spec, lossy=True)
    assert refused.value.reason == "style_cannot" and "not absolute" in str(refused.value)
