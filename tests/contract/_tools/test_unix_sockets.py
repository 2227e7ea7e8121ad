"""Who is connected to a server, and what a server is connected to."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
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


def test_what_is_left_is_removed_as_soon_as_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        # as the kernel does for a process that was killed, somewhat later than it is gone for others
        closing = threading.Timer(0.3, listener.close)
        closing.start()
        unix_sockets.remove_left(str(path))
        closing.join()
    assert not path.exists()


def test_what_somebody_listens_at_and_what_is_no_socket_stays(tmp_path: Path) -> None:
    path, image, link = tmp_path / "socket", tmp_path / "image", tmp_path / "link"
    image.write_text("not ours")
    link.symlink_to(path)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        for each in (path, image, link, tmp_path / "nothing"):
            unix_sockets.remove_left(str(each))
        assert sorted(os.listdir(tmp_path)) == ["image", "link", "socket"]
