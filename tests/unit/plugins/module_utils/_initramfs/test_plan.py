"""What is asked of an initramfs: options that contradict each other, the order of modules, and the bytes of the file."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import predict
from ansible_collections.platter.qemu.plugins.module_utils._initramfs import archive, init_script, kernel_modules, plan
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.spec import InitramfsSpec
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.state import InitramfsReading, InitramfsState

Task = t.Dict[str, t.Any]
UUID = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11"
LEGS = ["nbd://192.0.2.1/root-a", "nbd://192.0.2.2:10810/root-b"]
RAID: Task = {"type": "nbd_raid", "uuid": UUID, "legs": LEGS}
NINE_P: Task = {"type": "9p", "source": "root"}
NFS: Task = {"type": "nfs", "source": "192.0.2.1:/srv/web1"}
ROOTS = [RAID, NINE_P, NFS, {"type": "virtiofs", "source": "root"}]


def spec_of(root: t.Optional[Task] = None, **more: t.Any) -> InitramfsSpec:
    return read_spec({"path": "/d/i", "state": "present", "root": root or NINE_P, "wait": 120, **more}, "6.1.0")


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root["type"])
@pytest.mark.parametrize("before", ("", "0" * 64, "1" * 64))
def test_a_plan_leaves_nothing_to_do(root: Task, before: str) -> None:
    spec, state = spec_of(root), InitramfsState("/d/i", before, 7 if before else 0)
    reading = InitramfsReading(content=b"seven b", sha256="1" * 64)
    steps = plan.plan_initramfs(spec, state, reading)
    assert len(steps) == (before != "1" * 64)
    assert plan.plan_initramfs(spec, predict(state, steps), reading) == []


def test_what_is_not_ours_is_neither_replaced_nor_removed() -> None:
    for spec in (spec_of(), InitramfsSpec("/d/i")):
        with pytest.raises(errors.RefusedError) as refused:
            plan.plan_initramfs(spec, InitramfsState("/d/i"), InitramfsReading(sha256="1"), "it is a letter")
        assert refused.value.reason == "initramfs_foreign"


@pytest.mark.parametrize(
    ("told", "task"),
    (
        ("plain NBD", {"root": {**RAID, "legs": ["nbds://192.0.2.1/a", LEGS[1]]}}),
        ("plain NBD", {"root": {**RAID, "legs": ["nbd+unix:///a?socket=/s", LEGS[1]]}}),
        ("no IPv4 address", {"root": {**RAID, "legs": ["nbd://store1.example.org/a", LEGS[1]]}}),
        ("two legs", {"root": {**RAID, "legs": LEGS[:1]}}),
        ("the same export", {"root": {**RAID, "legs": [LEGS[0], "nbd://192.0.2.1:10809/root-a"]}}),
        ("no UUID", {"root": {**RAID, "uuid": "data"}}),
        ("root.filesystem", {"root": {**RAID, "filesystem": "ext4; reboot"}}),
        ("root.io_timeout is 0", {"root": {**RAID, "io_timeout": 0}}),
        ("root.source is nothing", {"root": {**RAID, "source": "root"}}),
        ("the network", {"root": RAID, "network": {"address": "none"}}),
        ("root.legs is nothing for 9p", {"root": {**NINE_P, "legs": LEGS}}),
        ("root.uuid is nothing for nfs", {"root": {**NFS, "uuid": UUID}}),
        ("root.source is not set", {"root": {"type": "9p"}}),
        ("is not address:/path", {"root": {**NFS, "source": "store1:/srv/web1"}}),
        ("is not address:/path", {"root": {**NFS, "source": "192.0.2.1"}}),
        ("root.options", {"root": {**NFS, "options": "rw nolock"}}),
        ("control", {"root": {**NINE_P, "source": "a\nb"}}),
        ("root.init", {"root": {**NINE_P, "init": "sbin/init"}}),
        ("network.address", {"network": {"address": "192.0.2.7"}}),
        ("network.address", {"network": {"address": "web1"}}),
        ("network.gateway without", {"network": {"address": "dhcp", "gateway": "192.0.2.1"}}),
        ("network.gateway: 'x'", {"network": {"address": "192.0.2.7/24", "gateway": "x"}}),
        ("network.interface", {"network": {"address": "dhcp", "interface": "../eth0"}}),
        ("modules", {"modules": ["../e1000"]}),
        ("wait is 0", {"wait": 0}),
        ("modules_directory", {"modules_directory": "lib/modules"}),
        ("not an absolute path", {"path": "i"}),
    ),
)
def test_options_that_contradict_each_other_are_refused(told: str, task: Task) -> None:
    with pytest.raises(errors.SpecError, match=told):
        spec_of(**task)


def test_a_root_over_the_network_gets_one_by_itself() -> None:
    assert [spec_of(root).network.address for root in ROOTS] == ["dhcp", "none", "dhcp", "none"]
    assert spec_of(NFS, network={"address": "192.0.2.7/24"}).network.address == "192.0.2.7/24"


DEP = """kernel/a/raid1.ko.xz: kernel/a/md-mod.ko.xz
kernel/a/md-mod.ko.xz:
kernel/b/libcrc32c.ko:
kernel/b/crc32c_generic.ko:
kernel/b/crc32c-intel.ko:
kernel/c/xfs.ko: kernel/b/libcrc32c.ko
"""
TABLES = kernel_modules.Tables(
    DEP,
    "kernel/fs/ext4/ext4.ko\n",
    "# made by depmod\nsoftdep libcrc32c pre: crc32c post: other\n",
    "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias pci:v* xfs\n",
)


def test_modules_come_after_those_that_they_need_and_want() -> None:
    chosen = kernel_modules.choose(TABLES, ["raid1", "ext4", "xfs", "raid1"], ["virtio_pci"])
    assert list(chosen.files) == ["md_mod", "raid1", "crc32c_intel", "crc32c_generic", "libcrc32c", "xfs"]
    assert (chosen.files["md_mod"], chosen.missing) == ("kernel/a/md-mod.ko.xz", [])


def test_a_module_that_the_kernel_does_not_have_is_named() -> None:
    assert kernel_modules.choose(TABLES, ["raid1", "9p"]).missing == ["9p"]
    assert kernel_modules.choose(TABLES, ["crc32c"]).missing == []


def test_the_same_entries_make_the_same_bytes_whatever_their_order() -> None:
    entries = [archive.program("bin/a", b"A"), archive.link("bin/b", "a"), archive.directory("etc")]
    assert archive.render(entries) == archive.render(entries[::-1])
    assert archive.is_ours(archive.render(entries)[:128])
    assert not archive.is_ours(b"070701" + b"0" * 122)
    assert archive.render(entries) != archive.render([archive.program("bin/a", b"B"), *entries[1:]])


HOSTILE = "a'b\"c$(reboot)`reboot`\\"


def test_what_the_task_says_is_no_program() -> None:
    """Outside of quotes no part of it is left that a shell would take for more than a word."""
    for root in ({**NINE_P, "source": HOSTILE}, {**NFS, "source": "192.0.2.1:/" + HOSTILE, "init": "/" + HOSTILE}):
        text = init_script.init_script(spec_of(root))
        assert "'\"'\"'b\"c$(reboot)`reboot`\\'" in text
        assert "\\$(reboot)\\`reboot\\`\\\\" in text


def test_options_of_the_task_come_behind_ours() -> None:
    assert "cache=mmap,cache=none root" in init_script.init_script(spec_of({**NINE_P, "options": "cache=none"}))
    nfs = init_script.init_script(spec_of({**NFS, "options": "vers=4.1,port=12049", "read_only": True}))
    assert "for version in 4.1; do" in nfs and "-o ro,vers=$version,addr=192.0.2.1,sec=sys,port=12049 " in nfs


def test_an_array_is_forced_only_where_the_task_says_so_and_then_last() -> None:
    assert "--run" not in init_script.init_script(spec_of(RAID))
    allowed = init_script.init_script(spec_of({**RAID, "start_degraded": True}))
    assert "until_done assemble || assemble --run || give_up" in allowed
    assert "--force" not in allowed
