# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""A small synchronous client of the QEMU Machine Protocol on a Unix socket. Mechanism only: it decides nothing.

The protocol: C(docs/interop/qmp-spec.rst) of QEMU. One greeting, then answers in the order of the commands, and events
at any time between them. A monitor serves one client: a second one is connected, but greeted when the first has gone.
"""

from __future__ import annotations

import json
import socket
import time
import typing as t
from collections import deque

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import QmpCommandError, QmpConnectError
from ansible_collections.platter.qemu.plugins.module_utils._tools.json_lines import JsonLines, parsed
from ansible_collections.platter.qemu.plugins.module_utils._tools.unix_peer import connect_safely, peer_pids

#: seconds; a command that only starts something or looks at something
COMMAND_SECONDS = 30.0
_POLL_SECONDS = 0.02
#: values that no record and no message may show, wherever they are in the arguments
_SECRETS = frozenset(("data", "password", "passphrase", "new-secret", "old-secret"))
#: commands that are sent together: few enough that all of them are on their way before the first answer has to be read
_TOGETHER = 50
#: one of these is in each message that is no greeting
_LEFT = frozenset(("event", "return", "error"))

Event = t.Dict[str, t.Any]
Arguments = t.Mapping[str, t.Any]
#: names of events, or what says whether one is meant
Wanted = t.Union[t.Collection[str], t.Callable[[Event], bool]]


class Qmp:
    """A session with one QEMU or qemu-storage-daemon. Use it with C(with); it is not for several threads.

    C(version): (major, minor, micro). C(commands): what was sent, secrets left out, in the form of Runner's commands.
    """

    def __init__(self, path: str, stream: JsonLines, timeout: float) -> None:
        self.path = path
        self.commands: t.List[t.List[str]] = []
        self._stream = stream
        self._events: t.Deque[Event] = deque()
        self._last_id = 0
        self.version = self._read_greeting(time.monotonic() + timeout)
        self.execute("qmp_capabilities", timeout=timeout)
        self.commands.clear()

    @classmethod
    def connect(cls, path: str, timeout: float = 10.0, trusted: t.Iterable[int] = ()) -> Qmp:
        """Connect and greet, in at most C(timeout) seconds each. C(trusted): see C(connect_safely).

        Raises RefusedError (unsafe_qmp_socket), QmpConnectError.
        """
        try:
            connection = _connection(path, trusted, time.monotonic() + timeout)
        except BlockingIOError as exc:
            raise QmpConnectError(path, "too many others wait for it", reason="qmp_timeout") from exc
        except OSError as exc:
            raise QmpConnectError(path, "nobody is there (%s)" % exc.strerror, reason="qmp_unreachable") from exc
        try:
            return cls(path, JsonLines(connection), timeout)
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Qmp:
        return self

    def __exit__(self, *_unused: t.Any) -> None:
        self.close()

    def close(self) -> None:
        """End the session; another client can then have one."""
        self._stream.connection.close()

    def peer_pids(self) -> t.FrozenSet[int]:
        """The processes behind the socket: the QEMU, and whoever else holds its listening socket."""
        return peer_pids(self._stream.connection, self.path)

    def execute(self, command: str, arguments: t.Optional[Arguments] = None, timeout: float = COMMAND_SECONDS) -> t.Any:
        """The command's C(return): a dict or a list, mostly. Events that come meanwhile are kept.

        Raises QmpCommandError, or QmpConnectError; after C(qmp_timeout) the session goes on, and the late answer is
        dropped when it comes. Whether the command was carried out is then unknown.
        """
        deadline = time.monotonic() + timeout
        self._send(command, [self._message(command, arguments)], deadline)
        return _returned(command, self._answer(command, deadline))

    def ask_all(
        self, questions: t.Sequence[t.Tuple[str, Arguments]], timeout: float = COMMAND_SECONDS
    ) -> t.List[t.Any]:
        """The answers to commands that only look, in order; None to those that QEMU refused. They are sent together, as on a
        busy machine an answer takes as long as it takes QEMU and us to have our turns. Raises QmpConnectError.
        """
        found: t.List[t.Any] = []
        for start in range(0, len(questions), _TOGETHER):
            asked = questions[start : start + _TOGETHER]
            deadline = time.monotonic() + timeout
            first = self._last_id + 1
            self._send(asked[0][0], [self._message(*each) for each in asked], deadline)
            answers = [self._answer(asked[0][0], deadline, number) for number in range(first, first + len(asked))]
            found += [answer.get("return") for answer in answers]
        return found

    def _message(self, command: str, arguments: t.Optional[Arguments]) -> bytes:
        self._last_id += 1
        self.commands.append(["qmp", self.path, command, json.dumps(masked(arguments or {}), sort_keys=True)])
        message: t.Dict[str, t.Any] = {"execute": command, "id": self._last_id}
        if arguments:
            message["arguments"] = arguments
        return json.dumps(message).encode() + b"\n"

    def _send(self, command: str, messages: t.Sequence[bytes], deadline: float) -> None:
        try:
            self._stream.send(b"".join(messages), deadline)
        except TimeoutError as exc:
            # a part of the command may be on its way: nothing can follow it
            self.close()
            raise self._silent("it did not take %s" % command) from exc
        except OSError as exc:
            raise self._gone(exc) from exc

    def transaction(self, actions: t.Sequence[Arguments], timeout: float = COMMAND_SECONDS, **more: t.Any) -> None:
        """All of C(actions), ({type, data}), or none of them; C(more): C(properties)."""
        self.execute("transaction", {"actions": list(actions), **more}, timeout)

    def wait_event(self, wanted: Wanted, deadline: float) -> t.Optional[Event]:
        """The oldest event of these names, or for which C(wanted) is true: one that came earlier, or the next one.

        None at the C(deadline) (C(time.monotonic())). Others stay in the queue. Raises QmpConnectError.
        """
        matches = wanted if callable(wanted) else _among(wanted)
        for event in self._events:
            if matches(event):
                self._events.remove(event)
                return event
        while True:
            try:
                message = self._receive(deadline)
            except TimeoutError:
                return None
            if "event" not in message:
                continue  # the late answer to a command that was given up
            if matches(message):
                return message
            self._events.append(message)

    def forget_events(self) -> None:
        """Drop the events that have come and were not waited for."""
        self._events.clear()

    def _read_greeting(self, deadline: float) -> t.Tuple[int, int, int]:
        """What belongs to the session before may come first: QEMU is connected a moment before it greets, and goes on
        sending events and the answer to a command whose client has gone until it does.
        """
        try:
            greeting = self._receive(deadline)
            while _LEFT.intersection(greeting):
                greeting = self._receive(deadline)
            numbers = greeting["QMP"]["version"]["qemu"]
            return int(numbers["major"]), int(numbers["minor"]), int(numbers["micro"])
        except TimeoutError as exc:
            raise self._silent("no greeting; it may have another client, and serves one at a time") from exc
        except (LookupError, TypeError, ValueError) as exc:
            raise QmpConnectError(self.path, "what is there does not speak QMP", reason="qmp_unreachable") from exc

    def _answer(self, command: str, deadline: float, number: t.Optional[int] = None) -> t.Dict[str, t.Any]:
        """C(number): the command's; by default the last one's."""
        number = self._last_id if number is None else number
        while True:
            try:
                message = self._receive(deadline)
            except TimeoutError as exc:
                raise self._silent("no answer to %s" % command) from exc
            if "event" in message:
                self._events.append(message)
            elif message.get("id", number) == number:
                return message

    def _receive(self, deadline: float) -> t.Dict[str, t.Any]:
        try:
            return parsed(self._stream.receive_line(deadline))
        except TimeoutError:
            raise
        except OSError as exc:
            raise self._gone(exc) from exc

    def _gone(self, exc: OSError) -> QmpConnectError:
        return QmpConnectError(self.path, exc.strerror or str(exc), reason="qmp_unreachable")

    def _silent(self, fact: str) -> QmpConnectError:
        return QmpConnectError(self.path, fact, reason="qmp_timeout")


def _connection(path: str, trusted: t.Iterable[int], deadline: float) -> socket.socket:
    """QEMU lets two clients wait behind the one that it serves (measured, 7.2); the next is told to come again."""
    while True:
        try:
            return connect_safely(path, trusted)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)


def _among(names: t.Collection[str]) -> t.Callable[[Event], bool]:
    return lambda event: event["event"] in names


def _returned(command: str, message: t.Mapping[str, t.Any]) -> t.Any:
    error = message.get("error")
    if isinstance(error, dict):
        raise QmpCommandError(command, str(error.get("class", "")), str(error.get("desc", "")))
    return message.get("return")


def masked(value: t.Any) -> t.Any:
    """The same arguments, with C(***) in the place of every secret."""
    if isinstance(value, t.Mapping):
        return {key: "***" if key in _SECRETS and _is_text(item) else masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(item) for item in value]
    return value


def _is_text(value: t.Any) -> bool:
    """C(data) is also what a transaction calls the arguments of an action."""
    return isinstance(value, str)
