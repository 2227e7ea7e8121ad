"""An ordinary user owns the directory of an image that root works on, and swaps it, or what is in it, at the one moment
that counts: nothing outside of that directory is made, overwritten, removed or given away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory
from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_until
from ansible_collections.platter.qemu.tests.lab.zygote import Zygote

NOBODY = 65534
SECRET = b"not to be touched" * 4096
#: for the swap, however busy the machine is; the call goes on when that is done
_DELAY = "120s"


class Home(t.NamedTuple):
    """The user's directory of images, and root's directory with a file of the same name as the image."""

    images: Path
    victims: Path

    @property
    def disk(self) -> Path:
        return self.images / "disk.raw"

    @property
    def victim(self) -> Path:
        return self.victims / "disk.raw"


@pytest.fixture
def home(place: Path) -> t.Iterator[Home]:
    top = Path("/tmp") / f"racer-{os.getpid()}-{time.monotonic_ns()}"
    found = Home(top / "images", place / "victims")
    found.images.mkdir(parents=True)
    found.victims.mkdir()
    found.victim.write_bytes(SECRET)
    found.victim.chmod(0o600)
    for each in (top, found.images):
        os.chown(each, NOBODY, NOBODY)
    yield found
    shutil.rmtree(top)


def as_nobody(*command: object) -> None:
    """The user's own doing: what that user may not do fails the test."""
    argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *map(str, command)]
    subprocess.run(argv, check=True, timeout=DEADLINE)


def instead(name: Path, target: object) -> None:
    """Move away what is there, and put a link in its place."""
    as_nobody("mv", "-T", name, f"{name}.moved")
    as_nobody("ln", "-s", target, name)


def untouched(home: Home) -> None:
    seen = home.victim.stat()
    assert home.victim.read_bytes() == SECRET
    assert (seen.st_mode & 0o7777, seen.st_uid, seen.st_nlink) == (0o600, 0, 1)
    assert os.listdir(home.victims) == ["disk.raw"]


def raced(
    zygote: Zygote, home: Home, place: Path, call: str, swap: t.Callable[[], None], options: dict[str, t.Any]
) -> dict[str, t.Any]:
    """Run the task, and C(swap) while its C(call) waits: C(chmod), or C(2 mkdir exit) for the end of the second one."""
    number, name, when = ("1 " + call + " enter").split()[-3:] if " " not in call else call.split()
    child = zygote.start("disk_image", {"path": str(home.disk), "format": "raw", **options}, stopped=True)
    log, inject = place / "log", f"inject={name}:delay_{when}={_DELAY}:when={number}"
    with strace.tracing(child, log, "-e", f"trace={name}", "-e", inject) as tracer:
        wait_until(lambda: log.exists() and log.read_text().count(name + "(") >= int(number), f"{call} is called")
        swap()
        tracer.kill()
    child.wait()
    return child.result()


def build_of(home: Home) -> Path:
    return next(path for path in home.images.iterdir() if path.name.startswith(".platter-tmp"))


@pytest.mark.parametrize("more", [{}, {"owner": "nobody", "mode": "0666"}], ids=["plain", "dressed"])
def test_what_is_built_stays_in_its_directory(zygote: Zygote, home: Home, place: Path, more: dict[str, t.Any]) -> None:
    def swap() -> None:
        instead(build_of(home), home.victims)

    result = raced(zygote, home, place, "2 mkdir exit", swap, {"size": "1M", **more})  # the first is for the lock
    untouched(home)
    assert result.get("reason") == "changed_meanwhile", result["msg"]
    assert str(home.images) in result["msg"]


def test_an_image_is_removed_from_its_own_directory_only(zygote: Zygote, home: Home, place: Path) -> None:
    create(home.disk, "raw", "1M")
    raced(zygote, home, place, "unlink", lambda: instead(home.images, home.victims), {"state": "absent"})
    untouched(home)


@pytest.mark.parametrize("what", ["image", "directory"])
def test_only_the_image_gets_another_mode_and_owner(zygote: Zygote, home: Home, place: Path, what: str) -> None:
    create(home.disk, "raw", "1M")

    def swap() -> None:
        if what == "directory":
            instead(home.images, home.victims)
        else:
            instead(home.disk, home.victim)

    raced(zygote, home, place, "chmod", swap, {"mode": "0666", "owner": "nobody"})
    untouched(home)


def test_a_new_image_does_not_take_the_mode_of_another_file(zygote: Zygote, home: Home, place: Path) -> None:
    """What runs as root by its mode, with content of that user's."""
    source = {"path": str(place / "source"), "format": "raw"}
    options = {"source": source, "source_policy": "if_changed"}
    Path(source["path"]).write_bytes(bytes(4096))
    assert zygote.run("disk_image", {"path": str(home.disk), "format": "raw", **options})["changed"]
    os.chown(home.disk, NOBODY, NOBODY)
    home.victim.chmod(0o4755)
    Path(source["path"]).write_bytes(b"#" * 8192)
    result = raced(zygote, home, place, "chmod", lambda: instead(home.disk, home.victim), options)
    assert result.get("reason") == "changed_meanwhile", result["msg"]
    assert (home.victim.stat().st_mode & 0o7777, home.disk.is_symlink()) == (0o4755, True)


def test_a_link_that_leads_the_directory_away_is_not_followed(zygote: Zygote, home: Home) -> None:
    instead(home.images, home.victims)
    for options in ({"size": "1M"}, {"state": "absent"}, {"mode": "0666"}):
        result = zygote.run("disk_image", {"path": str(home.disk), "format": "raw", **options})
        assert result["reason"] == "unsafe_directory", result
        assert result["evidence"] == {"owner": NOBODY}
    untouched(home)


def test_a_users_link_to_a_directory_of_that_users_is_followed(zygote: Zygote, home: Home) -> None:
    as_nobody("ln", "-s", "images", home.images.parent / "link")
    result = zygote.run(
        "disk_image", {"path": str(home.images.parent / "link" / "disk.raw"), "format": "raw", "size": "1M"}
    )
    assert result["image"]["path"] == str(home.disk), result


EDITS: dict[str, dict[str, t.Any]] = {
    "resize": {"size": "2M"},
    "amend": {"options": {"lazy_refcounts": True}},
    "rewrite": {"options": {"cluster_size": "32K"}, "allow_rewrite": True},
    "flags": {"attributes": "+i"},
}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_root_has_nothing_opened_by_its_name_there(zygote: Zygote, home: Home, edit: str) -> None:
    disk = create(home.images / "disk", "qcow2", "1M")
    os.chown(disk, NOBODY, NOBODY)
    options = {"path": str(disk), "format": "qcow2", **EDITS[edit]}
    for check in (True, False):
        result = zygote.run("disk_image", options, check=check)
        assert result["reason"] == "unsafe_directory", result
        assert result["evidence"] == {"owner": NOBODY, "directory": str(home.images)}
    if edit != "flags":
        assert zygote.run("disk_image", options, uid=NOBODY)["changed"]


def test_root_has_no_data_file_opened_by_its_name_there(zygote: Zygote, home: Home, place: Path) -> None:
    options = {"format": "qcow2", "size": "1M", "options": {"data_file": str(home.images / "data")}}
    result = zygote.run("disk_image", {"path": str(place / "disk"), **options})
    assert result["reason"] == "unsafe_directory", result


def _settled(zygote: Zygote, options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Predicted, done, and nothing left to do."""
    predicted = zygote.run("disk_image", options, check=True)
    done = zygote.run("disk_image", options)
    assert (done["changed"], done["actions"]) == (True, predicted["actions"]), done
    assert done["diff"] == predicted["diff"]
    assert "/proc/" not in str({key: value for key, value in done.items() if key != "commands"})
    again = zygote.run("disk_image", options)
    assert not again["changed"], again
    return done


def test_images_are_made_and_removed_there(zygote: Zygote, home: Home, place: Path) -> None:
    source = create(place / "source", "qcow2", "1M")
    split = {"format": "vmdk", "options": {"subformat": "twoGbMaxExtentSparse"}}
    base = {"path": str(home.images / "c"), "format": "qcow2"}
    tasks: tuple[dict[str, t.Any], ...] = (
        {"path": "a", "format": "raw", "size": "1M", "owner": "nobody", "mode": "0640"},
        {"path": "b", "size": "1M", **split},
        {"path": "c", "format": "qcow2", "source": {"path": str(source), "format": "qcow2"}},
        {"path": "d", "format": "qcow2", "backing": {**base, "relative": True}},
    )
    for task in tasks:
        _settled(zygote, {**task, "path": str(home.images / task["path"])})
    assert qemu_img("compare", source, home.images / "d").startswith("Images are identical")
    for task in reversed(tasks):
        done = _settled(
            zygote, {"path": str(home.images / task["path"]), "state": "absent", "backup": task["path"] == "a"}
        )
    assert [os.path.join(home.images, name) for name in os.listdir(home.images)] == [done["backup_file"]]


def test_what_a_killed_run_has_left_there_is_removed_and_what_looks_like_it_is_not(zygote: Zygote, home: Home) -> None:
    options = {"path": str(home.disk), "format": "raw", "size": "1M"}
    with build_directory.BuildDirectory(str(home.disk)) as build:
        build.keep = True
    forged = Path(build.directory[:-1] + "x")
    as_nobody("mkdir", "-m", "0700", forged)
    assert zygote.run("disk_image", options)["removed_leftovers"] == [build.directory]
    assert sorted(os.listdir(home.images)) == sorted([forged.name, "disk.raw"])


def test_a_directory_of_roots_is_no_leftover_because_of_its_name(zygote: Zygote, home: Home) -> None:
    """Its owner cannot write to it, but rename it."""
    own = home.images / "backups"
    own.mkdir(0o700)
    (own / "precious").write_bytes(SECRET)
    as_nobody("mv", "-T", own, renamed := Path(build_directory.BuildDirectory(str(home.disk)).directory))
    assert "removed_leftovers" not in zygote.run("disk_image", {"path": str(home.disk), "format": "raw", "size": "1M"})
    assert (renamed / "precious").read_bytes() == SECRET


def test_a_directory_of_a_group_is_worked_in_as_ever(zygote: Zygote, home: Home) -> None:
    """As libvirt's users have it; who is in the group is trusted with what is there."""
    os.chown(home.images.parent, 0, 0)
    os.chown(home.images, 0, NOBODY)
    home.images.chmod(0o2775)
    for name in ("base", "other"):
        _settled(zygote, {"path": str(home.images / name), "format": "qcow2", "size": "1M"})
    overlay = {"path": str(home.images / "disk"), "format": "qcow2"}
    backing = {"format": "qcow2", "relative": True}
    _settled(zygote, {**overlay, "backing": {**backing, "path": str(home.images / "base")}})
    _settled(zygote, {**overlay, "backing": {**backing, "path": str(home.images / "other")}, "size": "2M"})
    _settled(zygote, {**overlay, "options": {"lazy_refcounts": True}, "mode": "0660"})
    _settled(zygote, {**overlay, "options": {"cluster_size": "32K"}, "allow_rewrite": True})
    _settled(zygote, {**overlay, "flatten": True})
    _settled(zygote, {**overlay, "state": "absent"})
    assert sorted(os.listdir(home.images)) == ["base", "other"]


# --- snapshots


SNAPSHOTS: dict[str, dict[str, t.Any]] = {
    "internal": {"name": "i"},
    "bitmap": {"bitmaps": [{"name": "b"}]},
    "take": {"kind": "external", "name": "s2"},
    "revert": {"kind": "external", "name": "s1", "state": "reverted"},
    "commit": {"kind": "external", "name": "s1", "state": "committed"},
    "stream": {"kind": "external", "name": "s1", "state": "streamed"},
}


def _snapshotted(zygote: Zygote, home: Home) -> dict[str, t.Any]:
    """The user's disk with a snapshot s1 that the user has taken; the options of a task about it."""
    disk = create(home.images / "disk.qcow2", "qcow2", "1M")
    os.chown(disk, NOBODY, NOBODY)
    options = {"image": str(disk), "format": "qcow2"}
    taken = {**options, "kind": "external", "name": "s1", "switch": "rename"}
    assert zygote.run("image_snapshot", taken, uid=NOBODY)["changed"]
    as_nobody("qemu-io", "-f", "qcow2", "-c", "write -q 0 64k", disk)
    return options


@pytest.mark.parametrize(
    ("step", "whose"), [*((each, "theirs") for each in sorted(SNAPSHOTS)), ("take", "above"), ("take", "all")]
)
def test_root_takes_no_snapshots_there_and_removes_none(zygote: Zygote, home: Home, step: str, whose: str) -> None:
    options = {**_snapshotted(zygote, home), **SNAPSHOTS[step]}
    if whose != "theirs":
        os.chown(home.images, 0, 0)
    if whose == "all":
        os.chown(home.images.parent, 0, 0)
        home.images.chmod(0o777)
    for check in (True, False):
        result = zygote.run("image_snapshot", options, check=check)
        assert result["reason"] == "unsafe_directory", result
        assert result["evidence"]["directory"] == str(home.images.parent if whose == "above" else home.images)
    if whose == "theirs":
        assert zygote.run("image_snapshot", options, uid=NOBODY)["changed"]


def test_what_a_killed_snapshot_has_left_there_is_left_to_its_user(zygote: Zygote, home: Home) -> None:
    disk = create(home.images / "disk.qcow2", "qcow2", "1M")
    with build_directory.BuildDirectory(str(disk)) as build:
        build.keep = True
    options = {"image": str(disk), "format": "qcow2", "kind": "external", "name": "s1", "state": "absent"}
    assert "removed_leftovers" not in zygote.run("image_snapshot", options)
    assert os.path.isdir(build.directory)


def test_an_image_that_cannot_be_read_may_be_built_on_a_layer(zygote: Zygote, home: Home) -> None:
    options = {**_snapshotted(zygote, home), "kind": "external", "name": "s1"}
    clone = create(home.images / "clone.qcow2", "qcow2", "", "", "-b", home.images / "disk.s1.qcow2", "-F", "qcow2")
    clone.chmod(0o600)
    for state in ("committed", "streamed", "absent", "reverted"):
        result = zygote.run("image_snapshot", {**options, "state": state}, uid=NOBODY)
        assert "clone.qcow2 cannot be opened" in result["msg"], result
    other = home.images.parent / "other"
    as_nobody("mkdir", other)
    for name in ("disk.qcow2", "disk.s1.qcow2"):
        as_nobody("cp", "--preserve=xattr", home.images / name, other)
    as_nobody(
        "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", other / "disk.s1.qcow2", "-F", "qcow2", other / "disk.qcow2"
    )
    both = [{"image": str(each / "disk.qcow2")} for each in (home.images, other)]
    task = {**options, "state": "committed", "allow_altered": True, "snapshots": both, "fail_fast": False}
    result = zygote.run("image_snapshot", {key: task[key] for key in task if key != "image"}, uid=NOBODY)
    assert [each["changed"] for each in result["snapshots"]] == [False, True], result
