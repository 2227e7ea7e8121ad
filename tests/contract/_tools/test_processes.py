"""Processes that are ended: what they have open is closed when they are said to have ended."""

from __future__ import annotations

import socket
import sys

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import processes
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, running

#: its first thread ends at once when it is asked to, and with it its command line; another keeps the port for a moment
SERVER = """
import ctypes, os, signal, socket, sys, threading, time

def end_later():
    while open("/proc/%d/cmdline" % os.getpid()).read():
        time.sleep(0.01)
    time.sleep(0.3)
    os._exit(0)

listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threading.Thread(target=end_later).start()
print("listens", flush=True)
signal.sigwait([signal.SIGTERM])
ctypes.CDLL(None).pthread_exit(None)
"""


def test_what_has_ended_listens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next server at its port, or on its image, would find it taken."""
    monkeypatch.setattr(processes, "CLOSING_SECONDS", DEADLINE)
    port = free_port()
    with running(sys.executable, "-c", SERVER, port) as server:
        assert server.stdout and server.stdout.readline() == b"listens\n"
        assert processes.lives(server.pid) and not processes.closes(server.pid)
        assert processes.end_all(lambda: filter(processes.lives, [server.pid]), DEADLINE)
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", port)) != 0
        assert not processes.lives(server.pid) and not processes.closes(server.pid)
