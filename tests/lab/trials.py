"""One verb tried again and again from the same world, with what is there before and after as the yardstick."""

from __future__ import annotations

import json
import os
import re
import time
import typing as t
from pathlib import Path

from . import strace
from .patterns import ABSENT, View, check_status, copy_world, files_of, view
from .verbs import Verb, made
from .zygote import Child, Zygote

MODULE = "disk_image"
DEADLINE = 180.0
Result = t.Dict[str, t.Any]


class Trials:
    """C(world) is where a trial happens; C(old) and C(new) are what its image may be."""

    def __init__(self, verb: Verb, zygote: Zygote, directory: Path, world: Path | None = None) -> None:
        self.verb = verb
        self.zygote = zygote
        self.directory = directory
        self.world = world or directory / "world"
        self.kept = directory / "kept"
        self.image = self.world / verb.image
        self.options = verb.options(self.world)
        made(verb, self.world)
        copy_world(self.world, self.kept)
        self.formats = self._formats()
        self.old_files, self.old = files_of(self.world), self.look()
        self.calls, self.seconds = self._undisturbed()
        self.new_names, self.new = self.names(), self.look()
        assert self.old != self.new

    def _formats(self) -> list[str]:
        """What the image may be read as: a probe is right here, we know who wrote it."""
        before = {"disk.vmdk": "vmdk"}.get(self.verb.image, "qcow2")
        asked = self.options.get("format", before)
        return ["raw"] if asked == "raw" else list(dict.fromkeys((asked, before)))

    def _undisturbed(self) -> tuple[list[strace.Call], float]:
        begun = time.monotonic()
        log = self.directory / "undisturbed.log"
        child = self.start(stopped=True)
        with strace.tracing(child, log, "-e", "trace=" + ",".join(strace.FAULTY)):
            pass
        child.wait()
        result = child.result()
        assert result.get("changed") and not result.get("failed"), result
        return strace.calls_of(log), time.monotonic() - begun

    def reset(self) -> None:
        """The world as it was first."""
        copy_world(self.kept, self.world)

    def start(self, *, check: bool = False, stopped: bool = False) -> Child:
        """The verb's task as a process."""
        return self.zygote.start(MODULE, dict(self.options, lock_timeout=120), check=check, stopped=stopped)

    def run(self, *, check: bool = False) -> Result:
        """The verb's task to its end."""
        child = self.start(check=check)
        child.wait()
        return child.result()

    def traced(self, *options: str, log: str = "traced.log", check: bool = False) -> Child:
        """The verb's task under strace, ended."""
        child = self.start(stopped=True, check=check)
        with strace.tracing(child, self.directory / log, *options):
            pass
        return child

    def points(self) -> list[tuple[str, int]]:
        """Every system call that changes something, by its name and number within its thread."""
        most = strace.most_by_one(self.calls)
        return [(name, at) for name in sorted(most) for at in range(1, most[name] + 1)]

    def look(self) -> View:
        """The image by QEMU's eyes."""
        return view(self.image, self.formats, self.directory)

    def names(self) -> set[str]:
        """What lies in the world, and, of members with a number by chance, how many."""
        names = sorted(_plain(name) for name in files_of(self.world))
        return {f"{name} {names[:at].count(name)}".removesuffix(" 0") for at, name in enumerate(names)}

    # --- what must be so

    def judge(self) -> str:
        """C(old), C(new) or (only where the verb allows it) C(partly); anything else fails."""
        files = files_of(self.world)
        if {name: files.get(name) for name in self.old_files} == self.old_files and self._nothing_new(files):
            return "old"
        if self.verb.members and self._is_part(files):
            return "partly"
        seen = self.look()
        if self.verb.in_place:
            return self._judge_edited(seen)
        assert seen in (self.old, self.new), f"neither old nor new: {seen}"
        self._check_sound(seen, {0})
        return "new" if seen == self.new else "old"

    def _nothing_new(self, files: t.Mapping[str, str]) -> bool:
        return self.verb.image in self.old_files or self.verb.image not in files

    def _is_part(self, files: t.Mapping[str, str]) -> bool:
        return self.verb.image in files and all(self.old_files.get(name) == digest for name, digest in files.items())

    def _judge_edited(self, seen: View) -> str:
        assert seen.digest == self.old.digest, "the guest sees something else"
        assert seen.size in (self.old.size, self.new.size), seen
        self._check_sound(seen, {0, 3})
        return "new" if seen == self.new else "old"

    def _check_sound(self, seen: View, allowed: set[int]) -> None:
        if seen != ABSENT and seen.format:
            status = check_status(self.image, seen.format)
            assert status in allowed, f"qemu-img check says {status}"

    def answers_truly(self, result: Result, *, tidy: bool = True) -> None:
        """After a fault that the module lived through: what it says is so, and it has put its things away."""
        state = self.judge()
        if not result.get("failed"):
            assert state == "new", f"succeeded, but the image is {state}: {result}"
            return
        message = result["msg"]
        assert message.startswith(("failed", "refused")), message
        assert "State now" in message or (state == "old" and "Nothing was changed" in message), message
        assert not result["changed"] or state != "old", f"claims a change that is not there: {message}"
        left = self.names() - self.new_names - {_plain(name) for name in self.old_files}
        assert not tidy or not left, f"left over after a failure: {left}"
        if state == "old" and tidy:
            assert set(files_of(self.world)) == set(self.old_files), f"stray files: {files_of(self.world)}"

    def converges(self) -> None:
        """The next run needs nobody's help, another has nothing to do, and nothing is left of what went before."""
        again = self.run()
        assert not again.get("failed"), again.get("msg")
        assert self.look() == self.new
        names = self.names()
        assert names == self.new_names, f"left over: {names - self.new_names}, missing: {self.new_names - names}"
        once_more = self.run()
        assert not once_more.get("failed") and once_more["changed"] is False, json.dumps(once_more, indent=1)


def _plain(name: str) -> str:
    """Members of a split image that replaces another have a number by chance in their names."""
    return re.sub(r"-[0-9a-f]{8}(?=-[sf]\d{3}\.)", "", name)


def wait_until_quiet(directory: Path, zygote: Zygote) -> None:
    """Until no process uses the directory: programs of a killed module die a little later. It was a child of C(zygote).

    One that had not got as far as to ask to die with its module (prctl(2), PR_SET_PDEATHSIG) does what it was started for,
    under the lock that it inherits. Between vfork and exec it has the command line of the module, for as long as a busy
    machine gives it no processor; looked at twice, as between two looks at F(/proc) it has become what it is.
    """
    end, quiet = time.monotonic() + DEADLINE, 0
    while quiet < 2:
        quiet = 0 if zygote.copies() or _users(str(directory)) else quiet + 1
        assert time.monotonic() < end, "a program outlived its module"
        time.sleep(0.005)


def _users(directory: str) -> list[str]:
    return [pid for pid in filter(str.isdigit, os.listdir("/proc")) if _uses(pid, directory + "/")]


def _uses(pid: str, directory: str) -> bool:
    """Whether a program has a file of the directory open, or is named one on its command line."""
    try:
        named = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
        return directory in named or any(
            _link(pid, each).startswith(directory) for each in os.listdir(f"/proc/{pid}/fd")
        )
    except OSError:  # it has ended
        return False


def _link(pid: str, number: str) -> str:
    """What it has open there; nothing where it has just closed it."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return ""
