"""Exports that the module made, as others see them: clients, processes, and whether anything is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any, Iterator

from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places
from ansible_collections.platter.qemu.tests.lab.modules import call, process
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_until

PROMPT = b"qemu-io> "


def new_name() -> str:
    """Of an export that no other test has."""
    return "test-" + uuid.uuid4().hex[:12]


@contextlib.contextmanager
def cleaned(*names: str) -> Iterator[None]:
    """Exports of these names end with the block, whatever happens in it."""
    try:
        yield
    finally:
        for name in names:
            for pid in processes_of(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            result = call("nbd_export", name=name, state="absent", allow_disconnect=True, stop_timeout=120)
            assert not result.get("failed"), result["msg"]


SERVERS = ("qemu-nbd", "nbdkit", "qemu-storage-daemon")


def processes_of(name: str) -> list[int]:
    """Every process with the name of the export in its command line that is a supervisor or a server."""
    return list(_command_lines(name))


def _command_lines(name: str) -> dict[int, list[str]]:
    """The words of each of them, by its number. All is read once: any of them may end meanwhile."""
    found = {}
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit()):
        with contextlib.suppress(OSError):
            words = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace").split("\0")
            ours = "supervise.py" in " ".join(words[:5]) or os.path.basename(words[0]) in SERVERS
            if ours and any(name in word for word in words):
                found[int(pid)] = words
    return found


def servers_of(name: str) -> list[int]:
    """Those that are no supervisors."""
    return [pid for pid, words in _command_lines(name).items() if not _supervises(words)]


def _supervises(words: list[str]) -> bool:
    return any("supervise.py" in word for word in words)


def server_of(name: str) -> int:
    """The process that serves it."""
    servers = servers_of(name)
    assert len(servers) == 1, servers
    return servers[0]


def supervisor_of(name: str) -> int:
    """The process that watches over its server."""
    found = [pid for pid, words in _command_lines(name).items() if _supervises(words)]
    # until a child of its own has become the server, that has the same words; and numbers of processes begin anew
    return next(pid for pid in found if _parent(pid) not in found)


def _parent(pid: int) -> int:
    """0 of one that has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def leftovers(name: str) -> list[str]:
    """What is there of an export: processes, and files in the directories of the module."""
    top = Path(own_places.socket_directory())
    files = [path for directory in (top, top / "nbd") if directory.is_dir() for path in directory.iterdir()]
    named = [str(path) for path in files if path.name.startswith((name, ":" + name))]
    return [f"process {pid}" for pid in processes_of(name)] + named


def uri(name: str) -> str:
    """How a client names the export on this host."""
    return f"nbd+unix:///{name}?socket={own_places.socket_directory()}/{name}.sock"


def nbdinfo(name: str) -> dict[str, Any]:
    """The export as libnbd sees it."""
    told = subprocess.run(["nbdinfo", "--json", uri(name)], stdout=subprocess.PIPE, check=True, timeout=DEADLINE)
    return dict(json.loads(told.stdout)["exports"][0])


def io(name: str, *commands: str, writes: bool = False) -> None:
    """qemu-io's commands on the export; they must succeed."""
    words = [word for command in commands for word in ("-c", command)]
    argv = ["qemu-io", "-f", "raw", *([] if writes else ["-r"]), *words, uri(name)]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout


@contextlib.contextmanager
def client(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A qemu-io that is connected while the block runs, and reads its commands from us; by itself it would flush each write."""
    argv = ["qemu-io", "-t", "writeback", "-f", "raw", *(["-r"] if nbdinfo(name)["is_read_only"] else []), uri(name)]
    process = subprocess.Popen(argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        tell(process, "read 0 512")
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[bytes], *commands: str) -> None:
    """Have a qemu-io carry out commands. It takes one at a time, and prompts when it is done."""
    assert process.stdin and process.stdout
    for command in commands:
        process.stdin.write(command.encode() + b"\n")
        process.stdin.flush()
        said = b""
        while (not said.replace(PROMPT, b"").strip() and command != "flush") or not said.endswith(PROMPT):
            piece = os.read(process.stdout.fileno(), 4096)
            assert piece, said
            said += piece
        assert b"failed" not in said and b"error" not in said, said


def connects(path: object) -> bool:
    """Whether anybody listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


def gets_in(uri: str) -> bool:
    """Whether libnbd does."""
    return (
        subprocess.run(["nbdinfo", "--size", uri], capture_output=True, timeout=DEADLINE, check=False).returncode == 0
    )


def killed_after(milliseconds: int, **options: Any) -> None:
    """Run the module, and kill it after a while."""
    module = process("nbd_export", **options)
    try:
        module.wait(milliseconds / 1000)
    except subprocess.TimeoutExpired:
        module.kill()
    module.communicate()


def kill_server(name: str) -> int:
    """End the server as a crash would; the number of the one that was started in its place."""
    before = server_of(name)
    os.kill(before, signal.SIGKILL)

    def another() -> bool:
        servers = servers_of(name)
        new = bool(servers) and before not in servers
        return new and connects(f"{own_places.socket_directory()}/{name}.sock") and gets_in(uri(name))

    wait_until(another, "the supervisor starts it again")
    return server_of(name)
