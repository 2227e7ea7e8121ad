"""A storage daemon that has only just been started, or is about to be: how it is spoken to."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import daemons, places
from ansible_collections.platter.qemu.plugins.module_utils._tools import load_exports
from ansible_collections.platter.qemu.plugins.module_utils._tools.processes import runs
from ansible_collections.platter.qemu.tests.contract.test_nbd_export_daemon import Lot
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import settled
from ansible_collections.platter.qemu.tests.lab.modules import prepared
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.scripted import Peer, serving

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}


def module(name: str) -> None:
    with daemons.session(name, 10.0):
        pass


def loader(name: str) -> None:
    load_exports.Monitor(places.monitor(name)).close()


@pytest.mark.parametrize("client", [module, loader])
def test_it_is_spoken_to_when_it_has_listened_for_a_moment(client: Callable[[str], None]) -> None:
    """QEMU 7.2: a client that comes at once can be the end of it."""
    name, came = exports.new_name(), []

    def greet(peer: Peer) -> None:
        came.append(time.time())
        peer.send(GREETING)
        peer.answer({})

    path = places.monitor(name)
    try:
        with serving(path, greet):
            client(name)
            assert came[0] - os.stat(path).st_ctime >= daemons.SETTLED
    finally:
        os.unlink(path)


def test_both_wait_for_the_same_time() -> None:
    """The loader is a program of its own, and cannot ask the module."""
    assert load_exports.SETTLED == daemons.SETTLED


def test_one_that_is_about_to_come_again_gets_no_second_supervisor(tmp_path: Path) -> None:
    """Its own would start another one later, which takes the monitor over and then finds no place to listen at."""
    lot = Lot(tmp_path)
    place = {"bind": "127.0.0.1", "port": free_port()}
    with exports.cleaned(*lot.names):
        prepared("nbd_export", **lot.task(0, **place))
        for _crash in range(4):
            crash(lot)
        end(lot.server)
        # of itself it would come in 3.2 s
        prepared("nbd_export", **lot.task(0, 1, **place))
        # a child of its own has its words until it is the daemon or what loads the exports
        wait_until(lambda: supervisors(lot) == [exports.supervisor_of(lot.daemon)], "there is one")
        settled(**lot.task(0, 1, **place))


def crash(lot: Lot) -> None:
    """Each time it comes again later."""
    before = lot.server
    end(before)
    wait_until(lambda: exports.servers_of(lot.daemon) not in ([], [before]), "it is back")


def end(server: int) -> None:
    """And all that the kernel still does for it, such as keeping its port."""
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not runs(server), "it has ended")


def supervisors(lot: Lot) -> list[int]:
    return sorted(set(exports.processes_of(lot.daemon)) - set(exports.servers_of(lot.daemon)))
