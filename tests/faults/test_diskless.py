"""VMs without disks boot from each kind of root and answer; what is away is waited for, and what may be old is not taken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab import diskless
from ansible_collections.platter.qemu.tests.lab.diskless import Diskless, own_host
from ansible_collections.platter.qemu.tests.lab.linux import MODULES, kernel_with
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.stores import Store

pytestmark = pytest.mark.xdist_group("diskless")
soak = pytest.mark.soak
Task = t.Dict[str, t.Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of this test only; so are the links to all VMs."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()
    return tmp_path


def test_a_root_over_9p(place: Path) -> None:
    tree, vm = diskless.plant(place / "tree"), Diskless(place, ("9p", "9pnet_virtio"))
    assert vm.make({"type": "9p", "source": "root"}, network={"address": "dhcp"})["changed"]
    share = {"tag": "root", "driver": "9p", "path": str(tree), "security_model": "passthrough"}
    with vm.booted(shares=[share]) as guest:
        assert vm.answer().startswith("root / 9p rw")
        guest.run("echo from the guest >/note; sync")
    assert (tree / "note").read_text() == "from the guest\n"


def test_a_root_over_virtiofs(place: Path) -> None:
    tree, vm = diskless.plant(place / "tree"), Diskless(place, ("virtiofs",))
    assert vm.make({"type": "virtiofs", "source": "root"}, network={"address": "dhcp"})["changed"]
    with diskless.virtiofs(tree, place / "served") as share, vm.booted(shares=[share], shared_memory="256M") as guest:
        assert vm.answer().startswith("root / virtiofs rw")
        guest.run("echo from the guest >/note; sync")
    assert (tree / "note").read_text() == "from the guest\n"


def test_a_root_over_nfs_with_an_address_of_its_own(place: Path) -> None:
    tree, vm = diskless.plant(place / "tree"), Diskless(place, ("nfs", "nfsv4"))
    with diskless.nfs(tree, place) as network:
        root = {"type": "nfs", "source": f"{diskless.NFS}:/web1", "options": "noatime"}
        own = {"address": "10.0.2.15/24", "gateway": "10.0.2.2", "interface": "eth0"}
        assert vm.make(root, network=own)["changed"]
        with vm.booted(network=network) as guest:
            assert vm.answer().startswith(f"{diskless.NFS}:/web1 / nfs4 rw,noatime,vers=4.2")
            guest.run("echo from the guest >/note; sync")
        assert (tree / "note").read_text() == "from the guest\n"


@pytest.fixture
def legs(place: Path) -> t.Iterator[list[Store]]:
    """The two servers of an array that has a root on it. They do not run yet."""
    if not (shutil.which("nbd-client") or shutil.which("nbd-client", path="/usr/sbin:/sbin")):
        pytest.skip("nbd-client is not installed")
    made = [Store(leg) for leg in diskless.legs(place, diskless.plant(place / "tree", ("mdadm",)))]
    try:
        yield made
    finally:
        for store in made:
            store.kill()


def root_on(legs: list[Store]) -> Task:
    return {"type": "nbd_raid", "uuid": str(diskless.ARRAY), "legs": [leg.uri for leg in legs]}


def test_a_root_over_nbd_outlives_a_server_which_gets_what_it_missed_at_the_next_boot(
    place: Path, legs: list[Store]
) -> None:
    vm = Diskless(place, ("nbd", "raid1"))
    assert vm.make(root_on(legs))["changed"]
    legs[0].start()
    with vm.booted(wait=False) as guest:
        legs[1].start()  # a moment later: it is waited for
        guest.boot()
        assert vm.answer().startswith("/dev/md0 / ext4 rw")
        guest.run("mdadm --grow /dev/md0 --bitmap=internal; sync")
        guest.wait(lambda: "[UU]" in guest.run("cat /proc/mdstat"), "both legs have all of it")
        legs[1].kill()
        guest.run("dd if=/dev/urandom of=/note bs=64k count=16 2>/dev/null; sync", timeout=180)
        assert "[U_]" in guest.run("cat /proc/mdstat")
        assert vm.answer().startswith("/dev/md0 / ext4 rw")
        guest.power_off()
    assert diskless.events(legs[0].image) > diskless.events(legs[1].image)
    legs[1].start()
    with vm.booted() as guest:
        guest.wait(lambda: "[UU]" in guest.run("cat /proc/mdstat"), "the leg that was away has all of it")
        assert vm.answer().startswith("/dev/md0 / ext4 rw")
        guest.run("sync; echo 1 >/proc/sys/kernel/sysrq; echo u >/proc/sysrq-trigger")
        guest.power_off()
    first, second = (leg.image.read_bytes()[diskless.MIB : -diskless.MIB] for leg in legs)
    assert first == second


@soak
def test_a_leg_that_may_be_old_is_not_started_alone(place: Path, legs: list[Store]) -> None:
    vm = Diskless(place, ("nbd", "raid1"))
    assert vm.make(root_on(legs), wait=15)["changed"]
    legs[0].start()
    before = legs[0].image.read_bytes()
    with vm.booted(wait=False) as guest:
        wait_until(lambda: "too few legs" in guest.console(), "it gives up")
    assert legs[0].image.read_bytes() == before

    # unless the task says that the other one is lost
    assert vm.make({**root_on(legs), "start_degraded": True}, wait=15)["changed"]
    with vm.booted() as guest:
        assert "[U_]" in guest.run("cat /proc/mdstat")
        assert vm.answer().startswith("/dev/md0 / ext4 rw")


def test_legs_that_have_gone_on_without_each_other_are_left_as_they_are(place: Path, legs: list[Store]) -> None:
    vm = Diskless(place, ("nbd", "raid1"))
    root = {**root_on(legs), "start_degraded": True}
    assert vm.make(root)["changed"]
    for leg in legs:
        leg.start()
    with vm.booted() as guest:
        guest.run("mdadm --grow /dev/md0 --bitmap=internal; sync")
        guest.wait(lambda: "[UU]" in guest.run("cat /proc/mdstat"), "both legs have all of it")
        guest.run("sync; echo 1 >/proc/sys/kernel/sysrq; echo u >/proc/sysrq-trigger")
        guest.power_off()
    assert vm.make(root, wait=15)["changed"]  # for a leg that does not come
    for leg, other in (legs, legs[::-1]):
        leg.kill()
        other.kill()
        leg.start()
        with vm.booted() as guest:
            guest.run(f"echo {leg.name} >/note; sync; echo 1 >/proc/sys/kernel/sysrq; echo u >/proc/sysrq-trigger")
            guest.power_off()
    before = [leg.image.read_bytes() for leg in legs]
    legs[0].start()
    # a busy machine must not start the one before it has seen the other
    assert vm.make(root)["changed"]
    with vm.booted(wait=False) as guest:
        wait_until(lambda: "two legs have gone on without each other" in guest.console(), "it gives up")
    assert [leg.image.read_bytes() for leg in legs] == before


PLAYBOOK = Path(__file__).resolve().parents[2] / "playbooks" / "diskless.yml"


@soak
def test_the_playbook_has_a_vm_that_answers_and_the_second_run_changes_nothing(place: Path) -> None:
    """The role, with a root tree that it lays from a directory."""
    image, modules = kernel_with(("9p", "9pnet_virtio"))
    elsewhere = {"diskless_vm_kernel": str(image), "diskless_vm_modules_directory": str(modules)}
    options = {
        "ansible_python_interpreter": sys.executable,
        "diskless_port": free_port(),
        # found by the role, where it is installed
        **({"diskless_vm_kernel_release": modules.name} if modules.parent == MODULES else elsewhere),
    }
    with own_host(place) as host:

        def play(*more: str, **variables: object) -> dict[str, int]:
            """What the recap counts."""
            told = json.dumps({**options, **variables})
            command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", told]
            said = host.run(*command, PLAYBOOK, *more)
            return {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", said.rpartition("PLAY RECAP")[2])}

        assert play("--check")["changed"] > 0
        assert host.run("find", "/srv", "/run", "-name", "*diskless*") == ""
        assert play()["changed"] > 0
        assert host.run("busybox", "wget", "-qO-", f"http://127.0.0.1:{options['diskless_port']}/").startswith(
            "I have no disk. My root is: root / 9p"
        )
        assert play()["changed"] == play("--check")["changed"] == 0
        host.run("sh", "-c", "echo mine >/srv/platter-diskless/diskless1/note")
        assert play("--check", diskless_state="absent")["changed"] > 0
        assert play(diskless_state="absent")["changed"] > 0
        assert play(diskless_state="absent")["changed"] == 0
        assert host.run("cat", "/srv/platter-diskless/diskless1/note") == "mine\n"
        assert host.run("find", "/run/platter", "/etc/platter", "/var/lib/platter", "-name", "*diskless1*") == ""


LAID = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: platter.qemu.diskless_vm, tasks_from: serve}
      vars:
        diskless_vm_name: '{{ item.by }}'
        diskless_vm_root: '{{ item }}'
      loop: '{{ roots }}'
"""


@soak
def test_a_tree_is_laid_once_as_it_is_in_an_archive_or_an_image(place: Path) -> None:
    tree = diskless.plant(place / "tree")
    (tree / "etc" / "own").write_text("theirs")
    os.chown(tree / "etc" / "own", 1234, 1235)
    (tree / "etc" / "own").chmod(0o4711)
    archive, image, playbook = place / "tree.tar.gz", place / "tree.raw", place / "laid.yml"
    subprocess.run(["tar", "-C", tree, "--numeric-owner", "-czf", archive, "."], check=True)
    subprocess.run(["truncate", "-s", "32M", image], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image], check=True)
    playbook.write_text(LAID)
    roots = [
        {"by": "9p", "path": "/srv/roots/a", "from": {"archive": str(archive)}},
        {"by": "virtiofs", "path": "/srv/roots/b", "from": {"image": str(image), "format": "raw"}},
    ]
    with own_host(place) as host:

        def play(roots: list[Task], check: bool = True) -> str:
            told = json.dumps({"ansible_python_interpreter": sys.executable, "roots": roots})
            command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", told]
            return host.run(*command, playbook, check=check)

        play(roots)
        for root in roots:
            assert host.run("stat", "-c", "%u %g %a", f"{root['path']}/etc/own") == "1234 1235 4711\n"
            assert host.run("readlink", f"{root['path']}/bin/sh") == "busybox\n"
            host.run("sh", "-c", f"echo mine >{root['path']}/etc/own")
        assert host.run("ls", "/srv/roots") == "a\nb\n"
        assert host.run("stat", "-c", "%a", "/srv/roots") == "700\n"
        assert " changed=0 " in play(roots)
        assert host.run("cat", "/srv/roots/a/etc/own", "/srv/roots/b/etc/own") == "mine\nmine\n"

        with image.open("r+b") as stream:  # what is behind the superblock
            stream.seek(2048)
            stream.write(bytes(1024))
        damaged = {"by": "virtiofs", "path": "/srv/roots/c", "from": roots[1]["from"]}
        assert "mount: /srv/roots/c.partial: " in play([damaged], check=False)
        assert (
            host.run("ls", "/srv/roots", "/srv/roots/c.partial")
            == "/srv/roots:\na\nb\nc.partial\n\n/srv/roots/c.partial:\n"
        )

        everybody = {"by": "nfs", "path": "/srv/roots/a", "clients": ["*.example.org"]}
        assert "refused: the export of /srv/roots/a: clients has" in play([everybody], check=False)
        assert host.run("sh", "-c", "ls /etc/exports.d/platter-nfs.exports 2>/dev/null || true") == ""

        host.run("mkdir", "-m", "1777", "/srv/open")
        beside = {"by": "9p", "path": "/srv/open/a", "from": {"archive": str(archive)}}
        assert "others than root can put something into /srv/open" in play([beside], check=False)
        assert host.run("ls", "/srv/open") == ""


ASKED = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_tasks: asked.yml
      loop: '{{ roots }}'
"""
ONE = """
- block:
    - ansible.builtin.include_role: {name: platter.qemu.diskless_vm, tasks_from: serve}
      vars:
        diskless_vm_name: '{{ item.name | default("web1") }}'
        diskless_vm_root: '{{ item.root }}'
        diskless_vm_state: '{{ item.state | default("started") }}'
  rescue:
    - ansible.builtin.debug: {msg: 'Said: {{ ansible_failed_result.msg }}'}
"""
#: what is asked, and what the refusal says; a tree is there to be copied
WRONG = [
    ({"clients": ["192.0.2.1 "]}, '"192.0.2.1 " is no client'),  # exports(5): all others may write too
    ({"clients": ["192.0.2.1", ""]}, '"" is no client'),
    ({"clients": ["192.0.2.1\n/ 192.0.2.2"]}, "is no client"),
    ({"clients": ["-rw,insecure"]}, "is no client"),
    ({"clients": ["0.0.0.0/0"]}, "clients has 0.0.0.0/0"),
    ({"clients": ["::/0"]}, "clients has ::/0"),
    ({"path": '/srv/roots/a" *(rw) "'}, "without a slash at its end"),
    ({"path": "/srv/roots/a\n/etc"}, "without a slash at its end"),
    ({"path": "/srv/roots/a/"}, "without a slash at its end"),
    ({"path": "/srv/roots/../a"}, "without a slash at its end"),
    ({"path": "roots/a"}, "Write an absolute path"),
    ({"path": "/srv/theirs/below/a"}, "others than root can put something into /srv/theirs (owner 1234"),
    ({"path": "/srv/link/a"}, "others than root can put something into /srv/link "),
    ({"from": {}}, "has nothing to make the tree of"),
    ({"from": {"image": "/srv/golden.raw"}}, "image with format"),
]


def asked(host: diskless.OwnHost, place: Path, roots: list[Task], *more: str) -> list[str]:
    """What was refused. The NFS server is one that only notes that it was called, and fails while C(/srv/broken) is there."""
    (place / "asked.yml").write_text(ONE)
    (place / "all.yml").write_text(ASKED)
    host.run("mkdir", "-p", "/srv/bin")
    program = "#!/bin/sh\necho told >>/srv/told; [ ! -e /srv/broken ]\n"
    host.run("sh", "-c", 'printf %s "$1" >/srv/bin/exportfs; chmod 755 /srv/bin/exportfs', "sh", program)
    told = json.dumps({"ansible_python_interpreter": sys.executable, "roots": roots})
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", told]
    out = host.run("env", f"PATH=/srv/bin:{os.environ['PATH']}", *command, place / "all.yml", *more)
    return [str(json.loads("{%s}" % line)["msg"]) for line in re.findall(r'"msg": "Said: .*"', out)]


def test_what_would_mean_something_else_is_refused_before_anything_is_made(place: Path) -> None:
    golden = diskless.plant(place / "golden")
    right = {"by": "nfs", "path": "/srv/roots/a", "from": {"directory": str(golden)}}
    roots: list[Task] = [{"root": {**right, **wrong}} for wrong, _said in WRONG]
    with own_host(place) as host:
        host.run(
            "sh", "-c", "mkdir /srv/theirs && chown 1234 /srv/theirs && mkdir /srv/theirs/below && ln -s /tmp /srv/link"
        )
        said = asked(host, place, [*roots, {"name": "../a", "root": right}])
        assert len(said) == len(WRONG) + 1
        for text, (_wrong, part) in zip(said, [*WRONG, ({}, "the name is no name")]):
            assert part in text and "Nothing was changed" in text
        assert host.run("find", "/srv", "-name", "*a") == host.run("find", "/etc", "-name", "exports.d") == ""


def test_an_export_that_the_server_was_not_told_of_is_ended_by_the_next_run(place: Path) -> None:
    golden = diskless.plant(place / "golden")
    root = {
        "by": "nfs",
        "path": "/srv/roots/a",
        "from": {"directory": str(golden)},
        "clients": ["192.0.2.1", "2001:db8::/64"],
    }
    with own_host(place) as host:
        assert asked(host, place, [{"root": root}], "--check") == []
        assert (
            host.run("find", "/srv", "/etc", "-name", "roots", "-o", "-name", "exports.d", "-o", "-name", "told") == ""
        )
        assert asked(host, place, [{"root": root}]) == []
        line = host.run("cat", "/etc/exports.d/platter-web1.exports")
        assert line.startswith('"/srv/roots/a" 192.0.2.1(rw,') and " 2001:db8::/64(rw," in line
        host.run("touch", "/srv/broken")
        assert len(asked(host, place, [{"root": root, "state": "absent"}])) == 1
        host.run("rm", "/srv/broken", "/srv/told")
        assert asked(host, place, [{"root": root, "state": "absent"}]) == []
        assert host.run("cat", "/srv/told") == "told\n"
        assert host.run("ls", "/etc/exports.d") == "" and host.run("ls", "/srv/roots") == "a\n"
