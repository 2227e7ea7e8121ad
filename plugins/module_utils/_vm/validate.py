# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Has the real QEMU prove that it takes the drives, before anything is written."""

from __future__ import annotations

import errno
import json
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, missing, proof, schema

LEVELS = ("none", "syntax", "open", "device")
#: little memory, as no guest uses it; but what a kernel is started with has to have room in it
_MEMORY = 64 << 20


class Proof:
    """One run of it. C(notes): what the proof did not look at, for the result.

    C(has_open): bytes of the drives that the running VM has open just so, by their ids. They are not opened again: a server
    may have no place for a second client.
    """

    def __init__(
        self,
        run: process.RunCommand,
        made: definition.VmDefinition,
        timeout: float,
        has_open: t.Optional[t.Mapping[str, int]] = None,
    ) -> None:
        self._has_open = dict(has_open or {})
        self._run = run
        self._made = made
        self._timeout = timeout
        self.notes: t.Dict[str, t.Any] = {}

    def refuse(self, level: str) -> None:
        """Raises RefusedError (tool_missing, validation_failed; missing.refuse) where QEMU would not take the drives."""
        self.notes = {"level": level}
        if level not in ("none", "syntax"):
            missing.refuse(self._made)
        if level == "none":
            return
        if not os.access(self._made.qemu, os.X_OK):
            fact = "QEMU is not there (%s)" % self._made.qemu
            way_out = "Install it, say where it is (qemu), or set validate: none."
            raise self._refused("", level, fact, "tool_missing", way_out)
        self._refuse_arguments(level)
        lengths = self._refuse_nodes(level)
        room = self._refuse_paths(level) if level != "syntax" else 0
        if level == "device":
            self._refuse_devices(lengths, _MEMORY + room)

    def _refused(
        self, drive: str, level: str, fact: str, reason: str, way_out: str, asked: str = "the drives"
    ) -> errors.RefusedError:
        kind = "share" if drive in {each.tag for each in self._made.spec.shares} else "drive"
        subject = "%s %s" % (kind, drive) if drive else asked
        evidence = {"qemu": self._made.qemu, "level": level, kind: drive, "said": fact}
        return errors.RefusedError(
            subject, "VM " + self._made.vm, fact, reason=reason, way_out=way_out, evidence=evidence, joined="of"
        )

    def _failed(self, drive: str, level: str, said: str) -> errors.RefusedError:
        fact = "QEMU does not take it: %s" % said
        return self._refused(drive, level, fact, "validation_failed", "Correct what QEMU complains of.")

    def _ask(self, level: str, words: t.Sequence[str], questions: t.Sequence[proof.Question]) -> t.List[t.Any]:
        """The answers of a QEMU that ends after the last: what it returns, or its error, each as a dict."""
        told: t.List[t.Dict[str, t.Any]] = [{"execute": "qmp_capabilities"}]
        for number, each in enumerate(questions):
            told.append({"execute": each.command, "arguments": each.arguments, "id": number})
        told.append({"execute": "quit"})
        text = "".join(json.dumps(each) + "\n" for each in told)
        argv = [self._made.qemu, *proof.BARE, *words]
        try:
            rc, stdout, stderr = self._run(argv, limits=process.INSPECTION, timeout=self._timeout, told=text)
        except errors.ToolTimeoutError as exc:
            found = _answers(exc.stdout.rpartition("\n")[0])
            waiting = next((each for number, each in enumerate(questions) if number not in found), None)
            raise self._silent(waiting, level) from exc
        found = _answers(stdout)
        if rc != 0 or len(found) < len(questions):
            raise self._failed("", level, _last_line(stderr) or "it ended with status %d" % rc)
        return [found[number] for number in range(len(questions))]

    def _silent(self, waiting: t.Optional[proof.Question], level: str) -> errors.RefusedError:
        """C(waiting): what QEMU has not answered."""
        drive = waiting.drive if waiting is not None and waiting.command == "blockdev-add" else ""
        opened = [each for each in claims.of_spec(self._made.spec) if each.drive == drive]
        if not opened:
            return self._failed("", level, "it has not answered for %g s" % self._timeout)
        names = " and ".join(claims.words_for(each) for each in opened)
        fact = "QEMU has waited for %g s to open %s" % (self._timeout, names)
        way_out = "See to it that it can be read, or raise timeout."
        if any(each.name.startswith("nbd ") for each in opened if not each.local):
            way_out = (
                "Start that server, or raise timeout. If it answers, but serves one client at a time, which is the VM itself,"
                " raise shared of the export (nbd_export): the proof is one more."
            )
        refusal = self._refused(drive, level, fact, "validation_failed", way_out)
        refusal.facts["evidence"]["places"] = [each.name for each in opened]
        return refusal

    def _refuse_arguments(self, level: str) -> None:
        """QEMU looks at the names of all options, and whether their values are there, before it does what the first says."""
        words = self._made.arguments
        if not words:
            return
        argv = [self._made.qemu, "-version", *words]
        try:
            rc, _stdout, stderr = self._run(argv, limits=process.INSPECTION, timeout=self._timeout)
        except errors.ToolTimeoutError as exc:
            raise self._failed("", level, "it has not answered for %g s" % self._timeout) from exc
        if rc != 0:
            fact = "QEMU does not take its arguments: %s" % (_last_line(stderr) or "it ended with status %d" % rc)
            way_out = "Correct arguments; -help of that QEMU lists all options."
            raise self._refused("", level, fact, "validation_failed", way_out, "the arguments")

    def _refuse_nodes(self, level: str) -> t.Dict[str, int]:
        """What QEMU knows of, and what it opens, in one go. Returns the bytes of each drive that was opened."""
        asked = proof.known_to_qemu(self._made.spec)
        kinds = sorted({str(each.arguments["driver"]) for each in asked if each.command == "device_add"})
        questions = [proof.Question("", "query-qmp-schema", {})]
        questions += [proof.Question("", "device-list-properties", {"typename": kind}) for kind in kinds]
        opening = proof.opening(self._made.spec, self._has_open) if level != "syntax" else []
        last = [proof.Question("", "query-named-block-nodes", {"flat": True})]
        answers = self._ask(level, ["-M", "none"], [*questions, *opening, *last])
        properties = {kind: answer.get("return") for kind, answer in zip(kinds, answers[1:])}
        self._refuse_unknown(level, asked, schema.Schema(answers[0]["return"]), properties)
        for each, answer in zip(opening, answers[len(questions) :]):
            if "error" in answer:
                raise self._failed(each.drive, level, str(answer["error"].get("desc")))
        if level != "syntax":
            not_opened = proof.not_opened(self._made.spec)
            self.notes.update({"not_opened": not_opened} if not_opened else {})
            self.notes.update({"open_already": sorted(self._has_open)} if self._has_open else {})
        lengths = {each["node-name"]: int(each["image"]["virtual-size"]) for each in answers[-1]["return"]}
        return dict(self._has_open, **lengths)

    def _refuse_paths(self, level: str) -> int:
        """What the VM starts with besides drives. Returns the memory that it takes, in bytes."""
        room = 0
        for name, path, is_directory in proof.paths(self._made.spec):
            try:
                room += 2 * _length(path, is_directory)
            except OSError as exc:
                raise self._failed(name if is_directory else "", level, "%s: %s" % (path, exc.strerror)) from exc
        return size.round_up(room, 1 << 20)

    def _refuse_unknown(
        self, level: str, asked: t.Sequence[proof.Question], known: schema.Schema, properties: t.Mapping[str, t.Any]
    ) -> None:
        for each in asked:
            if each.command == "device_add":
                problem = schema.device_problem(each.arguments, properties[str(each.arguments["driver"])])
            else:
                problem = known.problem(each.command, each.arguments)
            if problem:
                raise self._failed(each.drive, level, problem)

    def _refuse_devices(self, lengths: t.Mapping[str, int], memory: int) -> None:
        made = self._made
        stand_ins, skipped = proof.stand_ins(made.spec, lengths)
        skipped = skipped + proof.served(made.spec)
        if skipped:
            self.notes["no_stand_in"] = skipped
        machine = ["-machine", made.machine] if made.machine else []
        words = [*machine, *proof.bridges(made.arguments, made.spec), *proof.words(stand_ins, made.style)]
        self._ask("device", words + proof.besides(made.spec, memory), [])


def _length(path: str, is_directory: bool) -> int:
    """Of a file or directory that we can open, in bytes. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if is_directory else 0))
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not is_directory and not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    return 0 if is_directory else found.st_size


def _answers(text: str) -> t.Dict[int, t.Any]:
    """Those to questions with a number, by it."""
    told = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
    return {each["id"]: each for each in told if "id" in each}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and "invalid accelerator" not in line]
    return lines[-1].partition(": ")[2] or lines[-1] if lines else ""
