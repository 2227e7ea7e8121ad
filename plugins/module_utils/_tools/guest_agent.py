# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""A client of the QEMU guest agent's socket, and file systems frozen so that they are always thawed again.

The protocol: C(qga/qapi-schema.json) of QEMU; one JSON object a line each way, no greeting, no ids. The socket is
QEMU's, which connects anybody; whether an agent runs in the guest shows only when it answers.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import freeze_watch, json_lines, unix_peer

#: seconds; a freeze first writes out what the guest has in memory
FREEZE_SECONDS = 60.0
COMMAND_SECONDS = 10.0
#: seconds for which a watcher goes on trying to thaw
RESCUE_SECONDS = 300.0
#: seconds before it tries again what the agent did not do
_BETWEEN_TRIES = 0.2
#: no valid UTF-8, so that the agent's parser drops what it holds; the agent sends it before its delimited answer
_DELIMITER = b"\xff"


class GuestAgent:
    """A session with the agent of one guest. Use it with C(with); it is not for several threads."""

    def __init__(self, path: str, stream: json_lines.JsonLines) -> None:
        self.path = path
        self.commands: t.List[t.List[str]] = []
        self._stream = stream

    @classmethod
    def connect(
        cls,
        path: str,
        timeout: float = COMMAND_SECONDS,
        trusted: t.Iterable[int] = (),
        vm: t.AbstractSet[int] = frozenset(),
    ) -> GuestAgent:
        """Connect, and find out that an agent answers. C(trusted): see C(connect_safely). C(vm): the processes of the
        VM that it must be; none: any.

        Raises RefusedError (unsafe_qmp_socket, agent_of_other_vm), GuestAgentError (agent_unreachable, agent_timeout).
        """
        try:
            connection = unix_peer.connect_safely(path, trusted)
        except OSError as exc:
            raise errors.GuestAgentError(
                path, "no socket answers (%s)" % exc.strerror, reason="agent_unreachable"
            ) from exc
        agent = cls(path, json_lines.JsonLines(connection))
        try:
            _refuse_other_vm(path, unix_peer.peer_pids(connection, path), vm)
            agent.synchronize(timeout)
        except BaseException:
            connection.close()
            raise
        return agent

    def __enter__(self) -> GuestAgent:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._stream.connection.close()

    def descriptor(self) -> int:
        """The connected socket, for a process that shall go on with it."""
        return self._stream.connection.fileno()

    def synchronize(self, timeout: float = COMMAND_SECONDS) -> None:
        """Skip what was meant for others: an earlier client's answers, half a line, half a command of theirs."""
        token = secrets.randbits(31)
        deadline = time.monotonic() + timeout
        self._send("guest-sync-delimited", {"id": token}, deadline, before=_DELIMITER)
        while True:
            line = self._receive_line("guest-sync-delimited", deadline)
            if _DELIMITER in line and _answers(line.rpartition(_DELIMITER)[2], token):
                return

    def execute(
        self, command: str, arguments: t.Optional[t.Mapping[str, t.Any]] = None, timeout: float = COMMAND_SECONDS
    ) -> t.Any:
        """The command's C(return). After C(agent_timeout), C(synchronize) before anything else.

        Raises GuestAgentError; with the agent's own error its reason is C(agent_refused).
        """
        deadline = time.monotonic() + timeout
        self._send(command, arguments or {}, deadline)
        line = self._receive_line(command, deadline)
        try:
            message = json_lines.parsed(line)
        except ConnectionError as exc:
            raise self._refused(command, str(exc)) from exc
        if "error" in message:
            error = message["error"]
            raise self._refused(command, str(error.get("desc", "") if isinstance(error, dict) else error))
        return message.get("return")

    def _count(self, command: str, timeout: float) -> int:
        """The number that the command returns. The guest can send anything, and what it means is then unknown."""
        found = self.execute(command, timeout=timeout)
        if not isinstance(found, int):
            raise self._refused(command, "its answer is no number: %r" % str(found)[:80])
        return found

    def fsfreeze_status(self) -> str:
        """C(thawed) or C(frozen)."""
        return str(self.execute("guest-fsfreeze-status"))

    def freeze(self, timeout: float = FREEZE_SECONDS) -> int:
        """The number of file systems frozen. Use C(frozen), which thaws. Raises GuestAgentError (freeze_failed)."""
        try:
            return self._count("guest-fsfreeze-freeze", timeout)
        except errors.GuestAgentError as exc:
            raise errors.GuestAgentError(self.path, "not frozen: %s" % exc.message, reason="freeze_failed") from exc

    def thaw(self, timeout: float = FREEZE_SECONDS) -> int:
        """The number of file systems thawed; none is no error. Works also behind a command that is still running."""
        deadline = time.monotonic() + timeout
        self.synchronize(timeout)
        return self._count("guest-fsfreeze-thaw", max(0.1, deadline - time.monotonic()))

    def _send(self, command: str, arguments: t.Mapping[str, t.Any], deadline: float, before: bytes = b"") -> None:
        self.commands.append(["guest-agent", self.path, command, json.dumps(arguments, sort_keys=True)])
        message = {"execute": command, **({"arguments": arguments} if arguments else {})}
        try:
            self._stream.send(before + json.dumps(message).encode() + b"\n", deadline)
        except TimeoutError as exc:
            raise self._silent(command) from exc
        except OSError as exc:
            raise self._unreachable(exc) from exc

    def _receive_line(self, command: str, deadline: float) -> bytes:
        try:
            return self._stream.receive_line(deadline)
        except TimeoutError as exc:
            raise self._silent(command) from exc
        except OSError as exc:
            raise self._unreachable(exc) from exc

    def _silent(self, command: str) -> errors.GuestAgentError:
        return errors.GuestAgentError(self.path, "no answer to %s; does it run?" % command, reason="agent_timeout")

    def _refused(self, command: str, said: str) -> errors.GuestAgentError:
        return errors.GuestAgentError(self.path, "%s: %s" % (command, said), reason="agent_refused")

    def _unreachable(self, exc: OSError) -> errors.GuestAgentError:
        return errors.GuestAgentError(self.path, exc.strerror or str(exc), reason="agent_unreachable")


def _refuse_other_vm(path: str, found: t.AbstractSet[int], vm: t.AbstractSet[int]) -> None:
    """A freeze of another guest would leave this one as busy as it is, and nobody would know."""
    if vm and not found & vm:
        raise errors.RefusedError(
            "a freeze",
            path,
            "it is the socket of process %s, and the VM is process %s" % (_listed(found), _listed(vm)),
            reason="agent_of_other_vm",
            way_out="Set agent_socket to the socket of this VM's guest agent.",
            evidence={"agent_pids": sorted(found), "vm_pids": sorted(vm)},
        )


def _listed(pids: t.Iterable[int]) -> str:
    return ", ".join(map(str, sorted(pids)))


def _answers(line: bytes, token: int) -> bool:
    try:
        return json_lines.parsed(line).get("return") == token
    except ConnectionError:
        return False


class Frozen:
    """What C(frozen) gives: C(file_systems) frozen, and when it is over, how many C(thawed): fewer when somebody else
    thawed the guest in between, so that what was done meanwhile was not done on a quiet guest.
    """

    def __init__(self) -> None:
        self.file_systems = 0
        self.thawed = 0

    @property
    def held(self) -> bool:
        """Whether the guest was quiet up to the end."""
        return self.thawed >= self.file_systems


@contextlib.contextmanager
def frozen(agent: GuestAgent, timeout: float = FREEZE_SECONDS, rescue: float = RESCUE_SECONDS) -> t.Iterator[Frozen]:
    """The guest's file systems frozen while the block runs.

    Thawed at its end, after an exception, and, by a process that watches us, when we are killed; that process also goes
    on, for C(rescue) seconds, where our own thaw fails. Raises GuestAgentError: C(freeze_failed), with everything thawed
    or the watcher on its way to it; what the thaw raises, when the block raised nothing.
    """
    _refuse_frozen(agent)
    state = Frozen()
    with freeze_watch.watching(agent.descriptor(), lambda: _rescue(agent, rescue)) as all_is_well:
        try:
            state.file_systems = agent.freeze(timeout)
            yield state
        except BaseException:
            # the block's own error is the one to report; without the word the watcher takes over
            with contextlib.suppress(errors.GuestAgentError):
                agent.thaw(timeout)
                all_is_well()
            raise
        state.thawed = agent.thaw(timeout)
        all_is_well()


def _refuse_frozen(agent: GuestAgent) -> None:
    if agent.fsfreeze_status() != "thawed":
        raise errors.GuestAgentError(agent.path, "somebody else has frozen the guest", reason="freeze_failed")


def _rescue(agent: GuestAgent, seconds: float) -> None:
    """Thaw until it is done, the VM has gone, or C(seconds) have passed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            agent.thaw(min(COMMAND_SECONDS, seconds))
        except errors.GuestAgentError as exc:
            if exc.reason == "agent_unreachable":
                return
            time.sleep(_BETWEEN_TRIES)
        else:
            return
