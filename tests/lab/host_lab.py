"""A network of hosts on this machine: namespaces with an sshd and file systems of their own, out of reach of all but each other.

host_lab.py up DIRECTORY NAME=ADDRESS...   makes them; DIRECTORY/ssh then is an ssh that reaches them, with DIRECTORY/key
host_lab.py down DIRECTORY                 ends all that runs in them, and removes DIRECTORY

A host sees the files of this machine, and what it writes is gone with it; /tmp, /run and /srv are empty at first. It has no
devices but the harmless ones, and processes, interfaces and a name of its own. Its kernel is that of this machine, so this is
no wall against ill will. Needs root. A host that nobody ends does so by itself after an hour.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

LIFETIME = 3600.0
PATIENCE = 180.0
#: of those who call by DIRECTORY/ssh
CALLER = "10.98.0.1"
NETWORK = "network"
_FRESH = ("tmp", "run", "srv", "dev")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SSHD = """
HostKey /run/lab/hostkey
AuthorizedKeysFile /run/lab/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


def up(directory: Path, addresses: dict[str, str]) -> None:
    """Returns when each host answers at its port 22."""
    down(directory)
    directory.mkdir(mode=0o700, parents=True)
    for name in ("key", "hostkey"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
    network = _start(directory, NETWORK, "--net")
    _ip(network, "link", "add", "br0", "type", "bridge")
    _ip(network, "address", "add", f"{CALLER}/24", "dev", "br0")
    _ip(network, "link", "set", "br0", "up")
    for number, (name, address) in enumerate(addresses.items(), start=1):
        # until it has files of its own, what the machine unmounts is unmounted there too
        own = ("--net", "--mount", "--propagation", "slave", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
        host = _start(directory, name, *own)
        _connect(network, host, f"port{number}", address)
    _write_ssh(directory, network, addresses)
    for name, address in addresses.items():
        _wait(lambda at=address: _answers(directory, at), f"host {name} does not answer at {address}")


def down(directory: Path) -> None:
    """Returns when nothing of it is left."""
    numbers = dict(_running(directory))
    network = numbers.pop(NETWORK, None)
    for pid in numbers.values():  # the first process of a host; the kernel ends the others with it
        _end(pid)
    for pid in _in_network_of(network) if network else []:
        _end(pid)
    shutil.rmtree(directory, ignore_errors=True)


def _connect(network: int, host: int, port: str, address: str) -> None:
    """A cable from the host to the bridge; neither of its ends is ever on the machine itself."""
    ends = ("type", "veth", "peer", "name", "eth0", "netns", str(host))
    _run("ip", "link", "add", port, "netns", str(network), *ends)
    _ip(network, "link", "set", port, "master", "br0", "up")
    _ip(host, "link", "set", "lo", "up")
    _ip(host, "address", "add", f"{address}/24", "dev", "eth0")
    _ip(host, "link", "set", "eth0", "up")


def _write_ssh(directory: Path, network: int, addresses: dict[str, str]) -> None:
    public = (directory / "hostkey.pub").read_text()
    (directory / "known_hosts").write_text("".join(f"{address} {public}" for address in addresses.values()))
    program = directory / "ssh"
    program.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{network}/ns/net ssh "$@"\n')
    program.chmod(0o700)


def _answers(directory: Path, address: str) -> bool:
    options = ("-i", str(directory / "key"), "-o", f"UserKnownHostsFile={directory}/known_hosts", "-o", "BatchMode=yes")
    command = [str(directory / "ssh"), "-F", "none", *options, "-o", "ConnectTimeout=5", f"root@{address}", "true"]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def _start(directory: Path, name: str, *namespaces: str) -> int:
    """Start a network or a host that outlives us; the number of its first process."""
    command = ["unshare", *namespaces, "--", sys.executable, str(Path(__file__).resolve()), "be", str(directory), name]
    with (directory / f"{name}.log").open("wb") as log:
        subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with contextlib.suppress(TimeoutError):
        _wait(lambda: any(found == name for found, _pid in _running(directory)), name)
        return dict(_running(directory))[name]
    raise SystemExit(f"{name} was not started: {(directory / f'{name}.log').read_text()}")


def _be(directory: Path, name: str) -> None:
    """The first process of a network or of a host, which waits for the others, and for its end."""
    number = os.readlink("/proc/self")  # as the machine counts: /proc is still the machine's
    if name != NETWORK:
        root = _own_files(directory, name)
        socket.sethostname(name)
    _publish(directory / f"{name}.pid", f"{number} {_born(int(number))}\n")
    if name != NETWORK:
        _move_into(root)
        _serve_ssh()
    deadline = time.monotonic() + LIFETIME
    while time.monotonic() < deadline:
        signal.sigtimedwait({signal.SIGCHLD}, 10.0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _own_files(directory: Path, name: str) -> Path:
    """The files of the machine, in a layer that takes what is written."""
    place = directory / f"{name}.files"
    place.mkdir()
    _mount("tmpfs", place, "mode=755")
    for each in ("upper", "work", "root"):
        (place / each).mkdir()
    root = place / "root"
    _mount("overlay", root, f"lowerdir=/,upperdir={place}/upper,workdir={place}/work")
    for each in _FRESH:
        _mount("tmpfs", root / each, "mode=1777" if each == "tmp" else "mode=755")
    for each in _DEVICES:
        (root / "dev" / each).touch()
        _run("mount", "--bind", f"/dev/{each}", str(root / "dev" / each))
    for each in ("pts", "shm"):
        (root / "dev" / each).mkdir()
    _mount("devpts", root / "dev/pts", "newinstance,ptmxmode=666,mode=620")
    _mount("tmpfs", root / "dev/shm", "mode=1777")
    (root / "dev/ptmx").symlink_to("pts/ptmx")
    (root / "dev/fd").symlink_to("/proc/self/fd")
    _mount("sysfs", root / "sys", "ro")
    lab = root / "run/lab"
    lab.mkdir(mode=0o700)
    shutil.copy(directory / "hostkey", lab / "hostkey")
    shutil.copy(directory / "key.pub", lab / "authorized_keys")
    (lab / "sshd_config").write_text(_SSHD)
    (root / "run/sshd").mkdir(mode=0o755)
    (root / "etc/hostname").write_text(f"{name}\n")
    return root


def _move_into(root: Path) -> None:
    """No way leads back to the files of the machine."""
    _mount("proc", root / "proc", "nosuid")
    os.chdir(root)
    _run("pivot_root", ".", "mnt")
    os.chdir("/")
    _run("umount", "--lazy", "/mnt")


def _serve_ssh() -> None:
    _run("usermod", "--password", "*", "root")  # sshd turns away those whose password is locked, with any key
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    unblocked = {"preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_SETMASK, set())}
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    subprocess.Popen([str(sshd), "-D", "-e", "-f", "/run/lab/sshd_config"], start_new_session=True, **unblocked)


def _mount(kind: str, place: Path, options: str) -> None:
    _run("mount", "-t", kind, "-o", options, "platter-lab", str(place))


def _publish(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def _running(directory: Path) -> Iterator[tuple[str, int]]:
    """The networks and hosts that run; a number that another process has by now is not taken for one."""
    for path in directory.glob("*.pid"):
        pid, born = path.read_text().split()
        if _born(int(pid)) == born:
            yield path.stem, int(pid)


def _born(pid: int) -> str:
    """When a process was started, in the kernel's own count; empty for none, or one that has ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[19] if fields[0] not in "ZX" else ""
    return ""


def _in_network_of(pid: int) -> list[int]:
    """All processes there: callers that keep a connection open, and the first one last."""
    there, found = os.readlink(f"/proc/{pid}/ns/net"), []
    if there == os.readlink("/proc/self/ns/net"):
        raise SystemExit(f"process {pid} is in the network of this machine")
    for each in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{each}/ns/net") == there and each != pid:
                found.append(each)
    return [*found, pid]


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _wait(lambda: not _born(pid), f"process {pid} does not end")


def _wait(is_so: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.02)


def _ip(pid: int, *words: str) -> None:
    """In the network that a process is in."""
    _run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def main() -> None:
    """One of the verbs above; C(be) is for ourselves."""
    verb, directory, *rest = sys.argv[1:]
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if verb == "up":
        up(Path(directory), dict(word.split("=", 1) for word in rest))
    elif verb == "down":
        down(Path(directory))
    else:
        _be(Path(directory), *rest)


if __name__ == "__main__":
    main()
