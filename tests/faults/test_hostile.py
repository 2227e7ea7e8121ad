"""Images made to hurt: refused for the right reason, without a look at what they point to, and without end in time."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.amounts import share
from ansible_collections.platter.qemu.tests.lab.hostile import VICTIM, Hostile, hostile_images
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.zygote import Child, Zygote

Count = t.Callable[[str, int], None]
Options = t.Dict[str, t.Any]
Result = t.Dict[str, t.Any]
CANARY = "canary-7c1d0e55"
#: seconds for anything with one small file: what hangs would do so for ever, and a busy machine takes its time
LIMIT = 120.0
_TRACE = "trace=open,openat,openat2,connect,sendto,execve"
#: what a Python program and Ansible's own code open, whatever the task is
_USUAL = (
    *{sys.prefix, sys.base_prefix, *(path for path in sys.path if path)},
    *(
        "/usr/",
        "/lib",
        "/proc/",
        "/sys/",
        "/dev/null",
        "/dev/urandom",
        "/etc/ld.so.cache",
        "/run/platter.qemu",
        "/dev/tty",
    ),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/localtime", "/etc/selinux", "/var/lib/sss"),
)


@pytest.fixture
def images(place: Path) -> list[Hostile]:
    """All of them, with something worth stealing where their relative names point to."""
    directory = place / "upload" / "images"
    directory.mkdir(parents=True)
    for path in (place / "upload" / "secret.raw", directory / "secret.raw"):
        path.write_text(CANARY * 64)
    return hostile_images(directory)


def _within_limit(zygote: Zygote, options: Options) -> Result:
    child = zygote.start("disk_image", options)
    _wait(child, options)
    return child.result()


def _wait(child: Child, options: Options) -> None:
    end = time.monotonic() + LIMIT
    while Path(f"/proc/{child.pid}/fd/1").exists():
        if time.monotonic() > end:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            raise AssertionError(f"did not end in {LIMIT} s: {options}")
        time.sleep(0.002)
    child.wait()


def _import(image: Hostile, destination: Path, **more: t.Any) -> Options:
    source = {"path": str(image.path), "format": image.format, "compression": "none", **more}
    return {"path": str(destination), "format": "qcow2", "source": source}


def _reasons(image: Hostile) -> set[str]:
    """The expected one, or that the format alone is enough."""
    seldom = {"format_not_allowed"} if image.format in ("qcow", "qed", "luks") else set()
    loop = {"image_references_file"} if image.reason == "backing_loop" else set()
    protocol = {"backing_protocol_refused"} if image.reason == "image_references_file" else set()
    if image.path.stat().st_size == 0:  # no image, and so no damaged one
        return {"format_mismatch"}
    limit = {"bad_size"} if image.reason == "would_exceed_space" else set()  # too large by its header alone
    return {image.reason} | seldom | loop | protocol | limit


def test_an_untrusted_source_is_refused_for_the_right_reason(
    images: list[Hostile], zygote: Zygote, place: Path, count: Count
) -> None:
    wrong = []
    for image in images:
        result = _within_limit(zygote, _import(image, place / "new.qcow2"))
        assert CANARY not in json.dumps(result), image.name
        refused = result.get("failed") and result.get("msg", "").startswith("refused: ") and not result["changed"]
        if not refused or result.get("reason") not in _reasons(image):
            wrong.append(f"{image.name}: {result.get('reason')} instead of {image.reason}: {result.get('msg')}")
        (place / "new.qcow2").unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)
    assert sorted(path.name for path in place.iterdir()) == ["upload"]
    count("hostile sources refused", len(images))


def test_an_untrusted_source_makes_nobody_open_anything_else(
    images: list[Hostile], zygote: Zygote, place: Path, count: Count
) -> None:
    target = place / "target"
    target.mkdir()
    chosen = share(images, 40, "hostile")
    for image in chosen:
        child = zygote.start("disk_image", _import(image, target / "new.qcow2"), stopped=True)
        with strace.tracing(child, place / "hostile.log", "-e", _TRACE):
            pass
        child.wait()
        calls = strace.calls_of(place / "hostile.log")
        allowed = (str(image.path), str(target))
        foreign = [call for call in calls if _foreign(call, allowed)]
        assert not foreign, (image.name, foreign)
        assert any(str(image.path) in call.text for call in calls), "not even the image was opened"
        (target / "new.qcow2").unlink(missing_ok=True)
    count("hostile sources watched", len(chosen))


def _foreign(call: strace.Call, allowed: tuple[str, ...]) -> bool:
    if call.name in ("connect", "sendto"):
        return "AF_UNIX" not in call.text
    if call.name == "execve":
        return "/bin/" not in call.text
    name = re.search(r'"((?:[^"\\]|\\.)*)"', call.text)
    path = name.group(1) if name else "?"
    if "O_CREAT|O_EXCL" in call.text:  # what is made anew holds nobody's secret
        return False
    steps = {step for each in allowed for step in each.split("/")}
    if "O_PATH" in call.text and path in steps:  # a step of the way to the source or the target; nothing is read
        return False
    return not (path + "/").startswith((*allowed, *_USUAL)) and path not in ("/", str(Path(allowed[1]).parent))


def test_the_watch_sees_what_is_foreign() -> None:
    allowed = ("/srv/upload/image", "/srv/target")
    assert _foreign(strace.Call(1, "openat", f'AT_FDCWD, "{VICTIM}", O_RDONLY) = 3'), allowed)
    assert _foreign(strace.Call(1, "connect", "3, {sa_family=AF_INET, sin_port=htons(1)}, 16) = -1"), allowed)
    assert not _foreign(strace.Call(1, "openat", 'AT_FDCWD, "/srv/upload/image", O_RDONLY) = 3'), allowed)


@pytest.mark.parametrize("task", [{}, {"size": "64M"}, {"state": "absent"}], ids=["as-it-is", "grow", "absent"])
def test_a_hostile_image_in_place_never_hangs_or_leaks(
    task: Options, images: list[Hostile], zygote: Zygote, place: Path, count: Count
) -> None:
    chosen = share(images, 40, f"in place {task}")
    for image in chosen:
        options = dict({"format": image.format}, path=str(image.path), **task)
        result = _within_limit(zygote, options)
        assert CANARY not in json.dumps(result), image.name
        assert result.get("msg", "refused").startswith(("refused", "failed")), (image.name, result)
        assert not result.get("failed") or result["changed"] is False, (image.name, result)
    assert CANARY in (place / "upload" / "secret.raw").read_text()
    count("hostile images in place", len(chosen))


def test_a_hostile_base_never_hangs_or_leaks(images: list[Hostile], zygote: Zygote, place: Path, count: Count) -> None:
    target = place / "target"
    target.mkdir()
    chosen = share(images, 40, "hostile base")
    for image in chosen:
        overlay = target / "overlay.qcow2"
        backing = {"path": str(image.path), "format": image.format}
        result = _within_limit(zygote, {"path": str(overlay), "format": "qcow2", "backing": backing})
        assert CANARY not in json.dumps(result), image.name
        if result.get("failed"):
            assert result["msg"].startswith("refused: ") and not list(target.iterdir()), (image.name, result)
        else:
            overlay.unlink()
    count("hostile bases", len(chosen))


def _fifo(place: Path) -> Path:
    fifo = place / "fifo"
    os.mkfifo(fifo)
    return fifo


def test_a_fifo_is_refused_wherever_it_is_named(zygote: Zygote, place: Path) -> None:
    fifo = str(_fifo(place))
    named = place / "named.qcow2"
    create(named, "qcow2", "1M", "", "-u", "-b", fifo, "-F", "raw")
    new = {"path": str(place / "new.qcow2"), "format": "qcow2"}
    source = {"format": "raw", "compression": "none"}
    for options in (
        {"path": fifo, "format": "raw", "size": "1M"},
        {"path": fifo, "state": "absent"},
        dict(new, source=dict(source, path=fifo)),
        dict(new, source=dict(source, path=fifo, trusted=True)),
        dict(new, backing={"path": fifo, "format": "raw"}),
        dict(new, backing={"path": str(named), "format": "qcow2"}),
        {"path": str(named), "format": "qcow2", "flatten": True},
    ):
        result = _within_limit(zygote, options)
        assert result.get("failed") and result["msg"].startswith("refused: "), (options, result)
    assert Path(fifo).is_fifo()


def test_a_loop_is_refused_wherever_it_is_named(zygote: Zygote, place: Path) -> None:
    for name, backing in (("a", "b"), ("b", "a"), ("self", "self")):
        create(place / name, "qcow2", "1M")
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", place / backing, "-F", "qcow2", place / name)
    new = {"path": str(place / "new.qcow2"), "format": "qcow2"}
    for name in ("a", "self"):
        source = {"path": str(place / name), "format": "qcow2", "compression": "none", "trusted": True}
        for options in (
            {"path": str(place / name), "format": "qcow2", "flatten": True},
            {"path": str(place / name), "format": "qcow2", "options": {"cluster_size": "4K"}, "allow_rewrite": True},
            dict(new, backing={"path": str(place / name), "format": "qcow2"}),
            dict(new, source=source),
        ):
            result = _within_limit(zygote, options)
            assert result.get("reason") == "backing_loop", (options, result)
