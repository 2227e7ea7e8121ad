"""NBD servers for tests: QEMU's two and nbdkit, on a Unix socket or on loopback; they end with the test."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, answers_nbd, running, wait_until

SERVERS = ("qemu-nbd", "qemu-storage-daemon", "nbdkit")


@dataclass(frozen=True)
class Served:
    """An image that a server has an export of. C(more), C(last): further arguments of the program, before and behind.

    C(plugin): what nbdkit serves instead of the image.
    """

    image: Path
    format: str = "raw"
    name: str = "disk"
    writable: bool = False
    more: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    plugin: tuple[str, ...] = ()


def unix(tmp_path: Path, name: str = "disk", **more: t.Any) -> Address:
    """An address on a Unix socket."""
    return Address(name, socket=str(tmp_path / "nbd.sock"), **more)


def tcp(name: str = "disk", **more: t.Any) -> Address:
    """An address on loopback, with a port that nobody has."""
    return Address(name, host="127.0.0.1", port=free_port(), **more)


@contextlib.contextmanager
def serving(server: str, served: Served, address: Address, *more: object) -> t.Iterator[subprocess.Popen[bytes]]:
    """One of SERVERS with one export at the address. C(more): arguments for TLS."""
    with running(server, *more, *_ARGUMENTS[server](served, address), *served.more, *_last(server, served)) as process:
        where = address.socket or (address.host, address.port)
        wait_until(lambda: answers_nbd(where) or process.poll() is not None, f"{server} serves")
        assert process.poll() is None, f"{server} has ended"
        yield process


def nbdinfo(uri: str, *options: str) -> dict[str, t.Any]:
    """What libnbd's nbdinfo says of a server."""
    done = subprocess.run(
        ["nbdinfo", "--json", *options, uri], check=True, capture_output=True, text=True, timeout=DEADLINE
    )
    return dict(json.loads(done.stdout))


def qemu_nbd_list(*arguments: str) -> list[str]:
    """The names of the exports that qemu-nbd's client sees."""
    done = subprocess.run(
        ["qemu-nbd", "--list", *arguments], check=True, capture_output=True, text=True, timeout=DEADLINE
    )
    return re.findall(r"^ export: '(.*)'$", done.stdout, re.MULTILINE)


def secured(server: str, certificates: Path | None = None, psk: Path | None = None, verify: bool = True) -> list[str]:
    """Arguments for C(serving) with TLS; the address must have C(tls) too. C(verify): only with the right certificate."""
    if server == "nbdkit":
        which = [f"--tls-psk={psk}"] if psk else [f"--tls-certificates={certificates}"]
        return ["--tls=require", *which, *(["--tls-verify-peer"] if verify and not psk else [])]
    kind = f"psk,dir={psk.parent}" if psk else f"x509,dir={certificates},verify-peer={'on' if verify else 'off'}"
    creds = ["--object", f"tls-creds-{kind},id=tls,endpoint=server"]
    return [*creds, *(["--tls-creds", "tls"] if server == "qemu-nbd" else [])]


# --- how each is started


def _qemu_nbd(served: Served, address: Address) -> list[str]:
    where = ["-k", address.socket] if address.socket else ["-b", address.host, "-p", str(address.port)]
    return ["-t", "-e", "8", "-f", served.format, "-x", served.name, *where, *([] if served.writable else ["-r"])]


def _storage_daemon(served: Served, address: Address) -> list[str]:
    file = {"driver": "file", "node-name": "file", "filename": str(served.image)}
    node = {"driver": served.format, "node-name": "disk", "file": "file"}
    export = {"type": "nbd", "id": "e", "node-name": "disk", "name": served.name, "writable": served.writable}
    server: dict[str, t.Any] = {"addr": _socket_address(address), "max-connections": 0}
    if address.tls:
        server["tls-creds"] = "tls"
    nodes = [argument for each in (file, node) for argument in ("--blockdev", json.dumps(each))]
    return [*nodes, "--nbd-server", json.dumps(server), "--export", json.dumps(export)]


def _socket_address(address: Address) -> dict[str, str]:
    if address.socket:
        return {"type": "unix", "path": address.socket}
    return {"type": "inet", "host": address.host, "port": str(address.port)}


def _nbdkit(served: Served, address: Address) -> list[str]:
    where = ["-U", address.socket] if address.socket else ["-i", address.host, "-p", str(address.port)]
    return ["-f", *where, "-e", served.name, *([] if served.writable else ["-r"])]


_ARGUMENTS: dict[str, t.Callable[[Served, Address], list[str]]] = {
    "qemu-nbd": _qemu_nbd,
    "qemu-storage-daemon": _storage_daemon,
    "nbdkit": _nbdkit,
}


def _last(server: str, served: Served) -> list[str]:
    what = {"qemu-nbd": [str(served.image)], "nbdkit": [*(served.plugin or ("file", str(served.image)))]}
    return [*what.get(server, []), *served.last]
