"""What a task writes counts as it is written, or is refused: nothing is dropped, and nothing ends in a traceback."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._drive import settings
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition
from ansible_collections.platter.qemu.plugins.module_utils._vm.plan import plan_vm
from ansible_collections.platter.qemu.plugins.module_utils._vm.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState
from ansible_collections.platter.qemu.tests.lab.drives import SOME

Task = t.Dict[str, t.Any]
NOTHING = VmState("web1", "/etc/platter/vm/web1")
FILE = {"driver": "file", "filename": "/i/a"}


def disk(**more: t.Any) -> Task:
    return dict({"id": "a", "image": {"path": "/i/a", "format": "qcow2"}, "device": "virtio-blk-pci"}, **more)


def made(*drives: Task, **options: t.Any) -> definition.VmDefinition:
    """The definition; that it is read back from its file as it is, is shown each time."""
    spec = read_spec(dict({"vm": "web1", "drives": list(drives)}, **options))
    state = predict(NOTHING, plan_vm(spec, NOTHING, "/bin/qemu"))
    assert state.defined is not None
    assert definition.parse(definition.to_text(state.defined)) == state.defined
    return state.defined


def refused(*drives: Task, **options: t.Any) -> errors.RefusedError:
    with pytest.raises(errors.RefusedError) as caught:
        made(*drives, **options)
    return caught.value


# --- a chain that is cut


@pytest.mark.parametrize(
    "more",
    [
        {"image": {"path": "/i/a", "format": "qcow2", "options": {"backing": None}}},
        {"image": {"blockdev": {"driver": "qcow2", "file": FILE, "backing": None}}},
        {"image": {"blockdev": {"driver": "qcow2", "file": FILE, "backing": ""}}},
        {"image": {"path": None, "blockdev": {"driver": "qcow2", "file": FILE, "backing": None, "read-only": None}}},
    ],
)
@pytest.mark.parametrize(("style", "said"), [("blockdev", '"backing":null'), ("drive_device", ",backing=")])
def test_a_chain_that_is_cut_stays_cut(more: Task, style: str, said: str) -> None:
    assert said in str(made(disk(**more), style=style).drive_words())


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_chain_below_another_node_is_cut_in_every_style(nothing: t.Any) -> None:
    qcow2 = {"driver": "qcow2", "file": FILE, "backing": nothing}
    drive = disk(image={"blockdev": {"driver": "raw", "file": qcow2}})
    assert '"backing":null' in str(made(drive).drive_words())
    assert ",file.backing=," in str(made(drive, style="drive_device").drive_words()) + ","
    several = {"driver": "quorum", "vote-threshold": 1, "children": [qcow2, dict(qcow2, **{"read-only": None})]}
    assert str(made(disk(image={"blockdev": several})).drive_words()).count('"backing":null') == 2


def test_a_shared_node_has_its_chain_cut() -> None:
    node = {"driver": "qcow2", "node-name": "n", "file": FILE, "backing": None}
    drive = disk(image={"blockdev": {"driver": "raw", "file": "n"}})
    assert '"backing":null' in str(made(drive, nodes=[node]).drive_words())


# --- options of an image


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"blockdev": {"driver": "qcow2", "file": FILE}, "options": {"l2-cache-size": 1}}, "image.format is not given"),
        ({"path": "/i/a", "format": "qcow2", "options": {"file": {"driver": "file"}}}, "image.options has file"),
        ({"path": "/i/a", "format": "qcow2", "options": {"file.locking": "off"}}, "image.options has file"),
        ({"path": "/i/a", "format": "qcow2", "options": {"driver": "raw"}}, "image.options has driver"),
        ({"path": "/i/a", "format": "qcow2", "options": {"node-name": "n"}}, "image.options has node-name"),
    ],
)
def test_options_of_an_image_are_those_of_the_node_of_its_format(image: Task, said: str) -> None:
    found = refused(disk(image=image))
    assert (found.reason, said in found.message) == ("bad_option", True), found.message


# --- times


@pytest.mark.parametrize(("name", "least"), [("timeout", 1), ("unplug_timeout", 0)])
def test_a_time_is_the_one_that_is_written(name: str, least: int) -> None:
    assert getattr(read_spec({"vm": "web1", name: least}), name) == least
    assert getattr(read_spec({"vm": "web1", name: None}), name) == 30
    assert refused(disk(), **{name: least - 1}).reason == "bad_option"


# --- CD-ROMs and groups of throttling


def test_a_cdrom_that_is_written_to_is_refused() -> None:
    cdrom = disk(device="scsi-cd", image={"path": "/i/a", "format": "raw"})
    assert made(cdrom) == made(dict(cdrom, read_only=True))
    assert refused(dict(cdrom, read_only=False)).reason == "bad_option"


@pytest.mark.parametrize("told", ["a", {"group": "a"}, {"group": "a", "iops_total": 5}, {"iops_total": 5}])
def test_a_group_can_be_called_like_its_drive(told: t.Any) -> None:
    found = made(disk(throttle=told))
    assert found.spec.drives[0].throttle == "a"


def test_a_group_can_be_named_before_it_is_described() -> None:
    first = disk(throttle="g")
    second = disk(id="b", image={"path": "/i/b", "format": "raw"}, throttle={"group": "g", "iops_total": 5})
    assert made(first, second).spec.objects == made(second, first).spec.objects
    assert refused(second, dict(first, throttle={"group": "g", "iops_total": 6})).reason == "duplicate_name"


def test_an_object_is_of_one_kind() -> None:
    thread = [{"qom-type": "iothread", "id": "x"}]
    assert refused(disk(throttle="x"), objects=thread).reason == "duplicate_name"
    group = [{"qom-type": "throttle-group", "id": "x"}]
    assert refused(disk(iothread="x"), objects=group).reason == "duplicate_name"


# --- places on a SCSI bus


def scsi(name: str, **more: t.Any) -> Task:
    return dict({"id": name, "image": {"path": "/i/" + name, "format": "raw"}, "device": "scsi-hd"}, **more)


@pytest.mark.parametrize("told", [{"scsi_id": "0"}, {"scsi_id": "0x0"}, {"properties": {"scsi-id": "0"}}])
@pytest.mark.parametrize("bus", [{}, {"bus": "scsi0.0"}])
def test_a_place_that_is_said_is_given_to_nobody_else(told: Task, bus: Task) -> None:
    controller = [{"device": "virtio-scsi-pci", "id": "scsi0"}] if bus else []
    for drives in ([scsi("n"), scsi("said", **told, **bus)], [scsi("said", **told, **bus), scsi("n"), scsi("m")]):
        found = made(*drives, controllers=controller)
        before = VmState("web1", NOTHING.config, found)
        more = read_spec({"vm": "web1", "drives": [scsi("later")]})
        for each in (found, predict(before, plan_vm(more, before, "/bin/qemu")).defined):
            assert each is not None
            on_bus = [d.frontend for d in each.spec.drives if d.frontend is not None and d.frontend.bus == "scsi0.0"]
            ids = [device.property("scsi-id") for device in on_bus]
            assert len(ids) == len(set(ids)) and 0 in ids, ids


def test_a_place_in_other_words_is_the_same() -> None:
    """As libvirt has it, which says all parts of a place."""
    found = made(scsi("a"), scsi("b"))
    before = VmState("web1", NOTHING.config, found)
    told = [scsi(name, bus="scsi0.0", channel="0", scsi_id=str(number), lun="0") for number, name in enumerate("ab")]
    assert plan_vm(read_spec({"vm": "web1", "drives": told}), before, "/bin/qemu") == []
    assert made(*told, controllers=[{"device": "virtio-scsi-pci", "id": "scsi0"}]).spec == found.spec
    both = [scsi(name, bus="scsi0.0", scsi_id=1, lun=number) for number, name in enumerate("ab")]
    assert [each.frontend.property("lun") for each in made(*both).spec.drives if each.frontend] == [0, 1]
    assert refused(*(dict(each, lun=0) for each in both)).reason == "duplicate_address"


# --- no traceback


@pytest.mark.parametrize(
    "more",
    [
        {"image": {"path": "/i/\0", "format": "raw"}},
        {"image": {"path": "/i/a", "format": "raw\0"}},
        {"image": {"uri": "nbd://h/\0", "format": "raw"}},
        {"serial": "\0"},
        {"bus": "\0"},
        {"device": "\0"},
        {"id": "a\0"},
        {"device_id": "a\0"},
        {"encryption": {"secret_file": "/k\0"}},
        {"properties": {"model": "\0"}},
        {"cache": ["none"]},
        {"cache": False},
        {"cache": {"mode": ["none"]}},
        {"throttle": ["iops_total"]},
        {"throttle": {"iops_total": [1]}},
        {"throttle": {3: 4}},
        {"aio": "\0"},
    ],
)
@pytest.mark.parametrize("style", ["blockdev", "drive_device", "hda"])
def test_what_cannot_be_is_refused(more: Task, style: str) -> None:
    refused(disk(**more), style=style)


@pytest.mark.parametrize("name", ["machine", "qemu", "qmp_socket", "config"])
def test_no_zero_byte_is_taken(name: str) -> None:
    refused(disk(), **{name: "/a\0b"})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.sampled_from(["", "a", "on", "null-co", "/i/a", "\0", "raw"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["driver", "file", "backing", "path", "format", "options", "blockdev", "uri", "mode", "id"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
OF_DRIVES = st.sampled_from([*settings.ALL, "image", "throttle", "cache", "encryption", "properties"])
OF_VMS = st.sampled_from(["controllers", "objects", "nodes"])


@SOME
@given(
    st.dictionaries(OF_DRIVES, ANYTHING, max_size=2),
    st.dictionaries(OF_VMS, st.lists(st.dictionaries(st.text("a-", max_size=3), ANYTHING, max_size=3), max_size=2)),
    st.sampled_from(["blockdev", "drive_device", "drive", "hda"]),
)
def test_whatever_is_written_is_taken_or_refused(more: Task, lists: Task, style: str) -> None:
    try:
        made(disk(**more), style=style, lossy=True, **lists)
    except errors.EngineError as exc:
        assert exc.reason


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "word", "said"),
    [
        (["-m 64M -smp 2"], "-m 64M -smp 2", "[-m, 64M, -smp, 2]"),
        (["-nographic", "-m 64M"], "-m 64M", "[-m, 64M]"),
        (["qemu-system-x86_64", "-m", "64M"], "qemu-system-x86_64", "takes it for a disk"),
        (["-m", "64M", "/i/b"], "/i/b", "takes it for a disk"),
        (["-enable-kvm", "2"], "2", "takes it for a disk"),
        (["--nodefaults", "-async-teardown", "x"], "x", "takes it for a disk"),
    ],
)
def test_words_that_qemu_takes_for_something_else_are_refused(arguments: t.List[str], word: str, said: str) -> None:
    refusal = refused(arguments=arguments)
    assert (refusal.reason, refusal.facts["evidence"]) == ("bad_option", {"option": "arguments", "word": word})
    assert said in refusal.message


def test_a_program_among_arguments_hides_no_drive() -> None:
    """As the value of an option it begins no command line."""
    hidden = ["-drive", "file=/i/b,format=raw,id=b", "-D", "/usr/bin/qemu-system-x86_64"]
    assert "arguments have a drive (b)" in refused(arguments=hidden).message


def test_values_are_as_they_are() -> None:
    words = ["-name", "a b", "-fw_cfg", "-x y", "--m", "64M", "-D", "qemu-kvm"]
    assert list(made(arguments=words).arguments) == words
