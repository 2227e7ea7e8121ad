"""Who is connected to a server, and what a server is connected to."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._tools import unix_sockets
from ansible_collections.platter.qemu.tests.lab.programs import running, wait_until

SERVER = """
import socket, sys, time
log = socket.socket(socket.AF_UNIX)
log.connect(sys.argv[2])
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
accepted = listener.accept()
time.sleep(60)
"""


def test_what_a_server_writes_its_log_to_is_no_client(tmp_path: Path) -> None:
    served, log = str(tmp_path / "served"), str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX) as journal, socket.socket(socket.AF_UNIX) as client:
        journal.bind(log)
        journal.listen()
        with running(sys.executable, "-c", SERVER, served, log) as server, contextlib.closing(journal.accept()[0]):
            wait_until(lambda: unix_sockets.listener_at(served, unix_sockets.read_table()), "it listens")
            client.connect(served)

            def clients() -> list[int | None]:
                own = unix_sockets.sockets_of([server.pid])
                return unix_sockets.clients_of([server.pid], own, unix_sockets.read_table())

            wait_until(clients, "it has a client")
            assert clients() == [os.getpid()]
