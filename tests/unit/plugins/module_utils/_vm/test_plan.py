"""What the definition of a VM's drives comes to be: by one task, by many, and by the same one again."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._drive import settings as settings_of_drives
from ansible_collections.platter.qemu.plugins.module_utils._drive import shares
from ansible_collections.platter.qemu.plugins.module_utils._module import drive_options
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, fixed, warn
from ansible_collections.platter.qemu.plugins.module_utils._vm.plan import plan_vm
from ansible_collections.platter.qemu.plugins.module_utils._vm.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._vm.state import VmState
from ansible_collections.platter.qemu.tests.lab.drives import vms

Task = t.Dict[str, t.Any]
NOTHING = VmState("web1", "/etc/platter/vm/web1")
#: a task is carried out several times for each
FEW = settings(max_examples=settings().max_examples // 10)
KINDS = ("virtio-blk-pci", "scsi-hd", "scsi-cd", "nvme", "usb-storage", "ide-hd", "floppy")


def disk(name: str, device: str = "scsi-hd", **more: t.Any) -> Task:
    return dict({"id": name, "image": {"path": "/i/" + name, "format": "raw"}, "device": device}, **more)


def after(now: VmState, /, *drives: Task, **options: t.Any) -> VmState:
    """What a task leads to. That nothing is left to do then, is shown each time."""
    spec = read_spec(dict({"vm": "web1", "drives": list(drives)}, **options))
    found = predict(now, plan_vm(spec, now, "/bin/qemu"))
    assert plan_vm(spec, found, "/bin/qemu") == []
    return found


def places(state: VmState) -> t.Dict[str, t.Any]:
    assert state.defined
    keys = ("bus", "scsi_id", "unit")
    return {each["id"]: tuple(each[key] for key in keys if key in each) for each in state.defined.to_facts()["drives"]}


def actions(now: VmState, /, *drives: Task, **options: t.Any) -> t.List[str]:
    spec = read_spec(dict({"vm": "web1", "drives": list(drives)}, **options))
    return [str(each).partition(": ")[2] for each in plan_vm(spec, now, "/bin/qemu")]


# --- the same task again, and what was written read back


@FEW
@given(vms(KINDS), vms(KINDS), st.booleans(), st.sampled_from(("pc", "q35")))
def test_a_task_leaves_nothing_to_do(first: t.List[Task], second: t.List[Task], purge: bool, machine: str) -> None:
    try:
        state = after(NOTHING, *first, machine=machine)
        changed = after(state, *second, purge=purge)
    except errors.RefusedError:  # the two have come out with the same image, or too many IDE drives
        assume(False)
    again = after(changed, *second, purge=purge)
    assert again == changed
    assert changed.defined and definition.parse(definition.to_text(changed.defined)) == changed.defined


@FEW
@given(vms(KINDS))
def test_who_stays_keeps_the_place(drives: t.List[Task]) -> None:
    assume(len(drives) > 1)
    try:
        before = after(NOTHING, *drives)
    except errors.RefusedError:
        assume(False)
    left = after(before, {"id": drives[0]["id"], "state": "absent"})
    gone, *stay = [each["id"] for each in drives]
    assert places(left) == {name: places(before)[name] for name in stay}
    assert places(after(before, *drives[1:], purge=True)) == places(left)
    assert gone not in places(left)


def test_a_new_disk_gets_what_is_free_on_the_controller_that_is_there() -> None:
    state = after(NOTHING, disk("a"), disk("b"), disk("c"))
    state = after(state, {"id": "b", "state": "absent"})
    state = after(state, disk("d"), disk("e"))
    assert places(state) == {
        "a": ("scsi0.0", 0),
        "c": ("scsi0.0", 2),
        "d": ("scsi0.0", 1),
        "e": ("scsi0.0", 3),
    }
    assert [each.id for each in state.defined.spec.controllers] == ["scsi0"] if state.defined else False


def test_a_controller_that_nothing_is_on_goes_with_the_last_disk() -> None:
    state = after(after(NOTHING, disk("a"), disk("v", "virtio-blk-pci")), {"id": "a", "state": "absent"})
    assert state.defined and state.defined.spec.controllers == ()


def test_a_place_that_a_task_says_counts_and_one_that_it_does_not_say_any_more_is_given_anew() -> None:
    state = after(NOTHING, disk("a"), disk("b", scsi_id=7))
    assert places(state)["b"] == ("scsi0.0", 7)
    assert places(after(state, disk("a", scsi_id=3)))["a"][-1] == 3
    assert places(after(state, disk("b")))["b"] == ("scsi0.0", 1)


@pytest.mark.parametrize("device", ["ide-hd", "ide-cd", "scsi-hd", "usb-storage", "virtio-blk-pci"])
def test_a_place_that_a_template_leaves_empty_is_none(device: str) -> None:
    empty = after(NOTHING, disk("a", device, bus=""))
    assert places(empty) == places(after(NOTHING, disk("a", device))) == places(after(empty, disk("a", device, bus="")))


def test_another_machine_has_other_places() -> None:
    state = after(NOTHING, disk("a", "ide-hd"), disk("b", "ide-hd"))
    assert places(state) == {"a": ("ide.0", 0), "b": ("ide.0", 1)}
    assert places(after(state, machine="q35")) == {"a": ("ide.0", 0), "b": ("ide.1", 0)}


# --- what a task does not say stays


def test_what_is_not_listed_stays_unless_it_is_purged() -> None:
    state = after(NOTHING, disk("a"), disk("b"), arguments=["-m", "1G"], style="drive_device")
    more = after(state, disk("c"))
    assert list(places(more)) == ["a", "b", "c"]
    assert more.defined and (more.defined.arguments, more.defined.style) == (("-m", "1G"), "drive_device")
    assert list(places(after(more, disk("c"), purge=True))) == ["c"]
    assert after(more).defined == more.defined


def test_what_changes_is_named() -> None:
    state = after(NOTHING, disk("a"), disk("b", serial="B"))
    assert actions(NOTHING, disk("a"), disk("b")) == ["add a, b."]
    assert actions(state, disk("b", cache="none"), disk("c"), {"id": "a", "state": "absent"}) == [
        "add c; remove a; change b (cache, serial)."
    ]
    assert actions(state, disk("b", serial="B", share=True), style="drive_device", arguments=["-m", "2G"]) == [
        "change b (share); change style; change arguments."
    ]
    assert actions(state, disk("b", serial="B"), disk("a"), purge=True) == ["order of the drives."]


def test_the_same_drive_in_other_words_is_no_change() -> None:
    state = after(NOTHING, disk("a", cache="none"))
    assert actions(state, disk("a", cache={"direct": True}, serial=None)) == []


def test_files_that_others_have_changed_are_written_anew() -> None:
    state = after(NOTHING, disk("a"))
    broken = VmState("web1", state.config, state.defined, whole=False, left=True)
    assert actions(broken, disk("a")) == ["written anew, as its files were not what they should be."]


def test_a_start_asks_what_this_version_asks() -> None:
    state = after(NOTHING, disk("a"))
    earlier = VmState("web1", state.config, state.defined, left=True, current=False)
    assert actions(earlier, disk("a")) == ["what looks at its images before a start is of another version."]
    assert after(earlier, disk("a")) == state


def test_absent_is_absent() -> None:
    state = after(NOTHING, disk("a"))
    assert after(state, state="absent") == NOTHING
    assert actions(NOTHING, state="absent") == []


def test_a_vm_can_have_no_drives() -> None:
    state = after(NOTHING, boot={"kernel": "/boot/vmlinuz", "append": "quiet"}, arguments=["-m", "1G"])
    assert state.defined and state.defined.general() == ["-name", "web1", "-m", "1G"]
    assert state.defined.drive_words() == ["-kernel", "/boot/vmlinuz", "-append", "quiet"]


# --- what it starts with besides drives


NINE_P: Task = {"tag": "home", "driver": "9p", "path": "/home", "security_model": "mapped-xattr"}
SERVED: Task = {"tag": "data", "driver": "virtiofs", "socket": "/run/data.sock"}


def besides(state: VmState) -> t.List[t.Any]:
    assert state.defined
    shown = state.defined.to_facts()
    return [[each["tag"] for each in shown.get("shares", ())], shown.get("boot"), shown.get("shared_memory")]


def test_shares_come_and_go_by_their_tags_and_the_rest_stays() -> None:
    boot = {"kernel": "/boot/vmlinuz"}
    first = {"shares": [NINE_P], "boot": boot}
    assert actions(NOTHING, **first) == ["add share home; add boot."]
    one = after(NOTHING, **first)
    two = after(one, shares=[SERVED], shared_memory="1G")
    assert besides(two) == [["home", "data"], boot, 1 << 30]
    change = {"shares": [dict(NINE_P, read_only=True), {"tag": "data", "state": "absent"}], "boot": {}}
    assert actions(two, **change) == ["change share home; remove share data; remove boot."]
    assert besides(after(two, **change)) == [["home"], None, 1 << 30]
    assert besides(after(two, disk("a"), purge=True)) == [[], boot, 1 << 30]
    assert besides(after(two, shared_memory="0", purge=True)) == [[], boot, None]


OWN = ["-object", "memory-backend-file,id=m,size=1G,mem-path=/huge,share=on", "-numa", "node,memdev=m", "-m", "1G"]


def test_memory_that_is_shared_may_be_ones_own() -> None:
    assert besides(after(NOTHING, shares=[SERVED], arguments=OWN)) == [["data"], None, None]
    after(NOTHING, shares=[SERVED], shared_memory="1G", arguments=["-m", "1024"])
    after(NOTHING, shares=[SERVED], shared_memory="1G", arguments=["-m", "size=1G,slots=2,maxmem=2G"])


def test_what_a_vm_was_started_with_stays_until_it_is_started_again() -> None:
    old = after(NOTHING, shares=[NINE_P, SERVED], shared_memory="1G", boot={"kernel": "/k"}).defined
    new = after(NOTHING, shares=[dict(NINE_P, read_only=True)], boot={"kernel": "/k", "append": "quiet"}).defined
    assert old and new
    words = ["qemu-system-x86_64", *old.general(), *old.drive_words()]
    assert fixed.needed(old.spec, words) == fixed.needed(old.spec, []) == []
    told = dict(fixed.needed(new.spec, words))
    assert told == {
        "share home": "it is shared otherwise than it is defined",
        "share data": "the VM was started with it, and it is not defined",
        "boot": "it was started with kernel=/k, and is defined with kernel=/k append=quiet",
        "shared_memory": "it was started with 1073741824, and is defined without",
    }
    ((_what, why),) = fixed.needed(new.spec, ["qemu-system-x86_64", "-kernel", "/k", "-append", "quiet"])
    assert why == "the VM was started without it"


# --- what is refused

BELOW = {"driver": "qcow2", "file": {"driver": "preallocate", "file": {"driver": "file", "filename": "a"}}}
SOCKET = {"driver": "nbd", "server": {"type": "unix", "path": "s"}}


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("bad_name", {"vm": "a b"}),
        ("bad_name", {"vm": "../x"}),
        ("bad_path", {"config": "etc/x"}),
        ("bad_path", {"config": "/etc/../x"}),
        ("bad_option", {"drives": [{"device": "scsi-hd"}]}),
        ("bad_option", {"drives": [disk("a", state="gone")]}),
        ("bad_option", {"arguments": ["-drive", "file=/x"]}),
        ("bad_option", {"arguments": ["/x.img"]}),
        ("bad_option", {"arguments": ["-enable-sync-profile", "/x.img"]}),
        ("bad_option", {"arguments": ["-readconfig", "/x.cfg"]}),
        ("bad_option", {"arguments": ["--readconfig", "/x.cfg"]}),
        ("bad_option", {"arguments": ["-set", "drive.a.file=/x.img"]}),
        ("bad_option", {"arguments": ["-set", "device.a.drive=b"]}),
        ("bad_path", {"drives": [disk("a", image={"path": "a.img", "format": "raw"})]}),
        ("bad_path", {"drives": [disk("a", image={"path": "./a.img", "format": "raw"})]}),
        ("bad_path", {"drives": [disk("a", image={"path": "/dev/fdset/1", "format": "raw"})]}),
        ("bad_path", {"drives": [disk("a", image={"path": "/proc/self/fd/4", "format": "raw"})]}),
        ("bad_path", {"drives": [disk("a", image={"path": "//proc/self/fd/4", "format": "raw"})]}),
        ("bad_path", {"drives": [disk("a", image={"path": "/srv/../dev/./stdin", "format": "raw"})]}),
        ("bad_path", {"drives": [disk("a", image={"blockdev": {"driver": "file", "filename": "a"}})]}),
        ("bad_path", {"drives": [disk("a", image={"blockdev": BELOW})]}),
        ("bad_path", {"nodes": [dict(BELOW, **{"node-name": "n"})]}),
        ("bad_path", {"drives": [disk("a", image={"blockdev": SOCKET})]}),
        (
            "bad_path",
            {"drives": [disk("a", image={"path": "/a", "format": "luks"}, encryption={"secret_file": "key"})]},
        ),
        ("bad_path", {"drives": [disk("a", image={"path": "a.img"})], "style": "hda", "lossy": True}),
        ("secret_in_arguments", {"arguments": ["-object", "secret,id=s,data=x"]}),
        ("duplicate_name", {"drives": [disk("a"), disk("a")]}),
        ("duplicate_name", {"drives": [disk("a"), {"id": "a", "state": "absent"}]}),
        ("unknown_option", {"drives": [disk("a", colour="red")]}),
        ("aio_needs_direct", {"drives": [disk("a", aio="native")]}),
        ("style_cannot", {"drives": [disk("a")], "style": "drive"}),
        ("bad_option", {"arguments": ["-kernel", "/k"]}),
        ("bad_option", {"arguments": ["-virtfs", "local,path=/a,mount_tag=t,security_model=none"]}),
        ("bad_option", {"shares": [{"driver": "9p"}]}),
        ("duplicate_name", {"shares": [NINE_P, NINE_P]}),
        ("kernel_missing", {"boot": {"initrd": "/i"}}),
        ("memory_not_shared", {"shares": [SERVED], "arguments": ["-m", "1G"]}),
        ("memory_not_shared", {"shares": [SERVED], "arguments": [word.replace("on", "off") for word in OWN]}),
        ("bad_option", {"shared_memory": "1G", "arguments": ["-m", "1G", "-m", "2G"]}),
        ("image_missing", {"drives": [{"id": "a", "cache": "writeback"}]}),
        ("image_missing", {"drives": [{"id": "a", "cache": "writeback"}], "lossy": True}),
    ],
)
def test_contradictions_are_refused(reason: str, options: Task) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_vm(read_spec({"vm": "web1", **options}), NOTHING, "/bin/qemu")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("options", "evidence"),
    [
        ({"drives": [{"id": "a", "device": "scsi-hd"}]}, {"drive": "a"}),
        ({"drives": [disk("a", colour="red")]}, {"drive": "a"}),
        ({"drives": [disk("a", image={"path": "/a"})]}, {"drive": "a", "images": {"a": "/a"}}),
        ({"drives": [disk("a", image={"path": "a", "format": "raw"})]}, {"drive": "a", "paths": ["a"]}),
        ({"shares": [dict(NINE_P, security_model=None)]}, {"share": "home"}),
        ({"boot": {"kernel": "k"}}, {"path": "k"}),
        ({"arguments": ["-hda", "/x.img"]}, {"drives": ["ide0-hd0"]}),
        ({"arguments": ["-readconfig", "/x.cfg"]}, {"arguments": ["-readconfig", "/x.cfg"]}),
    ],
)
def test_a_refusal_has_what_it_is_about_as_evidence(options: Task, evidence: Task) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        plan_vm(read_spec({"vm": "web1", **options}), NOTHING, "/bin/qemu")
    assert caught.value.facts["evidence"] == evidence


def test_all_that_lack_a_format_and_all_relative_paths_are_named_at_once() -> None:
    cd = {"id": "cd", "image": {"path": "c.iso"}, "device": "ide-cd", "read_only": True}
    with pytest.raises(errors.RefusedError, match=r"Nor are the formats of b \(/b\), cd \(c.iso\)") as caught:
        after(NOTHING, disk("a", image={"path": "/a"}), disk("b", image={"path": "/b"}), cd)
    assert caught.value.facts["evidence"]["images"] == {"a": "/a", "b": "/b", "cd": "c.iso"}
    with pytest.raises(errors.RefusedError, match=r"its format is not given, .* name other files") as caught:
        after(NOTHING, cd)
    assert "guest" not in caught.value.message
    raw = [disk(name, image={"path": name, "format": "raw"}) for name in ("a", "b", "c")]
    with pytest.raises(errors.RefusedError, match=r"; so is b \(drive b\), c \(drive c\)\."):
        after(NOTHING, *raw)


def test_one_thing_of_a_drive_does_not_replace_all_of_it() -> None:
    state = after(NOTHING, disk("a"), disk("b"), lossy=True)
    with pytest.raises(errors.RefusedError, match="a: it has neither image nor device, and a listed drive replaces"):
        actions(state, {"id": "a", "cache": "writeback"})


# --- what is said at every run


def said(*drives: Task, **options: t.Any) -> t.List[str]:
    made = after(NOTHING, *drives, **options).defined
    assert made
    return warn.warnings(made)


def test_what_a_style_leaves_out_is_told() -> None:
    assert said(disk("a", "ide-hd")) == []
    (warning,) = said(disk("a", "ide-hd", serial="S"), style="drive", lossy=True)
    assert warning == ("VM web1 is started without serial=S of a: style drive has no words for it, and lossy is set.")
    shown = after(NOTHING, disk("a", "ide-hd", serial="S"), style="drive", lossy=True).to_facts()
    assert (shown["lost"], "lost" in after(NOTHING, disk("a")).to_facts()) == (["serial=S of a"], False)


def test_a_drive_that_no_guest_sees_is_told_unless_another_one_names_it() -> None:
    base = {"id": "base", "image": {"path": "/i/base", "format": "raw"}, "read_only": True}
    (warning,) = said(base)
    assert warning.startswith("drive base of VM web1 has no device, so the guest does not see it")
    tree = {"driver": "qcow2", "file": {"driver": "file", "filename": "/i/top"}, "backing": "base"}
    assert said(base, {"id": "top", "image": {"blockdev": tree}, "device": "scsi-hd"}) == []
    assert said({"id": "cd", "device": "scsi-cd"}) == []


def test_of_many_overlays_some_are_named_and_the_others_counted() -> None:
    claim = claims.Claim("d", True, "/i/base", True)
    told = warn.built_on("web1", claim, ["/i/%d" % number for number in range(7)])
    assert "which is the backing file of /i/0, /i/1, /i/2, /i/3, /i/4 and 2 more. What" in told


def test_a_definition_of_nothing_is_told() -> None:
    assert said() == ["VM web1 is defined without any drive, share, kernel or arguments."]
    for task in ({"arguments": ["-m", "1G"]}, {"boot": {"kernel": "/boot/vmlinuz"}}, {"shared_memory": "1G"}):
        assert said(**task) == []


@pytest.mark.parametrize(
    "known, asked, told",
    [
        ("system", "sytsem", True),
        ("system", "systm", True),
        ("disk", "disk2", False),
        ("disk12", "disk21", False),
        ("data", "logs", False),
        ("disk-a", "disk-b", False),
    ],
)
def test_a_slip_in_the_id_of_what_is_to_go_is_told(known: str, asked: str, told: bool) -> None:
    made = after(NOTHING, disk(known)).defined
    assert made
    gone: Task = {"id": asked, "state": "absent"}
    warnings = warn.misspelt(read_spec({"vm": "web1", "drives": [gone]}), made)
    assert bool(warnings) == told and all("no drive %s" % asked in each for each in warnings)
    assert warn.misspelt(read_spec({"vm": "web1", "drives": [disk(known), gone]}), made) == []


def test_the_module_has_all_that_a_drive_has() -> None:
    assert set(drive_options.drive_options()) == {*settings_of_drives.ALL, "state", "share"}
    assert set(drive_options.share_options()) == {*shares.ALL, "state"}
    assert set(drive_options.argument_spec()) >= {*settings_of_drives.OF_VM}
