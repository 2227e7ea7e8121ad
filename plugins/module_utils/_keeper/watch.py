# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Keeps the legs of one array attached: C(python3 keeper.pyz SETTINGS). It outlives the play that has written it.

It looks at what the kernel says, again and again. What it does it does as the modules do, with their refusals: a leg
comes back if it is the right export, of the right size, with this array's UUID in md's superblock, and has not gone on
without the others. Everything else is told, and left to a person.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._keeper import heal, places
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, process

#: seconds that an alarm may take
_ALARM_SECONDS = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Until a signal ends it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with open(sys.argv[1], encoding="utf-8") as stream:
        told = json.load(stream)
    os.environ["PATH"] = own_places.PATH
    keeper = Keeper(told)
    while True:
        keeper.look()
        if signal.sigtimedwait(_SIGNALS, keeper.pause()):
            return


class Keeper:
    """C(told): the settings."""

    def __init__(self, told: t.Mapping[str, t.Any]) -> None:
        self._told = told
        self._healer = heal.Healer(told)
        self._said: t.Dict[str, t.Any] = {}
        self._facts: t.Mapping[str, t.Any] = {}

    def pause(self) -> float:
        """Seconds until the next look."""
        return float(self._told.get("interval") or 5)

    def look(self) -> None:
        """One cycle; what is new is told."""
        try:
            report = self._healer.cycle()
        except (errors.EngineError, OSError) as exc:
            message = getattr(exc, "message", str(exc))
            report = heal.Report("unknown", {}, problems={"array": {"reason": "failed", "message": message}})
        if report.condition == "well":
            report = heal.Report("clean", dict(self._facts, condition="clean", percent=None))
        self._facts = report.facts
        for action in report.actions:
            say(action)
        self._tell(report)

    def _tell(self, report: heal.Report) -> None:
        reasons = {about: problem["reason"] for about, problem in report.problems.items()}
        now = {"condition": report.condition, "reasons": reasons}
        before = {key: self._said.get(key) for key in now}
        facts = dict(report.facts, name=self._told["name"], uuid=self._told["uuid"], condition=report.condition)
        facts.update(problems=report.problems, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        places.write_status(self._told["name"], json.dumps(facts, indent=1, sort_keys=True) + "\n")
        if now == before:
            return
        say("%s is %s (was %s)" % (self._told["name"], report.condition, before["condition"] or "not looked at"))
        for about in sorted(set(reasons) - set(before["reasons"] or {})):
            say("%s: %s" % (about, report.problems[about]["message"]))
        self._said = dict(now)
        self._alarm(dict(facts, before=before["condition"]))

    def _alarm(self, facts: t.Mapping[str, t.Any]) -> None:
        """The command of the user, with all facts at its standard input."""
        command = self._told.get("alarm")
        if not command:
            return
        run = process.Runner()
        try:
            status = run([*command], timeout=_ALARM_SECONDS, told=json.dumps(facts))[0]
        except errors.EngineError as exc:
            say("alarm: %s" % exc.message)
        else:
            if status:
                say("alarm: %s ended with status %d" % (command[0], status))


def say(text: str) -> None:
    """One line for the log, or the journal."""
    os.write(2, ("%s keeper: %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%S"), text)).encode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    main()
