"""Hosts as far as the network goes: namespaces of this machine, with a server that all of them reach and nobody else."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from typing import Iterator, NamedTuple

#: of the server, and of no interface outside
ADDRESS = "10.99.0.1"


class Hosts(NamedTuple):
    """The names of the namespaces."""

    server: str
    clients: list[str]


def under(host: str) -> tuple[str, ...]:
    """What runs a program there. (C(ip netns exec) would give it mounts of its own too, for each run.)"""
    return ("nsenter", f"--net=/run/netns/{host}", "--")


@contextlib.contextmanager
def hosts(number: int) -> Iterator[Hosts]:
    """A server and C(number) clients, which go with the block. Their interfaces are never on the machine itself."""
    tag = uuid.uuid4().hex[:6]
    made = Hosts(f"platter-{tag}-s", [f"platter-{tag}-{each}" for each in range(1, number + 1)])
    try:
        for host in (made.server, *made.clients):
            _ip("netns", "add", host)
            _ip("-n", host, "link", "set", "lo", "up")
        _ip("-n", made.server, "address", "add", f"{ADDRESS}/32", "dev", "lo")
        for each, client in enumerate(made.clients, start=1):
            _connect(made.server, client, each)
        yield made
    finally:
        for host in (made.server, *made.clients):
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)


def _connect(server: str, client: str, each: int) -> None:
    _ip("link", "add", f"v{each}", "netns", server, "type", "veth", "peer", "name", "v0", "netns", client)
    for host, name, last in ((server, f"v{each}", 1), (client, "v0", 2)):
        _ip("-n", host, "address", "add", f"10.99.{each}.{last}/24", "dev", name)
        _ip("-n", host, "link", "set", name, "up")
    _ip("-n", client, "route", "add", f"{ADDRESS}/32", "via", f"10.99.{each}.1")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
