"""Check mode asks the kernel for nothing that changes anything, leaves no access time, and tells what will happen."""

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.loops import mounted
from ansible_collections.platter.qemu.tests.lab.verbs import OTHERS, VERBS, Verb, made
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

Count = t.Callable[[str, int], None]
Result = t.Dict[str, t.Any]
_OPENING = ("open", "openat", "openat2", "creat", "memfd_create")
_CHANGING = [name for name in strace.MUTATING if name != "write"]
_TRACE = "trace=" + ",".join([*_CHANGING, *_OPENING, "ioctl", "fcntl", "flock"])
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE")
_CONTROLLING = re.compile(r"FICLONE|BLKZEROOUT|BLKDISCARD|F_WRLCK|LOCK_EX|FS_IOC_SETFLAGS|FS_IOC_FSSETXATTR")
_HARMLESS = re.compile(r'"(/dev/null|/dev/tty|/dev/pts/[^"]*)"')


def _mutation(call: strace.Call) -> bool:
    """Whether the call writes, makes, removes, renames, locks against others or changes attributes."""
    if call.name in _OPENING:
        return call.name == "creat" or bool(_WRITING.search(call.text) and not _HARMLESS.search(call.text))
    if call.name in ("ioctl", "fcntl", "flock"):
        return bool(_CONTROLLING.search(call.text)) and "GETLK" not in call.text
    return True


def _facts(directory: Path) -> dict[str, object]:
    """Everything stat tells of every name, the access time too."""
    found = {}
    for path in [directory, *sorted(directory.iterdir())]:
        seen = path.stat()
        times = (seen.st_atime_ns, seen.st_mtime_ns, seen.st_ctime_ns)
        found[path.name] = (*times, seen.st_size, seen.st_mode, seen.st_ino, seen.st_uid, seen.st_gid, seen.st_nlink)
    return found


@pytest.fixture
def strict(place: Path) -> t.Iterator[Path]:
    """A directory whose file system notes every access."""
    directory = place / "strict"
    directory.mkdir()
    with mounted("tmpfs", directory, "-t", "tmpfs", "-o", "strictatime,size=64m"):
        yield directory


def test_the_file_system_of_this_test_notes_every_access(strict: Path) -> None:
    file = strict / "file"
    file.write_text("x")
    os.utime(file, (1, 1))
    file.read_text()
    assert file.stat().st_atime > 1


@pytest.mark.parametrize("verb", [*VERBS, *OTHERS], ids=lambda verb: verb.name)
def test_check_mode_changes_nothing_and_predicts_all(
    verb: Verb, zygote: Zygote, strict: Path, place: Path, count: Count
) -> None:
    world = made(verb, strict / "world")
    options, before = verb.options(world), _facts(world)
    predicted, calls = _traced(zygote, options, place / "check.log")
    mutations = [call for call in calls if _mutation(call)]
    assert not mutations, "\n".join(f"{call.name}({call.text}" for call in mutations)
    assert calls, "strace saw nothing"
    # a directory may be listed; what lies in it is not to be touched
    assert {**_facts(world), "world": None} == {**before, "world": None}
    done = zygote.run("disk_image", options)
    for key in ("changed", "actions", "diff", "failed", "reason", "image"):
        assert predicted.get(key) == done.get(key), (key, predicted.get(key), done.get(key))
    count("system calls of check mode looked at", len(calls))


def _traced(zygote: Zygote, options: Result, log: Path) -> tuple[Result, list[strace.Call]]:
    child = zygote.start("disk_image", options, check=True, stopped=True)
    with strace.tracing(child, log, "-e", _TRACE):
        pass
    child.wait()
    return child.result(), strace.calls_of(log)
