"""What the drives of running VMs cost: many in one task, and runs with nothing to do. The guests never begin (-S), under TCG."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from cases import Case, fresh, play, run

COUNT = 20
VMS = 50
DEVICE = "scsi-hd"


def drives(directory: Path, **more: t.Any) -> t.List[t.Dict[str, t.Any]]:
    """As a task describes them."""
    paths = {"d%02d" % number: "%s/images/%02d.qcow2" % (directory, number) for number in range(COUNT)}
    images = {name: {"path": path, "format": "qcow2"} for name, path in paths.items()}
    return [dict({"id": name, "device": DEVICE, "image": image}, **more) for name, image in images.items()]


class _Drives(Case):
    """A VM that runs, with one controller, and its definition."""

    goal = 1.5
    speedup = False
    qemu: t.Optional[subprocess.Popen[bytes]] = None

    def task(self, directory: Path, listed: t.Any, **more: t.Any) -> t.Dict[str, t.Any]:
        """About its drives."""
        controller = {"device": "virtio-scsi-pci", "id": "scsi0"}
        about = {"vm": "bench-%s" % directory.name, "config": str(directory / "vm"), "controllers": [controller]}
        about.update(qmp_socket=str(directory / "qmp"), arguments=["-m", "64"], lock_timeout=300)
        return {"platter.qemu.qemu_drive": dict(about, drives=listed, **more)}

    def prepare(self, directory: Path) -> None:
        fresh(directory)
        for each in drives(directory):
            run("qemu-img", "create", "-q", "-f", "qcow2", each["image"]["path"], "1G")
        play(directory, "defined", self.task(directory, []))
        self.start(directory)

    def start(self, directory: Path) -> None:
        """By its definition, with what is defined."""
        self.end()
        monitor = directory / "qmp"
        monitor.unlink(missing_ok=True)
        words = [
            "-S",
            "-nodefaults",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-qmp",
            "unix:%s,server=on,wait=off" % monitor,
        ]
        self.qemu = subprocess.Popen([str(directory / "vm" / "start"), *words], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not monitor.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        monitor.chmod(0o600)

    def end(self) -> None:
        """Of the VM."""
        if self.qemu is not None:
            self.qemu.kill()
            self.qemu.wait()
            self.qemu = None

    def emptied(self, directory: Path) -> None:
        """No drives, neither defined nor there."""
        play(directory, "emptied", self.task(directory, [], purge=True))
        assert not plugged(directory)

    def clean(self, directory: Path) -> None:
        self.end()
        play(directory, "gone", {"platter.qemu.qemu_drive": {**_about(self.task(directory, [])), "state": "absent"}})


def _about(task: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    return {name: task["platter.qemu.qemu_drive"][name] for name in ("vm", "config")}


def plugged(directory: Path) -> t.List[str]:
    """The disks that QEMU has, by its own answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(directory / "qmp"))
        lines = client.makefile("rw", encoding="utf-8")
        lines.readline()
        told: t.Dict[str, t.Any] = {}
        for command in ("qmp_capabilities", "query-block"):
            lines.write(json.dumps({"execute": command}) + "\n")
            lines.flush()
            told = json.loads(lines.readline())
    return [each["qdev"] for each in told["return"] if each.get("inserted")]


class DrivesAgain(_Drives):
    """The nightly run that changes nothing, over the cheapest task there is."""

    name = "20 drives of a running VM, nothing to do / ansible.builtin.ping"

    def prepare(self, directory: Path) -> None:
        super().prepare(directory)
        play(directory, "drives", self.task(directory, drives(directory)))

    def ours(self, directory: Path) -> None:
        play(directory, "drives", self.task(directory, drives(directory)))

    def theirs(self, directory: Path) -> None:
        play(directory, "ping", {"ansible.builtin.ping": {}})

    def compare(self, directory: Path) -> None:
        assert len(plugged(directory)) == COUNT


class DrivesAgainstLoop(_Drives):
    """All disks of a VM."""

    name = "20 drives plugged in by one task / a loop of tasks"
    goal = 0.15

    def before_ours(self, directory: Path) -> None:
        self.emptied(directory)

    def ours(self, directory: Path) -> None:
        play(directory, "drives", self.task(directory, drives(directory)))
        self.made = len(plugged(directory))

    def before_theirs(self, directory: Path) -> None:
        self.emptied(directory)

    def theirs(self, directory: Path) -> None:
        play(directory, "loop", dict(self.task(directory, ["{{ item }}"]), loop=drives(directory)))

    def compare(self, directory: Path) -> None:
        assert self.made == len(plugged(directory)) == COUNT


class VmsAgain(Case):
    """The nightly run of the role that changes nothing, for many VMs over that for one of them. All of them run."""

    name = "vm_storage of 50 VMs, nothing to do / of one VM"
    goal = 3.0
    speedup = False

    def task(self, directory: Path, count: int, **more: t.Any) -> t.Dict[str, t.Any]:
        """Of so many of them, each with an overlay and a data disk."""
        images, name = directory / "images", "bench-%s-%%02d" % directory.name
        base = {"path": str(images / "golden.qcow2"), "format": "qcow2"}
        vms = [
            {
                "name": name % number,
                "disks": [
                    {"name": "system", "image": {"path": "%s/%02d.qcow2" % (images, number), "backing": base}},
                    {"name": "data", "image": {"path": "%s/%02d-data.qcow2" % (images, number), "size": "1G"}},
                ],
                "definition": {"config": "%s/vms/%02d" % (directory, number)},
            }
            for number in range(count)
        ]
        told = {"vm_storage_vms": vms, "vm_storage_image_defaults": {"format": "qcow2"}, "vm_storage_report": False}
        words = ["-S", "-m", "16", "-accel", "tcg", "-nodefaults", "-no-user-config"]
        told["vm_storage_definition"] = {"arguments": words, "validate": "none"}
        told["vm_storage_process"] = {"supervisor": "process", "stop_timeout": 1, "allow_power_off": True}
        return {"ansible.builtin.include_role": {"name": "platter.qemu.vm_storage"}, "vars": dict(told, **more)}

    def prepare(self, directory: Path) -> None:
        images = fresh(directory)
        (directory / "vms").mkdir(exist_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", images / "golden.qcow2", "1G")
        play(directory, "many", self.task(directory, VMS))

    def ours(self, directory: Path) -> None:
        play(directory, "many", self.task(directory, VMS))

    def theirs(self, directory: Path) -> None:
        play(directory, "one", self.task(directory, 1))

    def compare(self, directory: Path) -> None:
        command = ["pgrep", "-fc", "qemu-system.* -name bench-%s-" % directory.name]
        found = subprocess.run(command, capture_output=True, check=True)
        assert int(found.stdout) == VMS, "a VM does not run"

    def clean(self, directory: Path) -> None:
        play(directory, "gone", self.task(directory, VMS, vm_storage_state="absent"))


DRIVE_CASES: t.Sequence[Case] = (DrivesAgain(), DrivesAgainstLoop(), VmsAgain())
