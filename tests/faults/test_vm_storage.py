"""The role vm_storage with a real QEMU whose guest stands still: disks that are set back, and snapshots before changes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.power import QUIET

NAME = f"vm-storage-{os.getpid()}"
PLAY = """
- hosts: localhost
  gather_facts: false
  roles: [platter.qemu.vm_storage]
"""


class Ran(NamedTuple):
    """What a run of the role has done, or in check mode would do. C(changed): tasks."""

    changed: int
    actions: list[str]


class Role:
    """The role with one VM, whose disks are C(system), a qcow2, and C(scratch), a raw."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.system, scratch = directory / "web1.qcow2", directory / "scratch.raw"
        self.vm = {"vm": NAME, "config": str(directory / "vm"), "qmp_socket": str(directory / "s" / f"{NAME}.qmp")}
        self.disks: list[dict[str, Any]] = [
            {"name": "system", "image": {"path": str(self.system), "format": "qcow2", "size": "8M"}},
            {"name": "scratch", "snapshot": False, "image": {"path": str(scratch), "format": "raw", "size": "1M"}},
        ]
        (directory / "s").mkdir(mode=0o700)
        (directory / "play.yml").write_text(PLAY)

    def said(self, *words: str, **more: Any) -> str:
        """The whole of what a run says."""
        told = {
            "ansible_python_interpreter": sys.executable,
            "vm_storage_name": NAME,
            "vm_storage_disks": self.disks,
            "vm_storage_sockets": str(self._directory / "s"),
            "vm_storage_revert_to": {"name": "pristine", "save": False},
            "vm_storage_definition": {"arguments": [*QUIET, "-S", "-display", "none"], "config": self.vm["config"]},
            "vm_storage_process": {"supervisor": "process", "stop_timeout": 1, "allow_power_off": True},
            **{f"vm_storage_{name}": value for name, value in more.items()},
        }
        (self._directory / "vars.json").write_text(json.dumps(told))
        playbook = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-c", "local"]
        told_all = [*playbook, *words, "-e", f"@{self._directory}/vars.json", self._directory / "play.yml"]
        done = subprocess.run(told_all, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        return done.stdout + done.stderr

    def run(self, *words: str, **more: Any) -> Ran:
        """What is no failure."""
        said = self.said(*words, **more)
        counts = dict(re.findall(r"(\w+)=(\d+)", said.rpartition("PLAY RECAP")[2]))
        assert counts["failed"] == "0", said[-3000:]
        return Ran(int(counts["changed"]), re.findall(r'"- (.*)"', said))

    def write(self) -> None:
        """As a guest would have; the VM does not run."""
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 1M", self.system], check=True)

    def is_blank(self) -> bool:
        read = ["qemu-io", "-r", "-U", "-f", "qcow2", "-c", "read -P 0 0 8M", self.system]
        return subprocess.run(read, capture_output=True, check=False).returncode == 0

    def pid(self) -> str:
        """Of the VM; nothing, if it does not run."""
        search = ["pgrep", "-f", f"^[^ ]*qemu-system.*{self._directory}"]
        return subprocess.run(search, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture(name="role")
def _role(tmp_path: Path) -> Iterator[Role]:
    role = Role(tmp_path)
    yield role
    call("qemu_vm", **role.vm, state="absent", stop_timeout=1, allow_power_off=True)
    call("qemu_drive", vm=NAME, config=role.vm["config"], state="absent")


BACK, TAKE = "Revert ", "Take snapshot pristine of "


def begun(actions: list[str], words: str) -> list[str]:
    return [each for each in actions if each.startswith(words)]


@pytest.mark.soak
def test_a_vm_begins_each_run_with_the_disk_as_it_was_made(role: Role) -> None:
    made = role.run().actions
    assert (begun(made, TAKE), begun(made, BACK)) == ([f"{TAKE}{role.system}."], [])
    first = role.pid()
    foretold = role.run("--check").actions
    stopped = f"VM {NAME} would be stopped first"
    assert f"Not predicted: changes to image {role.system}, as {stopped}" in foretold
    assert f"Not predicted: the start of VM {NAME}, as it would be stopped first" in foretold
    assert role.pid() == first != ""

    assert role.run(state="stopped").changed == 1  # the VM; its guest has written nothing
    assert role.run(state="stopped") == Ran(0, ["Nothing to do. All is as described already."]) and not role.pid()
    role.write()
    assert begun(role.run("--check").actions, BACK) and not role.is_blank()
    assert len(begun(role.run().actions, BACK)) == 1 and role.is_blank()
    second = role.pid()
    role.run()  # what a VM that runs has written cannot be told
    assert "" != second != role.pid() != ""


def test_what_has_no_way_back_is_refused_before_the_vm_is_stopped(role: Role) -> None:
    role.run(revert_to={})
    first = role.pid()
    said = " ".join(role.said().split())
    assert "there is no such snapshot (there are: none). Nothing was changed." in said
    assert '"reason": "snapshot_missing"' in said and '"evidence": {' in said
    assert role.pid() == first != ""
    image = {"image": str(role.system), "format": "qcow2", "qmp_socket": role.vm["qmp_socket"]}
    prepared("image_snapshot", **image, name="pristine")
    assert "its VM runs, and the memory of the guest would not fit" in " ".join(role.said(state="defined").split())
    prepared("image_snapshot", **image, bitmaps=[{"name": "daily"}])
    for words in (("--check",), ()):
        said = role.said(*words)
        assert '"reason": "would_lose_bitmaps"' in said and "failed=1" in said
    assert role.pid() == first


def test_a_first_run_that_was_cut_off_before_the_snapshot_goes_on_by_the_way_that_is_told(role: Role) -> None:
    image = role.disks[0]["image"]
    call("disk_image", **image)  # all that such a run has done
    told = " ".join(role.said(state="stopped").split())
    assert (
        "Take it (state: present), if what the disk holds now is what you want to go back to, as it is when a run of"
        in told
    )
    assert (
        "or remove the image (disk_image with state: absent), and the role makes it anew, with that snapshot." in told
    )
    assert call("image_snapshot", image=image["path"], format="qcow2", name="pristine")["changed"]
    role.write()
    assert begun(role.run(state="stopped").actions, BACK) and role.is_blank()


def test_the_same_by_removing_the_image_and_then_all_of_the_vm_and_its_golden_image(role: Role) -> None:
    golden = {"path": str(role.system.with_name("golden.qcow2")), "format": "qcow2"}
    gone = {"path": golden["path"], "state": "absent"}
    call("disk_image", **golden, size="8M")
    image = role.disks[0]["image"]
    image.update(size=None, backing=golden)
    call("disk_image", **image)
    assert call("disk_image", path=image["path"], state="absent")["changed"]
    assert begun(role.run().actions, TAKE) and role.pid()
    told = call("disk_image", **gone)["msg"]
    assert "VM %s (defined in %s) has disks on it" % (NAME, role.vm["config"]) in told
    assert "the role vm_storage does both with vm_storage_state: absent, and removes its images" in told
    role.run(state="absent")
    assert call("disk_image", **gone)["changed"]


def test_a_vm_that_is_set_back_runs_again_though_its_images_are_refused(role: Role) -> None:
    role.run(state="stopped")
    assert call("image_snapshot", image=str(role.system), format="qcow2", name="kept")["changed"]
    role.write()
    role.run(revert_to={})
    first = role.pid()
    assert '"reason": "snapshot_exists"' in role.said("--check", revert_to={"name": "pristine", "save_as": "kept"})
    with role.system.open("rb"):
        waits = {"name": "pristine", "on_in_use": "wait", "wait_timeout": 1}
        assert "also when wait_timeout (1 s) was over" in " ".join(role.said(revert_to=waits).split())
    assert "" != role.pid() != first != ""
    first = role.pid()
    more = {"name": "more", "image": {"path": str(role.system.with_name("more.raw")), "format": "raw", "size": "1M"}}
    role.disks.append({**more, "snapshot": False})
    foretold = f"Not predicted: changes to image {more['image']['path']}, as VM {NAME} would be stopped first"
    assert foretold in role.run("--check").actions and role.pid() == first != ""
    more["image"]["backing"] = {"path": str(role.system), "format": "qcow2"}
    said = role.said()
    assert "the format raw has no backing files" in " ".join(said.split()) and "failed=1" in said
    assert "" != role.pid() != first


def test_an_image_that_changes_without_a_snapshot_of_now_is_told_of(role: Role) -> None:
    """As that name was given to an earlier one; what has one of now, and what is new, is not told of."""
    prepared("disk_image", path=str(role.system), format="qcow2", size="4M")
    role.disks[0]["image"]["size"] = "6M"
    said = role.said(state="stopped", revert_to={}, snapshot_before={"name": "before"})
    assert "Take snapshot before of" in said and "failed=0" in said and "Warning: " not in said

    role.disks[0]["image"]["size"] = "8M"
    taken = call("image_snapshot", image=str(role.system), format="qcow2", name="before")["snapshot"]["snapshots"][0]
    why = f"Warning: {role.system} changes, and no snapshot is taken before: before is there already, of {taken['date']}. "
    for words in (("--check",), ()):
        said = role.said(*words, state="stopped", revert_to={}, snapshot_before={"name": "before"})
        assert "failed=0" in said and said.count("Warning: ") == 1 and why in said


def test_what_going_back_makes_smaller_is_foretold_as_not_predicted(role: Role) -> None:
    """The role makes it larger once more, which nobody can see in the disk that is there."""
    place = {"image": str(role.system), "format": "qcow2"}
    call("disk_image", path=str(role.system), format="qcow2", size="4M")
    call("image_snapshot", **place, name="pristine")
    call("disk_image", path=str(role.system), format="qcow2", size="8M")
    del role.disks[1]
    foretold = role.run("--check", state="stopped")
    anew = f"changes to image {role.system}, as it would be set back to another size first"
    assert f"Not predicted: {anew}" in foretold.actions and begun(foretold.actions, BACK)
    done = role.run(state="stopped")
    assert f"Grow {role.system} from 4 MiB to 8 MiB." in done.actions
    assert foretold.changed == done.changed


def test_a_raw_image_that_changes_without_a_snapshot_says_so_first(role: Role) -> None:
    path = role.disks[1]["image"]["path"]
    call("disk_image", path=path, format="raw", size="512K")
    role.disks[:] = [{**role.disks[1], "snapshot": True}]
    said = " ".join(role.said("--check", state="stopped", revert_to={}, snapshot_before={"name": "before"}).split())
    assert f"refused: {path} would change, and raw images can have no internal snapshot before" in said
    assert "Write snapshot: false" in said and "kind" not in said and "failed=1" in said


def test_an_external_snapshot_before_leaves_the_disk_its_name_or_is_refused(role: Role) -> None:
    call("disk_image", path=str(role.system), format="qcow2", size="4M")
    before: dict[str, Any] = {"name": "first", "kind": "external"}
    said = " ".join(role.said("--check", state="stopped", revert_to={}, snapshot_before=before).split())
    assert "failed=1" in said and "its disk system would be another file than" in said and "Leave kind out" in said
    for size, name in (("8M", "first"), ("12M", "second")):
        role.disks[0]["image"]["size"] = size
        renamed = {**before, "name": name, "switch": "rename"}
        grown = role.run(state="stopped", revert_to={}, snapshot_before=renamed).actions
        assert begun(grown, f"Keep {role.system.with_suffix('')}.{name}.qcow2") and begun(grown, f"Grow {role.system}")
