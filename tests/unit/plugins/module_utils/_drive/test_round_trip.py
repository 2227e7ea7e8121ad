"""What is written in a style is read back as the same drives, whatever the names; and what a style loses is named."""

from __future__ import annotations

import json
import shlex
import typing as t

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    contradictions,
    facts,
    keyval,
    parse_arguments,
    read_spec,
    styles,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.tests.lab.drives import ODD, SOME, vms


def read(tasks: t.List[t.Dict[str, t.Any]], machine: str = "q35") -> DrivesSpec:
    """Without contradictions: two drives may have come out with the same image."""
    spec = read_spec.read(tasks, machine)
    assume(not list(contradictions.found(spec)))
    return spec


@SOME
@given(
    vms(),
    st.sampled_from(("blockdev", "drive_device")),
    st.sampled_from(("json", "keys")),
    st.sampled_from(("pc", "q35")),
)
def test_what_is_written_is_read_back(tasks: t.List[t.Dict[str, t.Any]], style: str, form: str, machine: str) -> None:
    spec = read(tasks, machine)
    written = styles.render(spec, style, form=form)
    assert written.lost == []
    assert parse_arguments.parse(written.words, machine).spec == spec


@SOME
@given(vms(("virtio-blk-pci", "scsi-hd", "scsi-cd", "nvme", "usb-storage")))
def test_qmp_commands_are_read_back(tasks: t.List[t.Dict[str, t.Any]]) -> None:
    spec = read(tasks)
    commands = json.loads(json.dumps(styles.render(spec, "qmp").words))
    assert parse_arguments.parse(commands, "q35").spec == spec


@SOME
@given(vms())
def test_facts_are_what_a_task_would_say(tasks: t.List[t.Dict[str, t.Any]]) -> None:
    spec = read(tasks)
    assert read_spec.read(facts.of_spec(spec)) == spec


@SOME
@given(vms(("virtio-blk-pci", "ide-hd", "ide-cd", "floppy")), st.sampled_from(("pc", "q35")))
def test_what_the_machine_makes_a_device_of_is_read_back_or_named(
    tasks: t.List[t.Dict[str, t.Any]], machine: str
) -> None:
    written = styles.render(read(tasks, machine), "drive", lossy=True)
    again = parse_arguments.parse(written.words, machine).spec
    assume(not list(contradictions.found(again)))  # without share_rw two drives may not have one image any more
    rest = styles.render(again, "drive")
    assert rest.lost == []
    assert parse_arguments.parse(rest.words, machine).spec == again
    assert (not written.lost) == (not styles.lost_in(read(tasks, machine), again))


@given(st.lists(st.tuples(st.sampled_from("abc"), ODD), min_size=1))
def test_a_comma_in_a_value_is_doubled(pairs: t.List[t.Tuple[str, str]]) -> None:
    assert keyval.split(keyval.join(pairs)) == pairs


@given(st.lists(ODD | st.text("a#\\'\"\r\n $", min_size=1), min_size=1))
def test_a_line_and_a_process_say_the_same(words: t.List[str]) -> None:
    assert parse_arguments.words(" ".join(map(shlex.quote, words))) == words
    assert parse_arguments.words("\0".join(words) + "\0") == words


@pytest.mark.parametrize("style", ["hda", "drive", "drive_device"])
def test_what_a_style_cannot_say_is_refused_or_named(style: str) -> None:
    nodes = [{"driver": "file", "filename": "/i/b", "node-name": "base"}]
    image = {"blockdev": {"driver": "raw", "file": "base"}}
    drives = [{"id": "a", "image": image, "device": "virtio-blk-pci", "read_only": True}]
    drives.append(dict(drives[0], id="b"))
    spec = read_spec.read({"drives": drives, "nodes": nodes})
    with pytest.raises(errors.SpecError, match="refused: style %s: it cannot say" % style) as caught:
        styles.render(spec, style)
    assert caught.value.reason == "style_cannot"
    assert styles.render(spec, "blockdev").lost == []


def test_a_long_id_is_one_of_a_drive_and_not_of_a_node() -> None:
    told = {"id": "d" * 32, "image": {"path": "/i/a", "format": "raw"}, "device": "virtio-blk-pci"}
    assert "id=" + "d" * 32 in styles.render(read_spec.read([told]), "drive_device").line
    with pytest.raises(errors.SpecError, match="more than 31 bytes"):
        styles.render(read_spec.read([told]), "blockdev")


@pytest.mark.parametrize("more", [{"read_only": True}, {"snapshot": True}])
def test_what_keeps_the_guest_from_writing_is_never_left_out(more: t.Dict[str, t.Any]) -> None:
    told = {"id": "a", "image": {"path": "/i/a", "format": "raw"}, "device": "floppy"}
    with pytest.raises(errors.SpecError, match="it cannot say .*%s=on of a" % next(iter(more))):
        styles.render(read_spec.read([{**told, **more}]), "hda", lossy=True)


def test_what_is_left_out_has_its_name() -> None:
    told = {"id": "a", "image": {"path": "/i/a", "format": "raw"}, "device": "virtio-blk-pci", "serial": "A1"}
    spec = read_spec.read([dict(told, bootindex=1, cache="none")])
    with pytest.raises(errors.SpecError) as caught:
        styles.render(spec, "drive")
    assert caught.value.facts["evidence"] == {"lost": ["bootindex=1 of a", "serial=A1 of a"]}
    assert styles.render(spec, "drive", lossy=True).words == [
        "-drive",
        "file=/i/a,format=raw,if=virtio,index=0,id=a,cache=none",
    ]
