# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out plans, several exports at a time, and looks again at what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
import typing as t
from functools import partial

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._export import actions, definition, observe, places
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    files,
    process,
    processes,
    supervise,
    unix_sockets,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

_MOST_WORKERS = 8
#: seconds from the start of a server until it must answer
START_SECONDS = 30.0
_POLL_SECONDS = 0.01
#: of the log, in a message
_TAIL = 2000


class Executor:
    """Runs the actions of items. C(workers) 0: as many as help."""

    def __init__(self, commands: t.List[t.List[str]], *, workers: int) -> None:
        self._commands = commands
        self._workers = workers or min(_MOST_WORKERS, 2 * (os.cpu_count() or 1))
        self._methods: t.Dict[t.Any, t.Callable[[ExportSpec, t.Any], None]] = {
            actions.StopServer: _stop,
            actions.DeclareExport: _declare,
            actions.StartServer: self._start,
            actions.SuperviseServer: self._supervise,
            actions.RemoveDefinition: _remove,
        }

    def run(self, items: t.Sequence[Item]) -> None:
        """Carry out the plans of items. All servers end before the first one is started, as they may trade sockets."""
        _write_program()
        for kinds in ((actions.StopServer,), tuple(self._methods)):
            self._each([item for item in items if not item.error], kinds)
        for item in items:
            if not item.error:
                self._attempt(item, partial(look_again, item))

    def _each(self, items: t.Sequence[Item], kinds: t.Tuple[type, ...]) -> None:
        side_by_side(lambda item: self._attempt(item, partial(self._carry_out, item, kinds)), items, self._workers)

    def _carry_out(self, item: Item, kinds: t.Tuple[type, ...]) -> None:
        while item.done < len(item.plan) and isinstance(item.plan[item.done], kinds):
            action = item.plan[item.done]
            self._methods[type(action)](item.spec, action)
            item.done += 1

    @staticmethod
    def _attempt(item: Item, function: t.Callable[[], None]) -> None:
        """Errors of one item are its own."""
        try:
            function()
        except errors.EngineError as exc:
            item.error = _failed(item, exc)
        except OSError as exc:
            item.error = _failed(item, errors.EngineError("%s: %s" % (exc.filename or item.name, exc.strerror)))

    def _start(self, spec: ExportSpec, action: actions.StartServer) -> None:
        self._run_supervisor(spec)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(action):
            watch = _watch(spec.name)
            if not watch.supervisors and not _answers(action):
                raise _not_started(spec, "the server did not start: %s" % _said(spec))
            if time.monotonic() >= deadline:
                processes.end_all(lambda: _watch(spec.name).all, spec.stop_timeout)
                raise _not_started(spec, "the server did not answer within %g s: %s" % (START_SECONDS, _said(spec)))
            time.sleep(_POLL_SECONDS)

    def _supervise(self, spec: ExportSpec, action: actions.SuperviseServer) -> None:
        servers = _watch(spec.name).servers
        if servers:
            self._run_supervisor(spec, str(servers[0]))

    def _run_supervisor(self, spec: ExportSpec, *more: str) -> None:
        """It leaves by itself: without our descriptors, our environment, our session."""
        runner = process.Runner()
        runner.commands = self._commands
        environment = ["%s=%s" % pair for pair in supervise.ENVIRONMENT.items()]
        program = [sys.executable, "-I", "-S", places.program_file(), places.export_directory(spec.name)]
        process.run(runner, ["env", "-i", *environment, *program, *more], timeout=START_SECONDS)


def _watch(name: str) -> observe.Watch:
    return observe.find_processes(name, observe.read_definition(name), processes.own_processes())


def _answers(action: actions.StartServer) -> bool:
    try:
        observe.asked_size(action.name, action.definition)
    except errors.NbdError:
        return False
    return True


def _not_started(spec: ExportSpec, fact: str) -> errors.FailedError:
    return errors.FailedError(fact, reason="server_failed", evidence={"log": places.log_file(spec.name)})


def _said(spec: ExportSpec) -> str:
    try:
        with open(places.log_file(spec.name), "rb") as stream:
            stream.seek(max(os.fstat(stream.fileno()).st_size - _TAIL, 0))
            lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return "it has said nothing"
    return "; ".join(lines[-4:]) or "it has said nothing"


def _stop(spec: ExportSpec, action: actions.StopServer) -> None:
    declared = observe.read_definition(spec.name)
    harmless = bool(declared and declared.options.get("read_only"))
    if not processes.end_all(lambda: _watch(spec.name).all, spec.stop_timeout, kill_after=harmless):
        raise errors.FailedError(
            "the server has not ended within %g s; killed, it could lose what it has not written out yet"
            % spec.stop_timeout,
            reason="stop_timeout",
            evidence={"pids": list(_watch(spec.name).servers)},
        )
    path = str(declared.options.get("socket", "")) if declared else ""
    if path and os.path.lexists(path) and not unix_sockets.answers(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _declare(spec: ExportSpec, action: actions.DeclareExport) -> None:
    places.make_directories(spec.name)
    _link_keys(places.export_directory(spec.name), spec.tls.psk_file if spec.tls else None)
    _write(places.definition_file(spec.name), action.definition.text)


def _link_keys(directory: str, psk_file: t.Optional[str]) -> None:
    """QEMU takes keys from a directory, under a name of its own; and what lets it start at once, if that lies there."""
    beside = os.path.join(os.path.dirname(psk_file or "/"), "dh-params.pem")
    for name, target in ((definition.PSK_NAME, psk_file), ("dh-params.pem", beside)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
        if psk_file and target and os.path.exists(target):
            os.symlink(target, os.path.join(directory, name))


def _remove(spec: ExportSpec, action: actions.RemoveDefinition) -> None:
    shutil.rmtree(places.export_directory(spec.name))
    files.fsync_path(os.path.dirname(places.export_directory(spec.name)))


def _write_program() -> None:
    """The supervisor as a file of its own: what the play was made of is gone when the play is over."""
    loader = supervise.__spec__.loader if supervise.__spec__ else None
    source = loader.get_source(supervise.__name__)  # type: ignore[union-attr]
    places.make_top()
    try:
        with open(places.program_file(), encoding="utf-8") as stream:
            if stream.read() == source:
                return
    except FileNotFoundError:
        pass
    _write(places.program_file(), source)


def _write(path: str, text: str) -> None:
    """Old or new, never in between."""
    built = "%s.%d" % (path, os.getpid())
    descriptor = os.open(built, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(built, path)
    files.fsync_path(os.path.dirname(path))


def look_again(item: Item) -> None:
    """What is there now must be what was predicted."""
    found, item.reading = observe.observe(item.spec, observe.ground())
    if found != item.after:
        raise errors.FailedError(
            "failed: export %s is not as planned after the change: %s instead of %s."
            % (item.name, found.to_facts(), item.after.to_facts()),
            reason="not_as_planned",
        )


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    """The error of an item, with what was done and what is there now."""
    if isinstance(exc, errors.RefusedError) and not item.done:
        return exc
    watch = _watch(item.name)
    now = "its server runs." if watch.servers else "nothing serves it."
    exc.message = failed_at(item, exc.message, now)
    return exc
