"""NBD servers that stand still, drip, lie, or never end: our client is back at its deadline with the right reason."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import NbdError
from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address
from ansible_collections.platter.qemu.plugins.module_utils._tools.nbd_client import NbdClient
from ansible_collections.platter.qemu.tests.lab.nbd import SERVERS, Served, serving, unix
from ansible_collections.platter.qemu.tests.lab.nbd_peer import GREETING, INFO, META, SERVER, Peer, Script, peer
from ansible_collections.platter.qemu.tests.lab.programs import stand_still

#: seconds for a conversation here, and how much later than that its end may come on a busy machine; peers stay for longer
LIMIT, GRACE = 0.4, 30.0
#: seconds for what comes to its end by itself
PATIENT = 60.0


def ask(address: Address, limit: float = LIMIT) -> None:
    """Everything that can be asked."""
    with NbdClient(address, limit) as client:
        for listed in client.exports():
            client.info(listed.name)
            client.contexts(listed.name)
        client.open("disk").read(0, 4096)


def told(address: Address, limit: float = LIMIT) -> NbdError:
    """The error of C(ask), in time."""
    begun = time.monotonic()
    with pytest.raises(NbdError) as raised:
        ask(address, limit)
    assert time.monotonic() - begun < limit + GRACE
    return raised.value


@pytest.mark.parametrize("server", SERVERS)
def test_a_stopped_server(tmp_path: Path, server: str) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with serving(server, Served(image), unix(tmp_path)) as process:
        ask(unix(tmp_path), PATIENT)
        stand_still(process.pid)
        try:
            assert told(unix(tmp_path)).reason == "export_unresponsive"
        finally:
            os.kill(process.pid, signal.SIGCONT)
        ask(unix(tmp_path), PATIENT)


def test_a_server_that_stops_in_the_middle(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with serving("qemu-nbd", Served(image), unix(tmp_path)) as process, _begun(unix(tmp_path)) as client:
        stand_still(process.pid)
        try:
            with pytest.raises(NbdError, match='the export "disk"') as raised:
                client.info("disk")
            assert raised.value.reason == "export_unresponsive"
        finally:
            os.kill(process.pid, signal.SIGCONT)


def _begun(address: Address) -> NbdClient:
    """A conversation that has begun, with little time left: all of it passes in any case."""
    for limit in (1.0, 5.0):
        with contextlib.suppress(NbdError):
            return _with_exports(address, limit)
    return _with_exports(address, 30.0)


def _with_exports(address: Address, limit: float) -> NbdClient:
    client = NbdClient(address, limit)
    try:
        client.exports()
    except NbdError:
        client.close()
        raise
    return client


@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_a_half_open_server(tmp_path: Path, family: str) -> None:
    """It accepts (or its queue does), and never says a word."""
    address = unix(tmp_path)
    with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as listening:
        listening.bind(address.socket if family == "unix" else ("127.0.0.1", 0))
        listening.listen(1)
        if family == "tcp":
            address = Address("disk", host="127.0.0.1", port=listening.getsockname()[1])
        assert told(address).reason == "export_unresponsive"


def test_a_queue_that_is_full(tmp_path: Path) -> None:
    address = unix(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(address.socket)
        listening.listen(0)
        first.connect(address.socket)
        assert told(address).reason == "export_unresponsive"


def _drip(text: bytes) -> Script:
    def script(peer: Peer) -> None:
        for byte in text:
            peer.send(bytes([byte]))
            time.sleep(LIMIT / 2)

    return script


def test_a_slow_drip_does_not_move_the_deadline(tmp_path: Path) -> None:
    with peer(unix(tmp_path).socket, _drip(GREETING)):
        assert told(unix(tmp_path)).reason == "export_unresponsive"


def _long_list(peer: Peer) -> None:
    option = peer.ready()
    while True:
        peer.reply(option, SERVER, struct.pack(">I", 4) + b"name")


def _long_infos(peer: Peer) -> None:
    _one_export(peer)
    option = peer.option()
    while True:
        peer.reply(option, INFO, b"\0\1name")


def _long_contexts(peer: Peer) -> None:
    _one_export(peer)
    _sized(peer)
    option = peer.option()
    while True:
        peer.reply(option, META, b"\0\0\0\1base:allocation")


def _one_export(peer: Peer) -> None:
    option = peer.ready()
    peer.reply(option, SERVER, struct.pack(">I", 4) + b"name")
    peer.reply(option)


def _sized(peer: Peer) -> None:
    option = peer.option()
    peer.reply(option, INFO, struct.pack(">HQH", 0, 1 << 20, 1))
    peer.reply(option)


def _huge_name(peer: Peer) -> None:
    peer.reply(peer.ready(), SERVER, struct.pack(">I", 1 << 30), length=1 << 30)


def _other_option(peer: Peer) -> None:
    peer.ready()
    peer.reply(6)


def _endless_chunks(peer: Peer) -> None:
    _opened(peer)
    while True:
        peer.send(struct.pack(">IHHQIQ", 0x668E33EF, 0, 1, 1, 9, 0) + b"x")


def _opened(peer: Peer) -> None:
    peer.reply(peer.ready())
    _sized(peer)
    peer.receive(28)


def _someone_elses_reply(peer: Peer) -> None:
    _opened(peer)
    peer.send(struct.pack(">IIQ", 0x67446698, 0, 99) + bytes(4096))


@pytest.mark.parametrize(
    "script",
    [
        _long_list,
        _long_infos,
        _long_contexts,
        _huge_name,
        _other_option,
        _endless_chunks,
        _someone_elses_reply,
        lambda peer: peer.send(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53" + bytes(200)),
        lambda peer: peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    ],
    ids=["list", "infos", "contexts", "huge-name", "other-option", "chunks", "handle", "oldstyle", "http"],
)
def test_a_server_that_breaks_the_protocol(tmp_path: Path, script: Script) -> None:
    with peer(unix(tmp_path).socket, script):
        assert told(unix(tmp_path), PATIENT).reason == "protocol_error"


def test_a_server_that_hangs_up(tmp_path: Path) -> None:
    for number, script in enumerate((lambda peer: None, lambda peer: peer.greet(), _one_export)):
        address = Address("disk", socket=str(tmp_path / str(number)))
        with peer(address.socket, script):
            assert told(address, PATIENT).reason == "place_unreachable"


def _garbage(seed: int) -> Callable[[Peer], None]:
    """A sound beginning of some length, then anything."""

    def script(peer: Peer) -> None:
        dice = random.Random(seed)
        steps = dice.randrange(4)
        if steps:
            peer.greet()
        for _step in range(steps - 1):
            peer.reply(peer.option())
        if steps and dice.random() < 0.5:
            kind = dice.choice([1, 2, 3, 4, (1 << 31) + dice.randrange(12)])
            peer.reply(peer.option(), kind, dice.randbytes(dice.randrange(40)))
        peer.send(dice.randbytes(dice.randrange(200)))

    return script


def test_garbage(tmp_path: Path) -> None:
    """200 kinds of it: nothing but an NbdError, each within its time."""
    reasons = set()
    for seed in range(200):
        address = Address("disk", socket=str(tmp_path / str(seed)))
        with peer(address.socket, _garbage(seed)):
            reasons.add(told(address, PATIENT).reason)
    assert {"protocol_error", "place_unreachable"} <= reasons
