"""QEMU without a guest, and qemu-storage-daemon: programs with a QMP socket, ready in a tenth of a second."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, running, wait_for_monitor, wait_until

#: no machine, so no firmware and no devices; block devices and jobs work
BARE = ("qemu-system-x86_64", "-M", "none", "-S", "-nodefaults", "-display", "none")
DAEMON = ("qemu-storage-daemon",)


def blockdev(**properties: object) -> list[str]:
    """The option for one node; C(_) in names means C(-)."""
    return ["--blockdev", json.dumps({name.replace("_", "-"): value for name, value in properties.items()})]


def qcow2(node: str, path: object, **more: object) -> list[str]:
    """The option for a qcow2 image on a file."""
    return blockdev(driver="qcow2", node_name=node, file={"driver": "file", "filename": str(path)}, **more)


@contextlib.contextmanager
def bare(path: Path, *options: object, program: tuple[str, ...] = BARE) -> Iterator[subprocess.Popen[bytes]]:
    """A QEMU or storage daemon with its QMP socket at C(path), mode 0600 as only we could have made it."""
    with running(*program, *_monitor(path, program), *options) as process:
        wait_for_monitor(process, path)
        path.chmod(0o600)
        yield process


def _monitor(path: Path, program: tuple[str, ...]) -> list[str]:
    if program == BARE:
        return ["-qmp", f"unix:{path},server=on,wait=off"]
    return ["--chardev", f"socket,id=m,path={path},server=on,wait=off", "--monitor", "chardev=m"]


@contextlib.contextmanager
def given_its_socket(path: Path, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A QEMU whose listening socket was made by us and handed down, as libvirt does it."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o600)
        number = listening.fileno()
        command = [*BARE, "-chardev", f"socket,id=m,fd={number},server=on,wait=off", "-mon", "chardev=m,mode=control"]
        process = subprocess.Popen([*command, *map(str, options)], pass_fds=[number], stdin=subprocess.DEVNULL)
        try:
            wait_for_monitor(process, path)
            yield process
        finally:
            process.terminate()
            process.wait(DEADLINE)


@contextlib.contextmanager
def waiting(path: object) -> Iterator[list[socket.socket]]:
    """So many clients at a QMP socket that no other gets in. The first of them is served, and says nothing."""
    with contextlib.ExitStack() as all_of_them:
        clients: list[socket.socket] = []
        wait_until(lambda: not _another(str(path), clients, all_of_them) and len(clients) > 1, "all places are taken")
        yield clients


def _another(path: str, clients: list[socket.socket], all_of_them: contextlib.ExitStack) -> bool:
    """Whether one more got in. The greeting tells that the first is no longer waiting itself."""
    client = all_of_them.enter_context(socket.socket(socket.AF_UNIX))
    client.setblocking(False)
    try:
        client.connect(path)
    except BlockingIOError:
        return False
    if not clients:
        client.settimeout(DEADLINE)
        assert client.recv(1 << 16)
    clients.append(client)
    return True


def node_names(qmp: Any) -> set[str]:
    """The names of all nodes that have a name of their own."""
    nodes = qmp.execute("query-named-block-nodes", {"flat": True})
    return {node["node-name"] for node in nodes if not node["node-name"].startswith("#")}
