"""The guest agent's client, and that a guest is thawed whatever happens, against an agent that follows a script."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import GuestAgentError
from ansible_collections.platter.qemu.plugins.module_utils._tools.guest_agent import GuestAgent, frozen
from ansible_collections.platter.qemu.tests.lab.programs import wait_until
from ansible_collections.platter.qemu.tests.lab.scripted import SECONDS, Peer, Script, serving

SHORT = 0.3
FREEZING = ["guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-freeze"]
THAWING = ["guest-sync-delimited", "guest-fsfreeze-thaw"]
KILLED = """
import os, sys, threading
from ansible_collections.platter.qemu.plugins.module_utils._tools.guest_agent import GuestAgent, frozen
for _each in range(int(sys.argv[2])):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
with frozen(GuestAgent.connect(sys.argv[1])):
    print("frozen", flush=True)
    sys.stdin.readline()
"""


class Hasty(GuestAgent):
    """Waits for no freeze; for the thaw as long as any, on a busy machine too."""

    def freeze(self, timeout: float = SHORT) -> int:
        return super().freeze(min(timeout, SHORT))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agent")


class Agent:
    """Answers as the agent does. C(instead): what it does in the place of its usual answer to a command."""

    def __init__(self, **instead: Script) -> None:
        self.instead = {name.replace("_", "-"): script for name, script in instead.items()}
        self.state = "thawed"
        self.asked: list[str] = []

    def __call__(self, peer: Peer) -> None:
        while True:
            message = peer.receive()
            if not message:
                return
            command = message["execute"]
            self.asked.append(command)
            if command in self.instead:
                self.instead[command](peer)
            else:
                self._answer(peer, command, message.get("arguments", {}))

    def _answer(self, peer: Peer, command: str, arguments: dict[str, Any]) -> None:
        if command == "guest-sync-delimited":
            peer.send(b"\xff", {"return": arguments["id"]})
        elif command == "guest-fsfreeze-status":
            peer.send({"return": self.state})
        else:
            before, self.state = self.state, "frozen" if command.endswith("freeze") else "thawed"
            peer.send({"return": 2 if self.state != before else 0})


def refusing(peer: Peer) -> None:
    peer.send({"error": {"class": "GenericError", "desc": "cannot do that"}})


def silent(peer: Peer) -> None:
    """Says nothing."""


def test_answers_meant_for_others_are_skipped(path: str) -> None:
    def script(peer: Peer) -> None:
        token = peer.receive()["arguments"]["id"]
        peer.send({"return": token + 1}, b'{"return": "half', b"\xff", {"return": token + 2}, b"\xff\n")
        peer.send({"return": token}, b"\xff", {"return": token})
        peer.answer("thawed")

    with serving(path, script), GuestAgent.connect(path) as agent:
        assert agent.fsfreeze_status() == "thawed"


def test_a_guest_without_an_agent_is_a_timeout(path: str) -> None:
    with serving(path, Agent(guest_sync_delimited=silent)), pytest.raises(GuestAgentError) as caught:
        GuestAgent.connect(path, timeout=SHORT)
    assert caught.value.reason == "agent_timeout"


def test_a_socket_without_anybody_is_unreachable(path: str) -> None:
    with pytest.raises(GuestAgentError) as caught:
        GuestAgent.connect(path)
    assert caught.value.reason == "agent_unreachable"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "agent_unreachable"),
        (b"no JSON\n", "agent_refused"),
        (b"[1]\n", "agent_refused"),
        (b'{"error": "x"}\n', "agent_refused"),
        (b'{"error": {"desc": null}}\n', "agent_refused"),
    ],
)
def test_an_end_is_unreachable_and_garbage_a_refusal(path: str, said: bytes, reason: str) -> None:
    def script(peer: Peer) -> None:
        peer.send(said)
        peer.hang_up()

    agent = Agent(guest_fsfreeze_status=script)
    with serving(path, lambda peer: _until_closed(agent, peer)), GuestAgent.connect(path) as connected:
        with pytest.raises(GuestAgentError) as caught:
            connected.fsfreeze_status()
        assert caught.value.reason == reason


def _until_closed(agent: Agent, peer: Peer) -> None:
    with contextlib.suppress(OSError, ValueError):
        agent(peer)


def test_the_agents_own_error_is_told(path: str) -> None:
    with serving(path, Agent(guest_fsfreeze_status=refusing)), GuestAgent.connect(path) as agent:
        with pytest.raises(GuestAgentError, match="cannot do that") as caught:
            agent.fsfreeze_status()
        assert caught.value.reason == "agent_refused"


def test_ten_megabytes_in_one_line(path: str) -> None:
    agent = Agent(guest_file_read=lambda peer: peer.send({"return": "x" * 10_000_000}))
    with serving(path, agent), GuestAgent.connect(path) as connected:
        assert len(connected.execute("guest-file-read", timeout=SECONDS)) == 10_000_000


def test_frozen_while_the_block_runs_and_thawed_after_it(path: str) -> None:
    guest = Agent()
    with serving(path, guest), GuestAgent.connect(path) as agent:
        with frozen(agent) as state:
            assert (guest.state, state.file_systems) == ("frozen", 2)
        assert (guest.state, state.thawed, state.held) == ("thawed", 2, True)
        assert watchers() == []
    assert guest.asked == FREEZING + THAWING


def test_thawed_after_an_exception_which_is_the_one_reported(path: str) -> None:
    guest = Agent()
    with serving(path, guest), GuestAgent.connect(path) as agent:
        with pytest.raises(KeyError), frozen(agent):
            raise KeyError("x")
        assert guest.state == "thawed"
        assert watchers() == []


def test_a_guest_that_thawed_itself_is_noticed(path: str) -> None:
    guest = Agent()
    with serving(path, guest), GuestAgent.connect(path) as agent:
        with frozen(agent) as state:
            guest.state = "thawed"
        assert not state.held


def test_a_guest_frozen_by_somebody_else_is_left_alone(path: str) -> None:
    guest = Agent()
    guest.state = "frozen"
    with serving(path, guest), GuestAgent.connect(path) as agent:
        with pytest.raises(GuestAgentError) as caught, frozen(agent):
            pytest.fail("not reached")
        assert (caught.value.reason, guest.state) == ("freeze_failed", "frozen")


def odd(peer: Peer) -> None:
    peer.send({"return": {"file-systems": [1]}})


def nothing(peer: Peer) -> None:
    peer.send({"return": None})


def garbage(peer: Peer) -> None:
    peer.send(b"]\n")


@pytest.mark.parametrize("answer", [refusing, silent, odd, nothing, garbage])
def test_what_a_failed_freeze_has_frozen_is_thawed(path: str, answer: Script) -> None:
    guest = Agent(guest_fsfreeze_freeze=answer)
    with serving(path, guest), Hasty.connect(path) as agent:
        with pytest.raises(GuestAgentError) as caught, frozen(agent):
            pytest.fail("not reached")
        assert caught.value.reason == "freeze_failed"
    assert guest.asked == FREEZING + THAWING


@pytest.mark.parametrize("answer", [refusing, odd, garbage])
def test_the_watcher_goes_on_where_our_thaw_fails(path: str, answer: Script) -> None:
    guest = Agent()
    refusals = iter([answer, answer])

    def at_the_third_time(peer: Peer) -> None:
        next(refusals, lambda peer: guest._answer(peer, "guest-fsfreeze-thaw", {}))(peer)

    guest.instead["guest-fsfreeze-thaw"] = at_the_third_time
    with serving(path, guest):
        with pytest.raises(GuestAgentError), GuestAgent.connect(path) as agent, frozen(agent):
            pass
        wait_until(lambda: guest.state == "thawed", "the watcher thaws")
    assert guest.asked == FREEZING + 3 * THAWING


@pytest.mark.parametrize("threads", [0, 8])
def test_thawed_when_we_are_killed(path: str, threads: int) -> None:
    guest = Agent()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with serving(path, guest):
        command = [sys.executable, "-c", KILLED, path, str(threads)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"frozen\n"
            assert guest.state == "frozen"
            process.kill()
            # it keeps no end of our pipe: else this waits for it
            assert process.stdout.read() == b""
        wait_until(lambda: guest.state == "thawed", "the watcher thaws")
    # serving() has ended, so the watcher's connection has
    assert guest.asked == FREEZING + THAWING


def test_a_watcher_needs_no_answer_from_a_guest_that_is_gone(path: str) -> None:
    def script(peer: Peer) -> None:
        peer.hang_up()

    guest = Agent(guest_fsfreeze_freeze=script)
    with serving(path, lambda peer: _until_closed(guest, peer)):
        fail_to_freeze(path)
    wait_until(lambda: watchers() == [], "the watcher ends")


def fail_to_freeze(path: str) -> None:
    with pytest.raises(GuestAgentError), GuestAgent.connect(path) as agent, frozen(agent):
        pytest.fail("not reached")


def watchers() -> list[str]:
    """Processes of our own command line that are not us, nor our parents: forks of this test."""
    own = Path("/proc/self/cmdline").read_bytes()
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            session = status.read_text().rpartition(")")[2].split()[3]
            if status.parent.name == session and status.with_name("cmdline").read_bytes() == own:
                found.append(session)
        except OSError:
            continue
    return [each for each in found if int(each) not in (os.getpid(), os.getsid(0))]


def test_the_watcher_is_there_while_frozen(path: str) -> None:
    """That the two tests above can fail."""
    with serving(path, Agent()), GuestAgent.connect(path) as agent, frozen(agent):
        wait_until(lambda: len(watchers()) == 1, "one is in a session of its own")


def test_the_freeze_may_be_slow_and_the_thaw_waits_behind_it(path: str) -> None:
    over = threading.Event()
    guest = Agent()

    def slow(peer: Peer) -> None:
        over.wait(3 * SHORT)
        guest._answer(peer, "guest-fsfreeze-freeze", {})

    guest.instead["guest-fsfreeze-freeze"] = slow
    with serving(path, guest), Hasty.connect(path) as agent:
        with pytest.raises(GuestAgentError), frozen(agent):
            pytest.fail("not reached")
        assert guest.state == "thawed"
