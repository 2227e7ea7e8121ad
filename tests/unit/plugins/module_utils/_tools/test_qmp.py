"""The QMP client against a server that says what no QEMU says on request."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import QmpCommandError, QmpConnectError
from ansible_collections.platter.qemu.plugins.module_utils._tools import json_lines
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp, masked
from ansible_collections.platter.qemu.tests.lab.scripted import SECONDS, Peer, Script, serving

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": []}}
SHORT = 0.2


def event(name: str, **data: object) -> dict[str, Any]:
    return {"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}}


def greeted(script: Script) -> Script:
    def whole(peer: Peer) -> None:
        peer.send(GREETING)
        assert peer.answer({})["execute"] == "qmp_capabilities"
        script(peer)

    return whole


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "qmp")


def soon(seconds: float = SECONDS) -> float:
    return time.monotonic() + seconds


def test_who_never_stops_sending_does_not_keep_us(path: str) -> None:
    """As a guest could that opens and closes its tray all the time."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"event": "DEVICE_TRAY_MOVED"}\n' * 3)
        stream = json_lines.JsonLines(ours)
        assert stream.receive_line(time.monotonic()), "what has come in time is taken"
        with pytest.raises(TimeoutError):
            stream.receive_line(time.monotonic() - 60)


def test_the_greeting_tells_the_version(path: str) -> None:
    with serving(path, greeted(lambda peer: None)), Qmp.connect(path) as qmp:
        assert qmp.version == (7, 2, 22)
        assert qmp.commands == []


def test_what_the_session_before_has_left_may_come_before_the_greeting(path: str) -> None:
    """QEMU sends it to whoever is connected; its monitor knows of a new session only when it greets."""
    left = (event("JOB_STATUS_CHANGE", id="stream", status="pending"), {"return": {}, "id": 1}, {"error": {}, "id": 2})

    def script(peer: Peer) -> None:
        peer.send(*left, GREETING)
        assert peer.receive()["execute"] == "qmp_capabilities"
        peer.send({"return": "of another", "id": 7}, {"return": {}, "id": 1})
        peer.answer("mine")
        peer.receive()

    with serving(path, script), Qmp.connect(path) as qmp:
        assert qmp.version == (7, 2, 22)
        assert qmp.execute("query-x") == "mine"
        assert qmp.wait_event(["JOB_STATUS_CHANGE"], soon(SHORT)) is None, "of a time before ours"


def test_a_command_carries_its_arguments_and_gives_what_is_returned(path: str) -> None:
    with serving(path, greeted(lambda peer: peer.answer([1]))) as peers, Qmp.connect(path) as qmp:
        assert qmp.execute("query-x", {"node-name": "n0"}) == [1]
    assert (peers[0].received[-1]["execute"], peers[0].received[-1]["arguments"]) == ("query-x", {"node-name": "n0"})


def test_lines_may_come_in_pieces(path: str) -> None:
    def script(peer: Peer) -> None:
        asked = peer.receive()
        for byte in json.dumps({"return": {"é": 1}, "id": asked["id"]}).encode() + b"\r\n":
            peer.send(bytes([byte]))
            time.sleep(0.001)

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        assert qmp.execute("x") == {"é": 1}


def test_a_line_cut_by_a_deadline_is_not_lost(path: str) -> None:
    def script(peer: Peer) -> None:
        peer.send(b'{"event": "HALF", ')
        peer.receive()
        peer.send(b'"data": {}}\n')

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        assert qmp.wait_event(["HALF"], soon(SHORT)) is None
        with pytest.raises(QmpConnectError):
            qmp.execute("go")
        assert qmp.wait_event(["HALF"], soon()) == {"event": "HALF", "data": {}}


def test_events_between_command_and_answer_are_kept_in_order(path: str) -> None:
    def script(peer: Peer) -> None:
        asked = peer.receive()
        peer.send(event("A", n=1), event("B", n=2), event("A", n=3), {"return": 5, "id": asked["id"]}, event("C"))
        peer.receive()

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        assert qmp.execute("x") == 5
        assert qmp.wait_event(["C"], soon()) == event("C")
        assert qmp.wait_event(lambda each: each["data"].get("n", 0) > 1, soon()) == event("B", n=2)
        assert qmp.wait_event(["A"], soon()) == event("A", n=1)
        assert qmp.wait_event(["A"], soon()) == event("A", n=3)
        assert qmp.wait_event(["A"], soon(SHORT)) is None


def test_qemus_error_is_told_in_its_own_words(path: str) -> None:
    def script(peer: Peer) -> None:
        asked = peer.receive()
        peer.send({"error": {"class": "DeviceNotFound", "desc": "no such node"}, "id": asked["id"]})
        peer.answer(1)

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        with pytest.raises(QmpCommandError) as caught:
            qmp.execute("block-commit", {"device": "n0"})
        assert (caught.value.error_class, caught.value.desc) == ("DeviceNotFound", "no such node")
        assert caught.value.command == "block-commit"
        assert qmp.execute("next") == 1


def test_an_error_without_an_id_answers_the_command(path: str) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send({"error": {"class": "GenericError", "desc": "JSON parse error"}})

    with serving(path, greeted(script)), Qmp.connect(path) as qmp, pytest.raises(QmpCommandError):
        qmp.execute("x")


def test_a_late_answer_is_not_taken_for_the_next_one(path: str) -> None:
    def script(peer: Peer) -> None:
        first, second = peer.receive(), peer.receive()
        peer.send({"return": "late", "id": first["id"]}, {"return": "mine", "id": second["id"]})

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        with pytest.raises(QmpConnectError) as caught:
            qmp.execute("slow", timeout=SHORT)
        assert caught.value.reason == "qmp_timeout"
        assert qmp.execute("quick") == "mine"


@pytest.mark.parametrize("bytes_sent", [b"", b'{"return": ', b"no JSON\n", b"[1]\n", b"[" * 100_000 + b"\n"])
def test_an_end_or_garbage_in_the_middle_is_unreachable(path: str, bytes_sent: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(bytes_sent)

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        with pytest.raises(QmpConnectError) as caught:
            qmp.execute("x")
        assert caught.value.reason == "qmp_unreachable"


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-x\n", b'{"QMP": 1}\n', b'{"QMP": {"version": {"qemu": {"major": "x"}}}}\n', b"\0\xff\n", b""]
)
def test_what_speaks_something_else_is_unreachable(path: str, greeting: bytes) -> None:
    with serving(path, lambda peer: peer.send(greeting)), pytest.raises(QmpConnectError) as caught:
        Qmp.connect(path)
    assert caught.value.reason == "qmp_unreachable"


def test_no_greeting_is_a_timeout_that_names_the_likely_cause(path: str) -> None:
    def script(peer: Peer) -> None:
        peer.receive()

    with serving(path, script), pytest.raises(QmpConnectError, match="another client") as caught:
        Qmp.connect(path, timeout=SHORT)
    assert caught.value.reason == "qmp_timeout"


def test_nobody_there_is_unreachable(path: str) -> None:
    with serving(path):
        pass
    for place in (path, path + "-absent"):
        with pytest.raises(QmpConnectError) as caught:
            Qmp.connect(place)
        assert caught.value.reason == "qmp_unreachable"


def test_who_does_not_read_cannot_hold_us_up(path: str) -> None:
    over = threading.Event()
    with serving(path, greeted(lambda peer: over.wait())), Qmp.connect(path) as qmp:
        start = time.monotonic()
        with pytest.raises(QmpConnectError) as caught:
            qmp.execute("x", {"long": "x" * (8 << 20)}, timeout=SHORT)
        over.set()
        assert caught.value.reason == "qmp_timeout"
        assert time.monotonic() - start < SECONDS


def test_ten_megabytes_in_one_line(path: str) -> None:
    def script(peer: Peer) -> None:
        peer.answer("x" * 10_000_000)

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        start = time.process_time()
        assert len(qmp.execute("query-much", timeout=SECONDS)) == 10_000_000
        assert time.process_time() - start < 5


SECRETS: list[dict[str, Any]] = [
    {"qom-type": "secret", "id": "s", "data": "GEHEIM"},
    {"password": "GEHEIM", "protocol": "vnc"},
    {"actions": [{"type": "x", "data": {"password": "GEHEIM", "node": "n"}}]},
]


@pytest.mark.parametrize("arguments", SECRETS)
def test_the_record_has_no_secrets(path: str, arguments: dict[str, Any]) -> None:
    def script(peer: Peer) -> None:
        assert "GEHEIM" in json.dumps(peer.answer({}))

    with serving(path, greeted(script)), Qmp.connect(path) as qmp:
        qmp.execute("object-add", arguments)
        (sent,) = qmp.commands
    assert sent[:3] == ["qmp", path, "object-add"]
    assert "GEHEIM" not in sent[3] and "***" in sent[3]


def test_the_arguments_of_a_transaction_are_no_secret() -> None:
    action = {"type": "blockdev-snapshot", "data": {"node": "a", "overlay": "b"}}
    assert masked({"actions": [action]}) == {"actions": [action]}


def test_a_transaction_is_one_command(path: str) -> None:
    def script(peer: Peer) -> None:
        peer.answer({})

    actions = [{"type": "abort", "data": {}}]
    with serving(path, greeted(script)) as peers, Qmp.connect(path) as qmp:
        qmp.transaction(actions, properties={"completion-mode": "grouped"})
    sent = peers[0].received[-1]
    assert sent["arguments"] == {"actions": actions, "properties": {"completion-mode": "grouped"}}
