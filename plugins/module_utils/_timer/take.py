# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""One run of a timer: C(python3 snapshots.pyz SETTINGS). It outlives the play that has written it.

It does what C(image_snapshot) would do, by the same code and with the same refusals. What it did is in the journal, and
beside its settings. Its exit status is 1 if anything was refused or failed, so that systemd shows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import traceback
import typing as t
from datetime import datetime, timezone

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.engine import SnapshotEngine
from ansible_collections.platter.qemu.plugins.module_utils._timer import places, settings
from ansible_collections.platter.qemu.plugins.module_utils._tools import attributes, locks, own_places, own_programs

#: seconds that the module, or another run of this timer, is waited for
_PATIENCE = 120.0
#: why what comes later is left out (C(skipped_reason)), and what is said of it
_LEFT = {
    "needs_failed": "left as it is, as what came before for this image, or another of its VM, was refused or failed",
    "needs_skipped": "left as it is, as what came before for this image, or another of its VM, was left out",
}


def main() -> None:
    """All that the settings ask for, once."""
    os.environ["PATH"] = own_places.PATH
    program, told = (os.path.abspath(name) for name in sys.argv[:2])
    begun_as = _which(program)
    try:
        with locks.ImageLocks([os.path.dirname(told)], (), _PATIENCE):
            if _which(program) != begun_as:
                _begin_anew(program, told)
            with open(told, encoding="utf-8", errors="surrogateescape") as stream:
                asked = json.load(stream)
            places.remove_parts(places.status_beside(told))
            failed = Run(asked, places.status_beside(told)).all()
    except errors.EngineError as exc:
        say(exc.message)
        failed = True
    raise SystemExit(1 if failed else 0)


def _which(program: str) -> t.Optional[t.Tuple[int, ...]]:
    """What tells it from another in its place; None where there is none any more."""
    try:
        facts = os.stat(program)
    except FileNotFoundError:
        return None
    return (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _begin_anew(program: str, told: str) -> None:
    """While this run waited, the module has put another program in its place, from which Python would read what this one
    has not imported yet; or has removed it.
    """
    if _which(program) is None:
        say("the timer was removed before its run could begin")
        raise SystemExit(0)
    words = [*own_programs.words(program), told]
    os.execv(words[0], words)


class Run:
    """C(asked): the settings. C(status): the file that says what was done."""

    def __init__(self, asked: t.Mapping[str, t.Any], status: str) -> None:
        self._entries: t.Sequence[settings.Entry] = asked["snapshots"]
        self._lock_timeout = float(asked["lock_timeout"])
        self._status = status
        self._began = datetime.now(timezone.utc)
        self._done: t.List[t.Dict[str, t.Any]] = []
        #: files of which nothing more is done in this run, and why
        self._left: t.Dict[str, str] = {}
        self._files: t.Dict[str, str] = {}
        self._unwritten = False

    def all(self) -> bool:
        """Every entry; whether any was refused or failed."""
        self._write(ended=None)
        for groups in settings.rounds(self._entries):
            for group in groups:
                self._together(group)
        self._write(ended=_written(datetime.now(timezone.utc)))
        return self._unwritten or any(each["failed"] for each in self._done)

    def _together(self, group: t.Sequence[settings.Entry]) -> None:
        """One run of C(image_snapshot).

        What is kept of old ones depends on a new one having been taken: without it, none goes. Nor does one of another
        disk of that VM: no moment might be left that all of its disks have.
        """
        todo = []
        for entry in group:
            why = self._left.get(self._file(entry))
            if why:
                self._note(entry, {"skipped_reason": why}, [_LEFT[why]])
            else:
                todo.append(entry)
        begun = len(self._done)
        self._do(todo)
        done = self._done[begun:]
        if any(each["failed"] or "skipped_reason" in each for each in done):
            why = "needs_failed" if any(each["failed"] for each in done) else "needs_skipped"
            self._left.update((self._file(entry), why) for entry in todo)

    def _file(self, entry: settings.Entry) -> str:
        """What is behind the name of its image as the run comes to it: two names of one file are one image."""
        with contextlib.suppress(ValueError):  # a name that no file can have
            return self._files.setdefault(entry["image"], os.path.realpath(entry["image"]))
        return str(entry["image"])

    def _do(self, entries: t.Sequence[settings.Entry]) -> None:
        """What becomes of each is noted."""
        try:
            items = self._converge(entries)
        except (errors.EngineError, OSError) as exc:
            self._note_failures(entries, exc)
            return
        except Exception as exc:  # noqa: BLE001 a fault of ours, which what one VM or image says may lead to, is not the others'
            for line in traceback.format_exc().splitlines():
                say(line)
            self._note_failures(entries, errors.EngineError("failed: %s: %s" % (type(exc).__name__, exc)))
            return
        for entry, item in zip(entries, items):
            self._note_item(entry, item)

    def _converge(self, entries: t.Sequence[settings.Entry]) -> t.List[Item]:
        if not entries:
            return []
        specs = [settings.spec_of(entry, self._began) for entry in entries]
        qemu_img = shutil.which("qemu-img", path=own_places.PATH)
        engine = SnapshotEngine(specs, attributes.copy_attributes, qemu_img=qemu_img, lock_timeout=self._lock_timeout)
        with engine.hold():
            items = engine.prepare(patient=True)
            engine.execute(items)
        return items

    def _note_item(self, entry: settings.Entry, item: Item) -> None:
        failure: t.Optional[errors.EngineError] = item.failure
        actions = [str(action) for action in item.plan[: item.done]]
        facts: t.Dict[str, t.Any] = {"changed": bool(item.done), "actions": actions, "warnings": item.warnings}
        facts.update({key: item.notes[key] for key in ("skipped_reason", "quiesced") if key in item.notes})
        if failure is not None:
            self._note_failure(entry, failure, facts)
            return
        self._note(entry, facts, [*actions, *item.warnings] or ["nothing to do"])

    def _note_failures(self, entries: t.Sequence[settings.Entry], exc: t.Union[errors.EngineError, OSError]) -> None:
        for entry in entries:
            self._note_failure(entry, exc)

    def _note_failure(
        self,
        entry: settings.Entry,
        exc: t.Union[errors.EngineError, OSError],
        facts: t.Optional[t.Dict[str, t.Any]] = None,
    ) -> None:
        message = getattr(exc, "message", str(exc))
        reason = getattr(exc, "facts", {}).get("reason", "failed")
        self._note(entry, dict(facts or {}, failed=True, reason=reason, msg=message), [message])

    def _note(self, entry: settings.Entry, facts: t.Dict[str, t.Any], words: t.Sequence[str]) -> None:
        """One line, and one entry of the status."""
        say("%s: %s" % (entry["image"], " ".join(words)))
        known = {"image": entry["image"], "state": entry.get("state") or "present", "changed": False, "failed": False}
        self._done.append(dict(known, **facts))

    def _write(self, ended: t.Optional[str]) -> None:
        """Of a run that was killed, C(ended) is null."""
        told: t.Dict[str, t.Any] = {"began": _written(self._began), "ended": ended, "snapshots": self._done}
        told.update({key: any(each[key] for each in self._done) for key in ("changed", "failed")})
        try:
            own_places.write_private(self._status, (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())
        except OSError as exc:  # the disk of the system may be full: that is no reason to take no snapshots
            say("%s cannot be written: %s" % (self._status, exc.strerror))
            self._unwritten = True


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def say(text: str) -> None:
    """One line for the journal, if it takes any: that it does not is no reason to end half-way.

    Of a line with letters that cannot be printed, as there may be in the names that are in an image, journalctl(1) shows
    nothing.
    """
    printed = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(text.split()))
    with contextlib.suppress(OSError):
        os.write(2, (printed + "\n").encode())


if __name__ == "__main__":
    main()
