"""disk_image_info leaves nothing behind, and looks at nothing but what it is asked about: seen in its system calls."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.guest import scribble
from ansible_collections.platter.qemu.tests.lab.headers import every_format, qcow2
from ansible_collections.platter.qemu.tests.lab.hostile import PROTOCOLS, VICTIM, hostile_images
from ansible_collections.platter.qemu.tests.lab.info import facts
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS, attached, mounted
from ansible_collections.platter.qemu.tests.lab.oracle import create, require_qemu
from ansible_collections.platter.qemu.tests.lab.strace import MUTATING, Call, calls_of, tracing
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

pytestmark = pytest.mark.usefixtures("tools")
_OPENING = ("open", "openat", "openat2")
_LOCKING = "F_SETLK|F_OFD_SETLK|LOCK_EX|LOCK_SH"
Asked = t.Tuple[t.Dict[str, t.Any], t.List[Call]]
Ask = t.Callable[..., Asked]


@pytest.fixture(scope="module")
def tools() -> None:
    require_qemu()
    if not shutil.which("strace"):
        if os.environ.get("REQUIRE_QEMU"):
            pytest.fail("REQUIRE_QEMU is set and strace is not installed")
        pytest.skip("strace is not installed")


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Zygote]:
    started = Zygote(tmp_path_factory.mktemp("processes"))
    yield started
    started.close()


@pytest.fixture
def ask(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Runs the module under strace: (its result, the calls that name C(below))."""
    log = tmp_path_factory.mktemp("log") / "calls"

    def asked(below: Path | str, **options: t.Any) -> Asked:
        child = zygote.start("disk_image_info", options, stopped=True)
        calls = ",".join([*_OPENING, *MUTATING, "connect", "fcntl", "flock", "execve"])
        with tracing(child, log, "-y", "-e", f"trace={calls}"):
            child.wait()
        result = child.result()
        assert not result.get("failed"), result
        return result, [call for call in calls_of(log) if str(below) in call.text]

    return asked


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Images of every format, a split one, overlays, and one with a data file."""
    for name, (_format, data) in every_format().items():
        (tmp_path / name.replace("/", "-")).write_bytes(data)
    create(tmp_path / "split.vmdk", "vmdk", "3G", "subformat=twoGbMaxExtentSparse")
    create(tmp_path / "base", "qcow2", "1M")
    create(tmp_path / "overlay", "qcow2", "", "", "-b", "base", "-F", "qcow2")
    create(tmp_path / "with-data", "qcow2", "1M", f"data_file={tmp_path / 'data'}")
    return tmp_path


def changing(calls: list[Call]) -> list[Call]:
    """What changes a file, or could; what is written to pipes are results."""
    writable = re.compile(r"O_(RDWR|WRONLY|CREAT|TRUNC|TMPFILE)")
    piped = re.compile(r"\d+<(pipe|socket|/.*\.out>)")
    return [
        call
        for call in calls
        if (call.name in MUTATING and not (call.name == "write" and piped.match(call.text)))
        or (call.name in _OPENING and writable.search(call.text))
    ]


@pytest.mark.parametrize("everything", [False, True], ids=["headers", "everything"])
def test_nothing_is_opened_for_writing_and_nothing_is_written(pool: Path, ask: Ask, everything: bool) -> None:
    more: dict[str, t.Any] = dict.fromkeys(("backing_chain", "dependents", "check", "map"), everything)
    result, calls = ask(pool, directory=str(pool), **more, **({"measure": "qcow2"} if everything else {}))
    assert len([each for each in result["images"] if each.get("format")]) > 15
    assert [call for call in calls if call.name in _OPENING], "the trace sees what is opened"
    assert bool(result["commands"]) == everything
    assert changing(calls) == []


def test_headers_are_read_without_locks_and_without_access_times(pool: Path, ask: Ask) -> None:
    for path in pool.iterdir():
        os.utime(path, (1_000_000_000, path.stat().st_mtime))
    _result, calls = ask(pool, directory=str(pool), backing_chain=True, dependents=True)
    assert [call for call in calls if call.name in ("fcntl", "flock") and re.search(_LOCKING, call.text)] == []
    assert {path.name: path.stat().st_atime for path in pool.iterdir()} == {
        path.name: 1_000_000_000 for path in pool.iterdir()
    }


@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root")
def test_what_qemu_reads_for_root_keeps_its_access_time(tmp_path: Path, zygote: Zygote) -> None:
    """On a file system that notes each access; the base lies on another, mounted below."""
    below = tmp_path / "mnt" / "below"
    with contextlib.ExitStack() as mounts:
        for directory in (tmp_path / "mnt", below):
            directory.mkdir()
            mounts.enter_context(mounted("tmpfs", directory, "-t", "tmpfs", "-o", "strictatime,size=64m"))
        base = create(below / "base", "qcow2", "1M")
        image = create(tmp_path / "mnt" / "image", "qcow2", "", "", "-b", base, "-F", "qcow2")
        for path in (base, image):
            scribble(path, "qcow2", ((0x11, 0, 65536),))
        for path in (base, image):
            os.utime(path, (1_000_000_000, path.stat().st_mtime))
        asked = {"paths": [str(image), str(base)], "check": True, "map": True, "measure": "raw"}
        result = zygote.run("disk_image_info", asked)
        assert all("unavailable" not in each[name] for each in result["images"] for name in ("check", "map", "measure"))
        assert {path.stat().st_atime for path in (base, image)} == {1_000_000_000}
        image.read_bytes()
        assert image.stat().st_atime > 1_000_000_000


def opened(calls: list[Call]) -> set[str]:
    """The paths that were really opened."""
    return {match.group(1) for c in calls if c.name in _OPENING and (match := re.search(r" = \d+<(.*)>$", c.text))}


def connected(calls: list[Call]) -> list[Call]:
    """Connections to anybody but the system's log."""
    return [call for call in calls if call.name == "connect" and '"/dev/log"' not in call.text]


def test_what_hostile_headers_name_is_not_opened(tmp_path: Path, ask: Ask) -> None:
    directory = tmp_path / "upload" / "images"
    directory.mkdir(parents=True)
    for secret in (directory / "secret.raw", tmp_path / "upload" / "secret.raw"):
        secret.write_text("a secret " * 64)
    images = hostile_images(directory)
    result, calls = ask("", paths=[str(image.path) for image in images], dependents=False)
    seen = opened(calls)
    assert {str(image.path) for image in images} <= seen, "the trace sees what is opened"
    member = str(directory / "secret.raw")  # beside it, by a plain name: a VMDK is made of such files
    assert {path for path in seen if path.startswith(str(tmp_path))} <= {member, *(str(i.path) for i in images)}
    assert not seen & {VICTIM, "/etc/shadow", "/etc/hosts", "/dev/sda"}
    assert connected(calls) == [] == [call for call in calls if call.name == "execve"]
    assert len(result["images"]) == len(images) > 60
    assert "a secret" not in str(result)


def test_hostile_headers_take_no_time(tmp_path: Path, zygote: Zygote) -> None:
    images = hostile_images(tmp_path)
    child = zygote.start("disk_image_info", {"directory": str(tmp_path), "backing_chain": True, "dependents": True})
    child.wait()
    result = child.result()
    by_path = {each["path"]: each for each in result["images"]}
    loops = [by_path[str(image.path)]["backing_chain"][-1]["problem"] for image in images if "loop" in image.name]
    assert {problem["reason"] for problem in loops} == {"backing_loop"}
    damaged = by_path[str(tmp_path / "qcow2-cut-in-its-header.img")]
    assert (damaged["reason"], damaged["exists"]) == ("header_unreadable", True)


def test_qemu_is_not_let_near_what_is_no_file(tmp_path: Path, ask: Ask) -> None:
    files = ("file", "json of a file", "json of a name")  # another way to write a plain path
    for name, target in ((name, target) for name, target in PROTOCOLS.items() if name not in files):
        (tmp_path / name.replace(" ", "-")).write_bytes(qcow2(data_file=target))
    result, calls = ask("", directory=str(tmp_path), check=True, map=True, measure="raw")
    for image in result["images"]:
        assert {image[name]["reason"] for name in ("check", "map", "measure")} == {"image_references_file"}, image
    assert VICTIM not in opened(calls)
    assert connected(calls) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_a_user_who_may_not_read_an_image_is_told_so(zygote: Zygote) -> None:
    with tempfile.TemporaryDirectory() as name:  # one that others can enter, unlike pytest's own
        directory = Path(name)
        directory.chmod(0o755)
        for each, mode in (("open", 0o644), ("closed", 0o600)):
            (directory / each).write_bytes(qcow2())
            (directory / each).chmod(mode)
        child = zygote.start("disk_image_info", {"directory": name}, uid=65534)
        child.wait()
        closed, readable = child.result()["images"]
    assert (closed["exists"], closed["reason"]) == (True, "unreadable")
    assert "Permission denied" in closed["error"] and "virtual_size" not in closed
    assert readable["virtual_size"] == 1 << 20


@pytest.mark.xdist_group("loops")
@pytest.mark.skipif(not HAVE_LOOPS, reason="needs root and loop devices")
def test_a_block_device_is_an_image_too(tmp_path: Path) -> None:
    path = create(tmp_path / "a.qcow2", "qcow2", "8M", "preallocation=full")
    with attached(path) as device:
        on_device, behind = facts(device, path, check=True)
        assert (on_device["format"], on_device["virtual_size"], on_device["actual_size"]) == ("qcow2", 8 << 20, 0)
        assert on_device["check"]["corruptions"] == 0
        # another test may look at all loop devices just now
        using = [(each["kind"], each["name"]) for each in behind["in_use_by"] if each["kind"] != "process"]
        assert using == [("loop", device)]
