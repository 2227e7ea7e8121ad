"""Many exports in one storage daemon: they come and go while it runs, and come back with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import daemons, declared, places
from ansible_collections.platter.qemu.plugins.module_utils._export import server_storage_daemon as pure
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import running, stand_still, wait_until
from ansible_collections.platter.qemu.tests.lab.qemu import waiting


class Lot:
    """A daemon and three exports of its own, of qcow2 images of 8 MiB whose first MiB holds 0x5a."""

    def __init__(self, directory: Path) -> None:
        self.daemon = exports.new_name()
        self.names = [f"{self.daemon}-{letter}" for letter in "abc"]
        self.images = [create(directory / f"{name}.qcow2", "qcow2", "8M") for name in self.names]
        for image in self.images:
            qemu_io = ["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 0 1M", str(image)]
            subprocess.run(qemu_io, check=True, stdout=subprocess.DEVNULL)

    def task(self, *numbers: int, **more: Any) -> dict[str, Any]:
        """The options of a task with these of the exports."""
        entries = [{"name": self.names[n], "image": str(self.images[n])} for n in numbers or range(3)]
        return {"format": "qcow2", "daemon": self.daemon, "exports": entries, **more}

    def one(self, number: int, **more: Any) -> dict[str, Any]:
        """The options of one export."""
        image = str(self.images[number])
        return {"name": self.names[number], "image": image, "format": "qcow2", "daemon": self.daemon, **more}

    def uri(self, number: int) -> str:
        return f"nbd+unix:///{self.names[number]}?socket={own_places.socket_directory()}/{self.daemon}.sock"

    def serves(self) -> list[bool]:
        return [exports.gets_in(self.uri(number)) for number in range(3)]

    @property
    def server(self) -> int:
        return exports.server_of(self.daemon)

    def crash(self) -> None:
        """Kill the daemon, and wait until there is another."""
        before = self.server
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: before not in exports.processes_of(self.daemon) and any(self.serves()), "it is back")


@pytest.fixture
def lot(tmp_path: Path) -> Iterator[Lot]:
    made = Lot(tmp_path)
    with exports.cleaned(*made.names):
        yield made
    assert not exports.leftovers(made.daemon)


def test_one_daemon_serves_all(lot: Lot, tmp_path: Path) -> None:
    result = four_beats(**lot.task(), unpredictable=["virtual_size"], watch=[tmp_path])
    told = [each["export"] for each in result["exports"]]
    assert {each["pid"] for each in told} == {lot.server}
    assert [each["uri"] for each in told] == [lot.uri(number) for number in range(3)]
    assert "a daemon is named" in result["actions"][0]
    assert lot.serves() == [True] * 3
    listing = subprocess.run(["nbdinfo", "--list", lot.uri(0)], capture_output=True, text=True, check=True).stdout
    assert listing.count("export=") == 3


def test_exports_come_and_go_and_the_clients_of_others_notice_nothing(lot: Lot) -> None:
    prepared("nbd_export", **lot.task(0, read_only=False))
    server = lot.server
    with running("qemu-io", "-f", "raw", lot.uri(0)) as using:
        exports.tell(using, "write -P 0x11 0 1M")
        four_beats(**lot.task(1, 2, read_only=True), unpredictable=["virtual_size"])
        assert lot.serves() == [True] * 3
        four_beats(**lot.one(1, read_only=False), unpredictable=["virtual_size"])
        with running("qemu-io", "-f", "raw", lot.uri(1)) as other:
            exports.tell(other, "write -P 0x33 0 1M")
        four_beats(name=lot.names[1], state="absent")
        result = four_beats(name=lot.names[2], state="stopped")
        assert result["actions"] == [f"Take export {lot.names[2]} out of storage daemon {lot.daemon}."]
        exports.tell(using, "read -P 0x11 0 1M")
        assert lot.server == server and lot.serves() == [True, False, False]
    shows(lot.images[1], "qcow2", ((0x33, 0, MIB),))
    qemu_img("check", "-f", "qcow2", lot.images[1])


def test_an_export_in_use_stays_unless_agreed(lot: Lot) -> None:
    prepared("nbd_export", **lot.task(read_only=False))
    with running("qemu-io", "-f", "raw", lot.uri(1)) as using:
        exports.tell(using, "write -P 0x44 0 1M")
        for change in ({"state": "absent"}, {"read_only": True}):
            result = call("nbd_export", **lot.one(1, **change))
            assert (result["reason"], result["changed"]) == ("export_busy", False), result
            assert result["evidence"]["clients"] == [{"pid": using.pid, "comm": "qemu-io"}]
            assert ("options would change (read_only from false to true); " in result["msg"]) == ("read_only" in change)
        checked = call("nbd_export", check=True, **lot.one(1, state="absent"))
        assert "known when it is taken out" in json.dumps(checked["warnings"])
        settled(**lot.task(read_only=False))
        prepared("nbd_export", name=lot.names[0], state="absent")
        result = call("nbd_export", **lot.one(1, state="absent"), allow_disconnect=True)
        assert str(using.pid) in result["actions"][0], result
    shows(lot.images[1], "qcow2", ((0x44, 0, MIB),))


def test_a_daemon_with_a_client_is_not_started_anew_unless_all_agree(lot: Lot) -> None:
    prepared("nbd_export", **lot.task(read_only=False))
    server = lot.server
    with running("qemu-io", "-f", "raw", lot.uri(1)) as using:
        exports.tell(using, "write -P 0x44 0 1M")
        one_agrees = lot.task(read_only=False, shared=7, fail_fast=False)
        one_agrees["exports"][0]["allow_disconnect"] = True
        for task in (lot.task(read_only=False, shared=7), one_agrees):
            for check in (True, False):
                result = call("nbd_export", check=check, **task)
                assert (result["changed"], {each["reason"] for each in result["exports"]}) == (False, {"export_busy"})
                assert (
                    "would be started anew for it: options would change (shared from 16 to 7), and 1 client"
                    in result["msg"]
                )
        exports.tell(using, "read -P 0x44 0 1M")
        assert lot.server == server
        assert call("nbd_export", **lot.task(read_only=False, shared=7, allow_disconnect=True))["changed"]
    assert lot.server != server and lot.serves() == [True] * 3


def test_all_of_them_come_back_with_the_daemon_but_those_that_cannot(lot: Lot) -> None:
    prepared("nbd_export", **lot.task(read_only=False))
    prepared("nbd_export", **lot.one(2, state="stopped"))
    with running("qemu-io", "-f", "raw", lot.uri(0)) as using:
        exports.tell(using, "write -P 0x66 0 1M", "flush")
        lot.images[1].rename(lot.images[1].with_suffix(".away"))
        lot.crash()
        assert lot.serves() == [True, False, False]
    with running("qemu-io", "-r", "-f", "raw", lot.uri(0)) as again:
        exports.tell(again, "read -P 0x66 0 1M")
    lot.images[1].with_suffix(".away").rename(lot.images[1])
    wait_until(lambda: lot.serves() == [True, True, False], "it is tried again")
    prepared("nbd_export", **lot.task(read_only=False))
    settled(**lot.task(read_only=False))


@pytest.mark.parametrize("milliseconds", [230, 310])
def test_a_run_that_is_killed_is_gone_on_from(lot: Lot, milliseconds: int) -> None:
    """More moments: C(tests/faults/test_export_kills.py)."""
    absent = {"exports": [{"name": name, "state": "absent"} for name in lot.names]}
    exports.killed_after(milliseconds, **lot.task(read_only=False))
    settled_after(lot.task(read_only=False))
    assert lot.serves() == [True] * 3
    exports.killed_after(milliseconds, **absent)
    settled_after(absent)
    assert not exports.leftovers(lot.daemon)


def settled_after(task: dict[str, Any]) -> None:
    """The run after one that was killed does the rest, and then there is nothing to do."""
    result = call("nbd_export", **task)
    assert not result.get("failed"), result["msg"]
    settled(**task)


def test_nodes_that_a_killed_run_left_are_removed(lot: Lot) -> None:
    """They would lock the image."""
    prepared("nbd_export", **lot.task(0, 1))
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(lot.images[2])}}
    with Qmp.connect(places.monitor(lot.daemon)) as monitor:
        monitor.execute("object-add", {"qom-type": "throttle-group", "id": pure.node_prefix(lot.names[2]) + "0.limits"})
        monitor.execute("blockdev-add", dict(node, **{"node-name": pure.node_prefix(lot.names[2]) + "0"}))
    result = four_beats(**lot.one(2, read_only=False, throttle={"iops": 1000}), unpredictable=["virtual_size"])
    assert [action.split()[0] for action in result["actions"]] == ["Take", "Declare", "Serve"]
    with Qmp.connect(places.monitor(lot.daemon)) as monitor:
        assert len(daemons.nodes_now(monitor)) == 3


@pytest.mark.parametrize("lost", ["declaration", "supervisor", "export"])
def test_what_was_meddled_with_is_mended(lot: Lot, lost: str) -> None:
    prepared("nbd_export", **lot.task())
    server, place = lot.server, declared.place_in_daemon(lot.names[1])
    assert place
    if lost == "declaration":
        os.unlink(place.path(lot.names[1]))
    elif lost == "supervisor":
        os.kill(exports.supervisor_of(lot.daemon), signal.SIGKILL)
        wait_until(lambda: exports.processes_of(lot.daemon) == [server], "the supervisor has gone")
    else:
        with Qmp.connect(places.monitor(lot.daemon)) as monitor:
            monitor.execute("block-export-del", {"id": pure.export_id(lot.names[1])})
    result = four_beats(**lot.task(), unpredictable=["virtual_size"])
    first = {"declaration": "Declare", "supervisor": "Supervise", "export": "Take"}[lost]
    assert result["actions"][0].startswith(first), result["actions"]
    assert lot.server == server and lot.serves() == [True] * 3
    lot.crash()
    wait_until(lambda: lot.serves() == [True] * 3, "all are back")


def test_the_place_is_that_of_all(lot: Lot, tmp_path: Path) -> None:
    prepared("nbd_export", **lot.task())
    other = str(tmp_path / "other.sock")
    result = refused("daemon_differs", **lot.one(0, socket=other))
    assert result["evidence"] == {"daemon": lot.daemon, "exports": lot.names[1:]}
    twice = lot.task(0, 1)
    twice["exports"][1]["socket"] = other
    refused("daemon_differs", **twice)
    four_beats(**lot.task(socket=other), unpredictable=["virtual_size"])
    assert not exports.connects(f"{own_places.socket_directory()}/{lot.daemon}.sock") and exports.connects(other)


def test_from_a_server_of_its_own_into_a_daemon_and_back(lot: Lot) -> None:
    alone = {key: value for key, value in lot.one(0, server="qemu_nbd", read_only=True).items() if key != "daemon"}
    prepared("nbd_export", **alone)
    prepared("nbd_export", **lot.task(1))
    four_beats(**lot.one(0, read_only=True), unpredictable=["virtual_size"])
    assert lot.serves() == [True, True, False] and not exports.connects(exports.uri(lot.names[0]).partition("=")[2])
    four_beats(**alone, unpredictable=["virtual_size"])
    assert lot.serves() == [False, True, False] and exports.gets_in(exports.uri(lot.names[0]))


def test_an_image_is_written_to_by_one_export_of_it(lot: Lot) -> None:
    prepared("nbd_export", **lot.one(0))
    again = lot.one(1, image=str(lot.images[0]))
    refused("image_in_use", **again, read_only=False)
    assert call("nbd_export", **again)["changed"]


def test_a_daemon_that_says_nothing_is_no_success(lot: Lot, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared("nbd_export", **lot.task())
    stand_still(lot.server)
    try:
        with monkeypatch.context() as hurried:
            hurried.setattr(daemons, "SECONDS", 0.3)
            for task in (lot.task(), {"name": lot.names[0], "state": "absent"}):
                assert call("nbd_export", **task)["reason"] == "export_unresponsive"
    finally:
        os.kill(lot.server, signal.SIGCONT)
    settled(**lot.task())


def test_a_daemon_that_others_wait_for_has_what_it_has(lot: Lot) -> None:
    prepared("nbd_export", **lot.task())
    with waiting(places.monitor(lot.daemon)) as others, ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(leave, others, 0.5)
        settled(**lot.task())
        leaving.result()


def leave(clients: list[socket.socket], seconds: float) -> None:
    time.sleep(seconds)  # the module is to come while they are there
    for client in clients:
        client.close()


def test_options_reach_the_daemon(lot: Lot) -> None:
    qemu_img("bitmap", "-f", "qcow2", "--add", lot.images[0], "daily")
    more = {
        "bitmaps": ["daily"],
        "allocation_depth": True,
        "cache": "directsync",
        "discard": True,
        "description": "x y",
    }
    four_beats(**lot.one(0, read_only=False, **more), unpredictable=["virtual_size"])
    told = subprocess.run(["nbdinfo", "--json", lot.uri(0)], capture_output=True, check=True).stdout
    (seen,) = json.loads(told)["exports"]
    assert (seen["description"], seen["can_trim"]) == ("x y", True)
    assert {"qemu:allocation-depth", "qemu:dirty-bitmap:daily"} <= set(seen["contexts"])
    four_beats(**lot.one(0, read_only=False, offset="1M", size="2M"), unpredictable=["virtual_size"])
    size = subprocess.run(["nbdinfo", "--size", lot.uri(0)], capture_output=True, text=True, check=True).stdout
    assert int(size) == 2 * MIB


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"snapshot": "x"}, "server_cannot"),
        ({"delay": {"read_ms": 1}}, "server_cannot"),
        ({"server": "nbdkit"}, "server_cannot"),
        ({"daemon": "a/b"}, "bad_name"),
    ],
    ids=str,
)
def test_what_a_daemon_cannot_do_is_refused(lot: Lot, more: dict[str, Any], reason: str) -> None:
    refused(reason, **{**lot.one(0, read_only=True), **more})


def test_the_place_of_another_export_is_not_taken_and_that_one_is_named(lot: Lot) -> None:
    """Exports with servers of their own move into a storage daemon at the place of one of them."""
    place = {"bind": "127.0.0.1", "port": free_port()}
    alone = {key: value for key, value in lot.one(0).items() if key != "daemon"}
    assert call("nbd_export", **alone, **place)["changed"]
    refusal = refused("socket_in_use", **lot.task(0, 1), **place)
    assert refusal["evidence"] == {"place": "127.0.0.1:%d" % place["port"], "export": lot.names[0]}
    assert "export %s is served on" % lot.names[0] in refusal["msg"] and "state: absent" in refusal["msg"]
    assert call("nbd_export", name=lot.names[0], state="absent")["changed"]
    four_beats(**lot.task(0, 1), **place, unpredictable=["virtual_size"])
    other = dict(alone, name=lot.names[2], image=str(lot.images[2]))
    assert "storage daemon %s is served on" % lot.daemon in refused("socket_in_use", **other, **place)["msg"]
