"""What exports cost: many in one task, runs with nothing to do, starts, and what goes through them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

from cases import MIB, Case, fresh, play, run

COUNT = 50
DAEMON = "bench"
SOCKETS = "/run/platter"


def names(count: int = COUNT) -> t.List[str]:
    """Of exports."""
    return ["bench-%02d" % number for number in range(count)]


def entries(directory: Path, count: int = COUNT) -> t.List[t.Dict[str, str]]:
    """Exports of as many images."""
    return [{"name": name, "image": "%s/images/%s.qcow2" % (directory, name)} for name in names(count)]


def served(directory: Path, count: int = COUNT, daemon: str = DAEMON) -> t.Dict[str, t.Any]:
    """One task with all of them."""
    shared = {"format": "qcow2", "daemon": daemon, "supervisor": "process"}
    return {"platter.qemu.nbd_export": dict(shared, exports=entries(directory, count))}


def ended(count: int = COUNT) -> t.Dict[str, t.Any]:
    """One task that ends them."""
    gone = [{"name": name, "state": "absent"} for name in names(count)]
    return {"platter.qemu.nbd_export": {"exports": gone, "allow_disconnect": True}}


class _Exports(Case):
    """Needs root, as the sockets of others than root lie elsewhere."""

    def prepare(self, directory: Path) -> None:
        fresh(directory)
        for each in entries(directory):
            run("qemu-img", "create", "-q", "-f", "qcow2", each["image"], "1G")

    def clean(self, directory: Path) -> None:
        play(directory, "ended", ended())

    def listed(self) -> int:
        """How many exports the daemon has by libnbd's account."""
        uri = "nbd+unix:///?socket=%s/%s.sock" % (SOCKETS, DAEMON)
        told = subprocess.run(["nbdinfo", "--list", uri], capture_output=True, text=True, check=False).stdout
        return told.count("export=")


class ExportsAgainstLoop(_Exports):
    """All disks of a host."""

    name = "50 exports in one task on one daemon / a loop of tasks"
    goal = 0.2
    speedup = False

    def before_ours(self, directory: Path) -> None:
        play(directory, "ended", ended())

    def ours(self, directory: Path) -> None:
        play(directory, "exports", served(directory))
        self.made = self.listed()

    def before_theirs(self, directory: Path) -> None:
        play(directory, "ended", ended())

    def theirs(self, directory: Path) -> None:
        one = {"format": "qcow2", "daemon": DAEMON, "supervisor": "process"}
        task = {"platter.qemu.nbd_export": dict(one, name="{{ item.name }}", image="{{ item.image }}")}
        play(directory, "loop", dict(task, loop=entries(directory)))

    def compare(self, directory: Path) -> None:
        assert self.made == self.listed() == COUNT


class ExportsAgain(_Exports):
    """The nightly run that changes nothing."""

    name = "50 exports, nothing to do / one export, nothing to do"
    goal = 2.0
    speedup = False

    def prepare(self, directory: Path) -> None:
        super().prepare(directory)
        play(directory, "exports", served(directory))

    def ours(self, directory: Path) -> None:
        play(directory, "exports", served(directory))

    def theirs(self, directory: Path) -> None:
        play(directory, "one", served(directory, 1))

    def compare(self, directory: Path) -> None:
        assert self.listed() == COUNT


class ColdStart(Case):
    """From a declared export that is not served to the first byte that a client has; theirs is the clock."""

    goal = 1.0
    speedup = False

    def __init__(self, server: str) -> None:
        self.server = server
        self.name = "a cold start by %s, served / 0.5 s" % server

    def _call(self, **more: t.Any) -> None:
        from ansible_collections.platter.qemu.tests.lab.modules import call

        result = call("nbd_export", name="bench", **more)
        assert not result.get("failed"), result["msg"]

    def prepare(self, directory: Path) -> None:
        self.image = fresh(directory) / "a.raw"
        run("truncate", "-s", "1G", self.image)
        self.options = {"image": str(self.image), "format": "raw", "server": self.server}

    def before_ours(self, directory: Path) -> None:
        self._call(**self.options)
        self._call(state="stopped")

    def ours(self, directory: Path) -> None:
        self._call(**self.options)
        daemon = "storage" if self.server == "storage_daemon" else "bench"
        uri = "nbd+unix:///bench?socket=%s/%s.sock" % (SOCKETS, daemon)
        run("qemu-io", "-r", "-f", "raw", "-c", "read 0 512", uri)

    def theirs(self, directory: Path) -> None:
        time.sleep(0.5)

    def clean(self, directory: Path) -> None:
        self._call(state="absent")


class Throughput(Case):
    """1 GiB that is in the host's memory, by the module's export and by the same server started by hand."""

    goal = 0.97

    def __init__(self, server: str) -> None:
        self.server = server
        self.name = "nbdcopy by a module's %s / by hand" % server

    def prepare(self, directory: Path) -> None:
        from ansible_collections.platter.qemu.tests.lab.modules import call

        self.image, self.socket = fresh(directory) / "a.raw", directory / "hand.sock"
        with open(self.image, "wb") as stream:
            for _number in range(64):
                stream.write(os.urandom(16 * MIB))
        result = call("nbd_export", name="bench", image=str(self.image), format="raw", server=self.server)
        assert not result.get("failed"), result["msg"]
        self.uri = result["export"]["uri"]
        # in a session of its own, as each server that outlives who starts it: the kernel shares the processors among sessions
        self.hand = subprocess.Popen([str(word) for word in self._by_hand()], start_new_session=True)
        while not self.socket.exists():
            time.sleep(0.01)

    def _by_hand(self) -> t.List[object]:
        if self.server == "nbdkit":
            return ["nbdkit", "-f", "-r", "-U", self.socket, "file", self.image]
        if self.server == "qemu_nbd":
            return ["qemu-nbd", "-t", "-r", "-e", "16", "-f", "raw", "-k", self.socket, self.image]
        node = "driver=raw,node-name=n,read-only=on,file.driver=file,file.filename=%s" % self.image
        listen = "addr.type=unix,addr.path=%s,max-connections=16" % self.socket
        export = ["--nbd-server", listen, "--export", "type=nbd,id=e,node-name=n,name=,writable=off"]
        return ["qemu-storage-daemon", "--blockdev", node, *export]

    def ours(self, directory: Path) -> None:
        run("nbdcopy", self.uri, "null:")

    def theirs(self, directory: Path) -> None:
        run("nbdcopy", "nbd+unix:///?socket=%s" % self.socket, "null:")

    def clean(self, directory: Path) -> None:
        from ansible_collections.platter.qemu.tests.lab.modules import call

        self.hand.terminate()
        self.hand.wait()
        call("nbd_export", name="bench", state="absent")
        shutil.rmtree(directory / "images")


SERVERS = ("qemu_nbd", "nbdkit", "storage_daemon")
NBD_CASES: t.Sequence[Case] = (
    ExportsAgainstLoop(),
    ExportsAgain(),
    *(ColdStart(server) for server in SERVERS),
    *(Throughput(server) for server in SERVERS),
)
