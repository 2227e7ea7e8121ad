"""What a VM starts with besides drives: written as arguments, read back, and refused where QEMU would do something else."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.filter.drive_args import drive_args
from ansible_collections.platter.qemu.plugins.filter.drive_parse import drive_parse
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    facts,
    libvirt_style,
    parse_arguments,
    read_spec,
    styles,
)
from ansible_collections.platter.qemu.tests.lab.drives import ODD, PATHS, SOME, drives, maybe

Task = t.Dict[str, t.Any]


def _given(task: Task) -> Task:
    return {key: value for key, value in task.items() if value is not None}


@st.composite
def shares(draw: t.Any, number: int) -> Task:
    """One share. C(number): tells it from others."""
    task: Task = {
        "tag": draw(ODD) + str(number),
        "id": "s%d" % number,
        "addr": draw(maybe(st.just("%x" % (9 + number)))),
    }
    task["properties"] = draw(maybe(st.just({"queue-size": 256})))
    if draw(st.booleans()):
        return _given(dict(task, driver="virtiofs", socket=draw(PATHS)))
    mapped = draw(st.booleans())
    return _given(
        dict(
            task,
            driver="9p",
            path=draw(PATHS),
            security_model=draw(
                st.sampled_from(("mapped-xattr", "mapped-file") if mapped else ("passthrough", "none"))
            ),
            read_only=draw(maybe(st.just(True))),
            multidevs=draw(maybe(st.sampled_from(("remap", "forbid", "warn")))),
            fmode=draw(maybe(st.just("0640"))) if mapped else None,
        )
    )


BOOTS = st.fixed_dictionaries({"kernel": PATHS}, optional={"initrd": PATHS, "append": ODD})
VMS = st.integers(0, 3).flatmap(
    lambda count: st.fixed_dictionaries(
        {"drives": st.tuples(drives(0)).map(list), "shares": st.tuples(*map(shares, range(count))).map(list)},
        optional={"boot": BOOTS, "shared_memory": st.sampled_from(("64M", "2G"))},
    )
)


@SOME
@given(VMS, st.sampled_from(("blockdev", "drive_device")))
def test_what_is_written_is_read_back(vm: Task, style: str) -> None:
    spec = read_spec.read(vm)
    written = styles.render(spec, style)
    assert written.lost == []
    read = parse_arguments.parse(written.words)
    assert (read.spec, read.rest) == (spec, [])
    assert read_spec.read(facts.of_spec(spec)) == spec
    assert drive_args(drive_parse(written.line), style) == written.words


LINES = [
    ("-virtfs local,path=/a,,b,mount_tag=t,security_model=none", {"tag": "t", "path": "/a,b", "multidevs": "warn"}),
    (
        "-fsdev local,id=x,path=/a,security_model=none,readonly -device virtio-9p,fsdev=x,mount_tag=t",
        {"read_only": True},
    ),
    ('-fsdev local,id=x,path=/a -device {"driver":"virtio-9p-pci","fsdev":"x","mount_tag":"t"}', {"id": "x"}),
    ("-chardev socket,id=c,path=/s -device vhost-user-fs-pci,chardev=c,tag=t,queue-size=1024", {"socket": "/s"}),
]


@pytest.mark.parametrize(("line", "told"), LINES)
def test_a_share_is_read_however_it_is_written(line: str, told: Task) -> None:
    read = drive_parse([*line.split(), "-m", "1G"])
    (share,) = read["shares"]
    assert {**share, **told} == share and share["tag"] == "t" and read["rest"] == ["-m", "1G"]


REST = [
    "-fsdev proxy,id=x,socket=/s -device virtio-9p-pci,fsdev=x,mount_tag=t",
    "-fsdev local,id=x,path=/a,security_model=none,writeout=immediate -device virtio-9p-pci,fsdev=x,mount_tag=t",
    "-chardev socket,id=c,path=/s,server=on,wait=off -device virtserialport,chardev=c",
    "-chardev socket,id=c,path=/s -mon chardev=c",
    "-object memory-backend-file,id=m,size=1G,mem-path=/h,share=on -machine memory-backend=m",
    "-object memory-backend-memfd,id=m,size=1G,share=on,hugetlb=on -machine memory-backend=m",
    "-object memory-backend-memfd,id=m,size=1G,share=on -numa node,memdev=m",
]


@pytest.mark.parametrize("line", REST)
def test_what_we_have_no_words_for_stays_in_the_rest(line: str) -> None:
    read = drive_parse(line)
    assert (read["rest"], set(read)) == (line.split(), {"machine", "drives", "program", "rest", "notes"})


def test_a_kernel_is_read_from_the_options_of_the_machine_too() -> None:
    read = drive_parse(["-M", "q35,kernel=/k,accel=tcg", "-append", "a,b=c -x", "-initrd", "/i", "-initrd", "/j"])
    assert read["boot"] == {"kernel": "/k", "initrd": "/j", "append": "a,b=c -x"}
    assert (read["machine"], read["rest"]) == ("q35", ["-M", "type=q35,accel=tcg"])


def test_shared_memory_is_read_where_it_is_nothing_more() -> None:
    read = drive_parse("-object memory-backend-memfd,id=m,size=2G,share=on -machine q35,memory-backend=m -m 2G")
    assert (read["shared_memory"], read["rest"]) == (2 << 30, ["-machine", "type=q35", "-m", "2G"])


NINE_P: Task = {"tag": "t", "driver": "9p", "path": "/a", "security_model": "none"}
SERVED: Task = {"tag": "t", "driver": "virtiofs", "socket": "/s"}
REFUSED: t.List[t.Tuple[str, str, Task]] = [
    ("bad_option", "driver is 'nfs'", {"shares": [{"tag": "t", "driver": "nfs"}]}),
    ("unknown_option", "nothing that a share has", {"shares": [dict(NINE_P, dir="/a")]}),
    ("bad_option", "security_model is not set", {"shares": [{"tag": "t", "driver": "9p", "path": "/a"}]}),
    ("bad_option", "security_model is 'mapped'", {"shares": [dict(NINE_P, security_model="mapped")]}),
    ("bad_option", "multidevs is 'off'", {"shares": [dict(NINE_P, multidevs="off")]}),
    ("bad_option", "the guest chooses them", {"shares": [dict(NINE_P, fmode="0600")]}),
    ("bad_option", "socket is nothing for 9p", {"shares": [dict(NINE_P, socket="/s")]}),
    ("bad_option", "path is nothing for virtiofs", {"shares": [dict(SERVED, path="/a")]}),
    ("bad_option", "Start its virtiofsd with --readonly", {"shares": [dict(SERVED, read_only=True)]}),
    ("bad_path", "'a', which is no absolute path", {"shares": [dict(NINE_P, path="a")]}),
    ("bad_path", "socket is ''", {"shares": [{"tag": "t", "driver": "virtiofs"}]}),
    ("bad_name", "32 bytes", {"shares": [dict(NINE_P, tag="t" * 32)]}),
    ("bad_name", "'/home' is no name for QEMU", {"shares": [dict(NINE_P, tag="/home")]}),
    ("duplicate_name", "two shares have this tag", {"shares": [NINE_P, dict(SERVED, id="u")]}),
    ("duplicate_name", "two devices have the name t", {"shares": [NINE_P, dict(SERVED, tag="u", id="t")]}),
    ("kernel_missing", "only with a kernel", {"boot": {"append": "quiet"}}),
    ("unknown_option", "boot has no dtb", {"boot": {"kernel": "/k", "dtb": "/d"}}),
    ("bad_path", "boot.kernel is 'k'", {"boot": {"kernel": "k"}}),
    ("bad_size", "shared_memory", {"shared_memory": "many"}),
    ("bad_size", "memory has pages", {"shared_memory": 1000}),
]


@pytest.mark.parametrize(("reason", "said", "vm"), REFUSED)
def test_what_cannot_be_is_refused(reason: str, said: str, vm: Task) -> None:
    with pytest.raises(errors.SpecError) as refusal:
        styles.render(read_spec.read(vm), "blockdev")
    assert refusal.value.reason == reason and said in str(refusal.value)


@pytest.mark.parametrize("vm", [{"shares": [NINE_P]}, {"boot": {"kernel": "/k"}}, {"shared_memory": "1G"}])
def test_neither_a_running_vm_nor_a_disk_of_libvirt_has_words_for_it(vm: Task) -> None:
    spec = read_spec.read(vm)
    with pytest.raises(errors.SpecError, match="style qmp: it cannot say shares"):
        styles.render(spec, "qmp")
    with pytest.raises(errors.SpecError, match=r"style libvirt: it cannot say (the share t|boot|shared_memory)"):
        libvirt_style.disks(spec)
    assert styles.render(spec, "drive").words == styles.render(spec, "blockdev").words != []
