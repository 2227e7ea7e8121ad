"""Logical volumes as disks of VMs, in a guest whose kernel has them: a life by the role, and who else has a volume."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from ansible_collections.platter.qemu.tests.lab.array_guest import SERVER
from ansible_collections.platter.qemu.tests.lab.guest_modules import ask
from ansible_collections.platter.qemu.tests.lab.lvm_guest import running_lvm
from ansible_collections.platter.qemu.tests.lab.power import QUIET
from ansible_collections.platter.qemu.tests.lab.ssh_guest import SshGuest
from ansible_collections.platter.qemu.tests.lab.vm import Disk

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("lvm")]
MIB = 1 << 20
PLAY = """
- hosts: all
  gather_facts: false
  roles: [platter.qemu.vm_storage]
"""
#: the guest of the VM stands still from the beginning, so that nobody but the role could write
VM = {
    "vm_storage_name": "web1",
    "vm_storage_definition": {"arguments": [*QUIET, "-S"]},
    "vm_storage_process": {"supervisor": "process", "start_timeout": 120, "stop_timeout": 1, "allow_power_off": True},
}
#: bytes of what the VM has, by the names of its drives, as QEMU says it
SIZES = """
import json, socket
with socket.socket(socket.AF_UNIX) as client:
    client.connect("/run/platter/web1.qmp")
    lines = client.makefile("rw")
    lines.readline()
    for command in ("qmp_capabilities", "query-block"):
        print(json.dumps({"execute": command}), file=lines, flush=True)
        told = json.loads(lines.readline())
print(json.dumps({each["qdev"].split("/")[3]: each["inserted"]["image"]["virtual-size"] for each in told["return"]}))
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshGuest]:
    directory = tmp_path_factory.mktemp("lvm")
    subprocess.run(["truncate", "-s", "256M", directory / "disk"], check=True)
    (directory / "play.yml").write_text(PLAY)
    with running_lvm(directory, Disk(directory / "disk", format="raw"), "qemu_drive", "disk_image") as guest:
        yield guest


class Ran(NamedTuple):
    """What a run of the role has done, or in check mode would do. C(changed): tasks."""

    changed: int
    actions: list[str]


def play(host: SshGuest, disks: list[dict[str, Any]], *words: str, state: str) -> subprocess.CompletedProcess[str]:
    """The role, from this side."""
    directory = host.key.parent
    (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": {"host1": host.variables()}}}))
    (directory / "vars.json").write_text(json.dumps({**VM, "vm_storage_state": state, "vm_storage_disks": disks}))
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.json", "-e", "@vars.json", "play.yml"]
    return subprocess.run([*command, *words], cwd=directory, capture_output=True, text=True, check=False, timeout=600)


def run(host: SshGuest, disks: list[dict[str, Any]], *words: str, state: str = "started") -> Ran:
    """What is no failure."""
    done = play(host, disks, *words, state=state)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"(\w+)=(\d+)", done.stdout.rpartition("PLAY RECAP")[2]))
    return Ran(int(counts["changed"]), re.findall(r'"- (.*)"', done.stdout))


def digests(host: SshGuest, *names: str) -> list[str]:
    """Of the first 12 MiB of each volume, with what a file system on it has still to write."""
    return [host.run(f"sync; head -c {12 * MIB} /dev/vg0/{name} | sha256sum").split()[0] for name in names]


def sizes(host: SshGuest) -> dict[str, int]:
    return dict(json.loads(host.run(f"python3 -c '{SIZES}'")))


def test_a_life_on_volumes(host: SshGuest) -> None:
    """Raw and qcow2 that others have prepared, and a qcow2 that the role makes on a blank volume."""
    for name in ("data", "image", "made"):
        host.run(f"lvm lvcreate -q -n {name} -L 12M vg0")
    host.run("qemu-io -f raw -c 'write -q -P 0x47 0 12M' /dev/vg0/data; qemu-img create -q -f qcow2 /dev/vg0/image 64M")
    host.run("qemu-io -f qcow2 -c 'write -q -P 0x48 0 1M' /dev/vg0/image")
    before, blank = digests(host, "data", "image"), digests(host, "made")
    disks: list[dict[str, Any]] = [
        {"name": "system", "image": {"path": "/srv/web1.qcow2", "format": "qcow2", "size": "8M"}},
        {"name": "data", "image": {"path": "/dev/vg0/data", "format": "raw"}},
        {"name": "image", "image": {"path": "/dev/vg0/image", "format": "qcow2"}},
        {"name": "made", "image": {"path": "/dev/vg0/made", "format": "qcow2", "size": "64M"}, "keep": True},
    ]

    checked = run(host, disks, "--check")
    assert host.run("ls /srv /etc/platter /run/platter 2>/dev/null || true").split() == ["/srv:"]
    assert digests(host, "made") == blank
    ran = run(host, disks)
    assert ran.changed == 3
    assert checked.actions == [*ran.actions[:3], "Not predicted: the start of VM web1, as it would be defined first"]
    has = {"system": 8 * MIB, "data": 12 * MIB, "image": 64 * MIB, "made": 64 * MIB}
    assert sizes(host) == has
    assert run(host, disks).changed == 0

    host.run("lvm lvextend -q -L 20M vg0/data")
    disks[3]["image"]["size"] = "80M"
    assert sizes(host) == has
    grown = run(host, disks)
    assert [line.split()[0] for line in grown.actions] == ["Grow", "Tell"], grown
    assert grown.actions[1] == f"Tell the guest that data has grown to {20 * MIB} bytes."
    assert sizes(host) == {**has, "data": 20 * MIB, "made": 80 * MIB}

    run(host, disks, state="absent")
    assert digests(host, "data", "image") == before
    assert "80 MiB" in host.run("qemu-img info -f qcow2 /dev/vg0/made; qemu-img check -q -f qcow2 /dev/vg0/made")
    left = host.run("ls /srv /etc/platter/vm; pidof qemu-system-x86_64 || true")
    assert left.split() == ["/etc/platter/vm:", "/srv:"]
    host.run("lvm lvremove -q -y vg0")


#: a mounted volume with a snapshot; a volume with a mounted snapshot; a thin one; and one that is below a mounted one
#: (noinit_itable: else the kernel itself writes to a new file system, some seconds after it was mounted)
STACKED = """
set -e
for name in mounted origin outer; do lvm lvcreate -q -n $name -L 8M vg0; done
lvm lvcreate -q -T -L 32M vg0/pool
lvm lvcreate -q -V 64M -T vg0/pool -n thin
echo 0 16384 linear /dev/vg0/outer 0 | dmsetup create inner
for name in vg0/mounted vg0/origin mapper/inner; do mke2fs -q /dev/$name >/dev/null; done
lvm lvcreate -q -s -n copy -L 8M vg0/mounted
lvm lvcreate -q -s -n kept -L 8M vg0/origin
for name in vg0/mounted vg0/kept mapper/inner; do mkdir -p /mnt/$name; mount -o noinit_itable /dev/$name /mnt/$name; done
udevadm settle
"""


@pytest.fixture(scope="module")
def stacked(host: SshGuest) -> SshGuest:
    host.run(SERVER)
    host.run(STACKED)
    return host


def define(host: SshGuest, *paths: str, vm: str = "web1", check: bool = True) -> dict[str, Any]:
    """A VM with these as raw disks, as far as the definition."""
    drives = [
        {"id": f"d{number}", "image": {"path": path, "format": "raw"}, "device": "virtio-blk-pci"}
        for number, path in enumerate(paths)
    ]
    return ask(host, "qemu_drive", check=check, vm=vm, drives=drives, validate="none")


def users(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Who has it, by the refusal."""
    assert told.get("reason") == "image_in_use" and told["changed"] is False, told
    return sorted((each["kind"], each["name"]) for each in told["evidence"]["in_use_by"])


def test_a_volume_that_the_host_has_is_no_disk_and_one_beside_it_is(stacked: SshGuest) -> None:
    host = stacked
    assert users(define(host, "/dev/vg0/mounted")) == [("mount", "/mnt/vg0/mounted")]
    assert users(define(host, "/dev/vg0/outer")) == [("dm", "inner"), ("mount", "/mnt/mapper/inner")]
    assert ("dm", "vg0-outer") in users(define(host, "/dev/vda"))
    for path, above in {
        "vg0-mounted-real": [("dm", "vg0-copy"), ("dm", "vg0-mounted"), ("mount", "/mnt/vg0/mounted")],
        "vg0-kept-cow": [("dm", "vg0-kept"), ("mount", "/mnt/vg0/kept")],
        "vg0-pool_tdata": [("dm", "vg0-pool"), ("dm", "vg0-pool-tpool"), ("dm", "vg0-thin")],
    }.items():
        assert users(define(host, f"/dev/mapper/{path}")) == above
    source = {"path": "/dev/vg0/origin", "format": "raw"}
    for format, reason in (("qcow2", "signature_present"), ("raw", None)):  # a raw device is what is on it
        image = {"path": "/dev/vg0/mounted", "format": format, "source": source, "source_policy": "if_changed"}
        told = ask(host, "disk_image", **image)
        assert (told.get("reason"), told["changed"]) == (reason, False), told

    # a volume, its snapshots and a thin one have bytes of their own, in the same disk
    beside = define(host, "/dev/vg0/copy", "/dev/vg0/origin", "/dev/vg0/thin", check=False)
    assert beside["changed"] and not beside.get("failed"), beside
    told = define(host, "/dev/mapper/vg0-origin", vm="web2")
    assert told["reason"] == "image_claimed" and told["evidence"]["vm"] == "web1", told


def test_the_role_leaves_a_mounted_volume_alone(stacked: SshGuest) -> None:
    before = digests(stacked, "mounted")
    disks = [{"name": "data", "image": {"path": "/dev/vg0/mounted", "format": "raw"}}]
    done = play(stacked, disks, state="defined")
    told = "refused: drive data of VM web1: /dev/vg0/mounted is in use by mount /mnt/vg0/mounted, open for writing"
    assert done.returncode == 2 and told in done.stdout, done.stdout
    assert digests(stacked, "mounted") == before


def test_what_is_written_to_an_origin_or_a_snapshot_is_not_in_the_other(stacked: SshGuest) -> None:
    host = stacked
    before = digests(host, "mounted", "kept")
    for name in ("copy", "origin"):
        host.run(f"qemu-io -f raw -c 'write -q -P 0x66 4M 2M' -c flush /dev/vg0/{name}")
    assert digests(host, "mounted", "kept") == before
