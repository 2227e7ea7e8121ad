"""An image that something uses is not changed, whatever the something is; neither is one that others build on."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab.loops import attached
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create, info
from ansible_collections.platter.qemu.tests.lab.patterns import files_of, write_pattern
from ansible_collections.platter.qemu.tests.lab.programs import exported, listens, running, wait_until
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

Count = t.Callable[[str, int], None]
Options = t.Dict[str, t.Any]
Holder = t.Callable[[Path], t.ContextManager[t.Any]]

#: each leaves an image behind that is not the one of before
CHANGES: dict[str, Options] = {
    "grow": {"format": "qcow2", "size": "8M"},
    "amend": {"format": "qcow2", "options": {"lazy_refcounts": True}},
    "rebase": {"format": "qcow2", "backing": {"path": "other.qcow2", "format": "qcow2"}},
    "flatten": {"format": "qcow2", "flatten": True},
    "rewrite": {"format": "qcow2", "options": {"cluster_size": "128K"}, "allow_rewrite": True},
    "remove": {"state": "absent"},
}


def _world(place: Path) -> Path:
    world = place / "world"
    world.mkdir()
    for name in ("base.qcow2", "other.qcow2"):
        create(world / name, "qcow2", "4M")
        write_pattern(world / name, "qcow2", len(name))
    create(world / "disk.qcow2", "qcow2", "", "", "-b", world / "base.qcow2", "-F", "qcow2")
    return world


def _task(world: Path, name: str, **more: t.Any) -> Options:
    options = dict(CHANGES[name], path=str(world / "disk.qcow2"), **more)
    if "backing" in options:
        options["backing"] = dict(options["backing"], path=str(world / options["backing"]["path"]))
    return options


# --- who uses it


@contextlib.contextmanager
def _nbd(image: Path, *options: str) -> t.Iterator[t.Any]:
    with exported(image, "qcow2", image.parent.parent / "socket", *options) as process:
        yield process.pid


@contextlib.contextmanager
def _storage_daemon(image: Path) -> t.Iterator[int]:
    pidfile = image.parent.parent / "pid"
    node = f"driver=qcow2,node-name=disk,file.driver=file,file.filename={image}"
    with running("qemu-storage-daemon", "--blockdev", node, "--pidfile", pidfile) as process:
        wait_until(pidfile.exists, "the storage daemon has started")
        yield process.pid


@contextlib.contextmanager
def _python(image: Path, mode: str = "r+b") -> t.Iterator[int]:
    code = f"import sys; f = open({str(image)!r}, {mode!r}); print(flush=True); sys.stdin.read()"
    with running(sys.executable, "-c", code) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid


@contextlib.contextmanager
def _loop(image: Path) -> t.Iterator[None]:
    with attached(image):
        yield None


HOLDERS: dict[str, Holder] = {
    "qemu-nbd": _nbd,
    "qemu-nbd-read-only": lambda image: _nbd(image, "-r"),
    "qemu-storage-daemon": _storage_daemon,
    "python-writing": _python,
    "loop-device": _loop,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_in_use_is_not_changed(holder: str, place: Path, count: Count) -> None:
    world = _world(place)
    with HOLDERS[holder](world / "disk.qcow2") as pid:
        before = files_of(world)
        for name in CHANGES:
            result = call("disk_image", **_task(world, name))
            assert result.get("reason") == "image_in_use", (name, result)
            assert result["msg"].startswith("refused: ") and result["changed"] is False
            users = result["evidence"]["in_use_by"]
            assert pid is None or pid in [user["pid"] for user in users], users
            assert pid is None or str(pid) in result["msg"]
            predicted = call("disk_image", check=True, **_task(world, name))
            assert predicted.get("reason") == "image_in_use", (name, predicted)
        assert files_of(world) == before
    for name in ("grow", "remove"):
        assert call("disk_image", **_task(world, name))["changed"]
    count("refusals of what is in use", len(CHANGES))


def test_skip_leaves_it_and_says_so(place: Path) -> None:
    world = _world(place)
    with _nbd(world / "disk.qcow2"):
        before = files_of(world)
        for name in CHANGES:
            result = call("disk_image", **_task(world, name, on_in_use="skip"))
            assert not result.get("failed") and result["changed"] is False
            assert result["skipped_reason"] == "image_in_use" and result["warnings"]
        assert files_of(world) == before


@pytest.mark.parametrize("name", ["grow", "remove"])
def test_wait_goes_on_when_the_user_is_gone(name: str, zygote: Zygote, place: Path) -> None:
    world = _world(place)
    with _python(world / "disk.qcow2"):
        child = zygote.start("disk_image", _task(world, name, on_in_use="wait", wait_timeout=120))
        time.sleep(1)  # the user's own time: the module has to be still waiting at its end
        assert Path(f"/proc/{child.pid}/exe").exists() and (world / "disk.qcow2").exists()
    assert child.wait() == 0
    assert child.result()["changed"] is True


def test_wait_ends_at_its_limit(zygote: Zygote, place: Path) -> None:
    world = _world(place)
    with _python(world / "disk.qcow2"):
        begun = time.monotonic()
        result = zygote.run("disk_image", _task(world, "grow", on_in_use="wait", wait_timeout=1))
        took = time.monotonic() - begun
    assert result["reason"] == "image_in_use" and 1 <= took < 60, (took, result)


def test_a_reader_does_not_stop_an_import_from_it_and_a_writer_does(place: Path) -> None:
    world = _world(place)
    task = {
        "path": str(world / "new.qcow2"),
        "format": "qcow2",
        "source": {"path": str(world / "base.qcow2"), "format": "qcow2", "compression": "none"},
    }
    with _python(world / "base.qcow2"):
        result = call("disk_image", **task)
        assert result.get("reason") == "image_in_use" and not (world / "new.qcow2").exists(), result
    with _python(world / "base.qcow2", "rb"):
        assert call("disk_image", **task)["changed"]


# --- who builds on it


def test_a_raw_base_under_an_exported_overlay_is_not_written(place: Path) -> None:
    """QEMU's own lock lets this happen: a raw base is not locked under an exported overlay (QEMU 7.2)."""
    world = place / "world"
    world.mkdir()
    base = create(world / "base.raw", "raw", "4M")
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    overlay = create(elsewhere / "disk.qcow2", "qcow2", "", "", "-b", base, "-F", "raw")
    with exported(overlay, "qcow2", place / "socket"):
        for task in ({"format": "raw", "size": "8M"}, {"state": "absent"}):
            result = call("disk_image", path=str(base), **task)
            assert result.get("reason") in ("image_in_use", "has_overlays"), result
    assert info(base, "raw")["virtual-size"] == 4 << 20


BASE_CHANGES = ("grow", "amend", "rewrite", "remove")


def _relative(world: Path) -> Path:
    return create(world / "overlay.qcow2", "qcow2", "", "", "-b", "disk.qcow2", "-F", "qcow2")


def _absolute(world: Path) -> Path:
    return create(world / "overlay.qcow2", "qcow2", "", "", "-b", world / "disk.qcow2", "-F", "qcow2")


def _by_another_name(world: Path) -> Path:
    (world.parent / "link").symlink_to(world)
    return create(world / "overlay.qcow2", "qcow2", "", "", "-b", world.parent / "link" / "disk.qcow2", "-F", "qcow2")


def _by_a_link(world: Path) -> Path:
    (world / "current").symlink_to("disk.qcow2")
    return create(world / "overlay.qcow2", "qcow2", "", "", "-b", world / "current", "-F", "qcow2")


def _by_a_url(world: Path) -> Path:
    return create(world / "overlay.qcow2", "qcow2", "", "", "-b", f"file:{world}/disk.qcow2", "-F", "qcow2")


def _by_json(world: Path) -> Path:
    name = 'json:{"driver":"qcow2","file":{"driver":"file","filename":"%s"}}' % (world / "disk.qcow2")
    return create(world / "overlay.qcow2", "qcow2", "", "", "-b", name, "-F", "qcow2")


def _of_vmdk_kind(world: Path) -> Path:
    return create(world / "overlay.qed", "qed", "", "", "-b", world / "disk.qcow2", "-F", "qcow2")


@pytest.mark.parametrize(
    "named",
    [_relative, _absolute, _by_another_name, _by_a_link, _by_a_url, _by_json, _of_vmdk_kind],
    ids=lambda named: named.__name__.strip("_"),
)
def test_a_base_with_overlays_is_not_changed(named: t.Callable[[Path], Path], place: Path, count: Count) -> None:
    world = _world(place)
    overlay = named(world)
    before = files_of(world)
    for name in BASE_CHANGES:
        for path in (world / "disk.qcow2", *([place / "link" / "disk.qcow2"] if (place / "link").exists() else [])):
            task = {**_task(world, name), "path": str(path)}
            result = call("disk_image", **task)
            assert result.get("reason") == "has_overlays", (name, result)
            assert str(overlay) in result["msg"] and result["evidence"]["overlays"] == [str(overlay)]
    assert files_of(world) == before
    overlay.unlink()
    assert call("disk_image", **_task(world, "grow"))["changed"]
    count("refusals of a base with overlays", len(BASE_CHANGES))


def test_overlays_in_other_directories_are_looked_for_where_the_task_says(place: Path) -> None:
    world, elsewhere = _world(place), place / "elsewhere"
    elsewhere.mkdir()
    create(elsewhere / "overlay.qcow2", "qcow2", "", "", "-b", "../world/disk.qcow2", "-F", "qcow2")
    for name in BASE_CHANGES:
        result = call("disk_image", **_task(world, name, overlay_directories=[str(elsewhere)]))
        assert result.get("reason") == "has_overlays", result
    assert call("disk_image", **_task(world, "remove"))["changed"], "only what is looked through is seen"


def test_the_other_images_of_the_task_are_looked_at_too(place: Path) -> None:
    world, elsewhere = _world(place), place / "elsewhere"
    elsewhere.mkdir()
    overlay = create(elsewhere / "overlay.qcow2", "qcow2", "", "", "-b", world / "disk.qcow2", "-F", "qcow2")
    remove = {"path": str(world / "disk.qcow2"), "state": "absent"}
    keep = {"path": str(overlay), "format": "qcow2"}
    result = call("disk_image", images=[remove, keep])
    assert result.get("reason") == "has_overlays" and (world / "disk.qcow2").exists(), result
    both = call("disk_image", images=[remove, {"path": str(overlay), "state": "absent"}])
    assert both["changed"] and not (world / "disk.qcow2").exists() and not overlay.exists(), both


def test_nbdkit_is_seen_while_a_client_has_the_image_open(place: Path) -> None:
    """nbdkit opens the file for each client, and takes no lock of QEMU's."""
    world = _world(place)
    socket = place / "socket"
    with running("nbdkit", "-f", "-U", socket, "file", world / "disk.qcow2") as server:
        wait_until(lambda: listens(socket), "nbdkit serves")
        with running("qemu-io", "-f", "raw", f"nbd+unix:///?socket={socket}") as client:
            wait_until(lambda: _has_open(server.pid, world / "disk.qcow2"), "nbdkit has the file open")
            result = call("disk_image", **_task(world, "grow"))
            assert client.poll() is None
    assert result.get("reason") == "image_in_use", result
    assert server.pid in [user["pid"] for user in result["evidence"]["in_use_by"]]


def _has_open(pid: int, path: Path) -> bool:
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it has just closed it
            if os.readlink(f"/proc/{pid}/fd/{number}") == str(path):
                return True
    return False
