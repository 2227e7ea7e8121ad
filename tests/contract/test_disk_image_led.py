"""An image that others can write to leads root's QEMU to no file that they could not open themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.led import NOBODY, SECRET, given, led, place_of_roots, with_data_file
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TASK: dict[str, Any] = {"format": "qcow2"}


@pytest.fixture
def place() -> Iterator[Path]:
    with place_of_roots() as found:
        yield found


TO_OTHER = {"options": {"cluster_size": "128K"}, "allow_rewrite": True}


@pytest.mark.parametrize("change", [{"flatten": True}, {"size": "4M"}, TO_OTHER, {"backing": True}], ids=str)
def test_what_is_copied_from_below_is_readable_by_those_who_chose_it(place: Path, change: dict[str, Any]) -> None:
    image = led(place / "image", place / "secret")
    if "backing" in change:
        change = {"backing": {"path": str(create(place / "new", "qcow2", "1000K")), "format": "qcow2"}}
    result = refused("image_references_file", path=str(image), **TASK, **change)
    assert result["evidence"] == {
        "image": str(image),
        "kind": "backing_file",
        "file": str(place / "secret"),
        "writer": "user 65534 (nobody)",
    }
    (place / "secret").chmod(0o644)
    four_beats(path=str(image), **TASK, **change)


@pytest.mark.parametrize("below", ["new", "there"])
def test_what_a_base_of_the_same_list_leads_to_is_looked_at(place: Path, below: str) -> None:
    chosen = led(place / "chosen", place / "secret", "1M")
    base = {"path": str(place / "base"), **TASK, "backing": {"path": str(chosen), "format": "qcow2"}}
    if below == "there":
        create(place / "base", "qcow2", "1M")
        base["backing"]["rebase"] = "unsafe"
    image = given(create(place / "image", "qcow2", "40K"))
    onto = {"path": str(place / "base"), "format": "qcow2", "rebase": "unsafe"}
    result = refused(
        "image_references_file", images=[base, {"path": str(image), **TASK, "size": "1M", "backing": onto}]
    )
    assert result["evidence"]["file"] == str(place / "secret")


def test_nothing_is_copied_when_whole_clusters_are_added(place: Path) -> None:
    """As with the overlays of libvirt's user on a base that libvirt gives to that user while its VM runs."""
    image = led(place / "image", place / "secret", "1M")
    four_beats(path=str(image), **TASK, size="4M")
    assert SECRET[:100] not in image.read_bytes()


@pytest.mark.parametrize("change", [{"size": "4M"}, {"options": {"lazy_refcounts": True}}], ids=str)
def test_a_data_file_is_writable_by_those_who_chose_it(place: Path, change: dict[str, Any]) -> None:
    image = with_data_file(place / "image", place / "secret")
    (place / "secret").chmod(0o644)
    task = {"path": str(image), **TASK, **change}
    assert refused("image_references_file", **task)["evidence"]["kind"] == "data_file"
    assert (place / "secret").read_bytes() == SECRET
    os.chown(place / "secret", NOBODY, 0)
    four_beats(**task)


def test_to_find_out_about_an_image_leads_nowhere_either(place: Path) -> None:
    """What a check or a refused shrinking tells of a file is told of the secret."""
    image = with_data_file(place / "image", place / "secret")
    refused("image_references_file", path=str(image), **TASK, repair="leaks")
    refused("image_references_file", path=str(image), **TASK, size="32K", allow_shrink=True)
    overlay = led(place / "overlay", place / "secret", "128K")
    refused("image_references_file", path=str(overlay), **TASK, size="32K", allow_shrink=True)
    assert call("disk_image", path=str(overlay), **TASK, repair="leaks")["changed"] is False


@pytest.mark.parametrize("how", ["safe", "unsafe"])
def test_a_base_that_is_named_before_a_change_is_looked_at_too(place: Path, how: str) -> None:
    """The task names it, and its owner what lies below."""
    middle = led(place / "middle", place / "secret")
    old = create(place / "old", "qcow2", "2000K") if how == "safe" else place / "secret"
    image = led(place / "image", old, "2000K", "qcow2")
    new = {"path": str(middle), "format": "qcow2", "rebase": how}
    found = refused("image_references_file", path=str(image), **TASK, backing=new, size="3M")["evidence"]
    assert found["file"] == str(place / "secret") and found["image"] == str(middle)
    (place / "middle").unlink()
    given(create(place / "middle", "qcow2", "2000K"))
    four_beats(path=str(image), **TASK, backing=new, size="3M")


@pytest.mark.parametrize("kind", ["fifo", "device"])
@pytest.mark.parametrize("task", [{"repair": "leaks"}, {"size": "4M"}, {"backing": True}], ids=str)
def test_no_data_file_that_is_no_file_is_opened(place: Path, kind: str, task: dict[str, Any]) -> None:
    """QEMU would wait at a FIFO for ever, and a device does what it does when it is opened."""
    image = create(place / "image", "qcow2", "1M", f"data_file={place / 'data'}")
    (place / "data").unlink()
    os.mkfifo(place / "data") if kind == "fifo" else os.mknod(place / "data", 0o600 | 0o020000, os.makedev(1, 3))
    if "backing" in task:
        task = {"backing": {"path": str(image), "format": "qcow2"}}
        image = create(place / "overlay", "qcow2", "1M")
    refused("not_a_file", path=str(image), **TASK, **task)


def test_a_data_file_that_the_task_names_is_nobody_elses_choice(place: Path) -> None:
    image = with_data_file(place / "image", place / "secret")
    data_file = {"options": {"data_file": str(place / "secret"), "data_file_raw": True}}
    four_beats(path=str(image), **TASK, **data_file, size="4M")


def test_the_content_of_a_data_file_is_not_copied_either(place: Path) -> None:
    image = with_data_file(place / "image", place / "secret")
    refused("image_references_file", path=str(image), **TASK, **TO_OTHER)


def test_who_chooses_an_image_below_chooses_what_lies_below_that(place: Path) -> None:
    """Root's own overlay, which all can read, on a base that only root can."""
    middle = given(led(place / "middle", place / "secret"), 0o644, owner=0)
    image = led(place / "image", middle, format="qcow2")
    found = refused("image_references_file", path=str(image), **TASK, flatten=True)["evidence"]
    assert (found["image"], found["file"]) == (str(middle), str(place / "secret"))
    four_beats(path=str(given(image, owner=0)), **TASK, flatten=True)


def test_an_image_of_roots_is_led_by_the_owner_of_its_base(place: Path) -> None:
    middle = led(place / "middle", place / "secret")
    image = given(led(place / "image", middle, format="qcow2"), owner=0)
    assert refused("image_references_file", path=str(image), **TASK, flatten=True)["evidence"]["image"] == str(middle)


@pytest.mark.parametrize(("mode", "who"), [(0o660, "group 60000"), (0o606, "anyone")])
def test_whoever_else_is_let_in_is_asked_too(place: Path, mode: int, who: str) -> None:
    os.chown(place / "secret", NOBODY, 0)
    image = given(led(place / "image", place / "secret"), mode, owner=NOBODY, group=60000)
    assert refused("image_references_file", path=str(image), **TASK, flatten=True)["evidence"]["writer"] == who
    four_beats(path=str(given(image, 0o640, owner=NOBODY, group=60000)), **TASK, flatten=True)


def test_a_file_behind_a_closed_directory_is_not_readable(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(0o700)
    (place / "secret").chmod(0o644)
    image = led(place / "image", (place / "secret").rename(closed / "secret"))
    refused("image_references_file", path=str(image), **TASK, flatten=True)


@pytest.mark.parametrize("kind", ["base", "data"])
def test_what_is_opened_by_its_name_lies_in_no_directory_of_a_users(place: Path, kind: str) -> None:
    """Who owns the directory can give the name to another file at any time."""
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    other = given((place / "secret").rename(home / kind), 0o644)
    image = led(place / "image", other) if kind == "base" else with_data_file(place / "image", other)
    refused("unsafe_directory", path=str(image), **TASK, size="4M")
    os.chown(home, 0, 0)
    four_beats(path=str(image), **TASK, size="4M")


@pytest.mark.parametrize("of", ["a user's link", "a link in a user's directory"])
def test_nor_does_a_link_lead_there_that_a_user_can_exchange(place: Path, of: str) -> None:
    """Root's own overlay: nobody else has chosen the name, but the user chooses what it leads to."""
    home = place / "home"
    home.mkdir()
    link = lead(home / "base", place / "secret")
    image = given(led(place / "image", link), owner=0)
    if of == "a link in a user's directory":
        os.lchown(link, 0, 0)
        os.chown(home, NOBODY, NOBODY)
    found = refused("unsafe_directory", path=str(image), **TASK, flatten=True)["evidence"]
    assert found["owner"] == NOBODY
    os.lchown(link, 0, 0)
    os.chown(home, 0, 0)
    four_beats(path=str(image), **TASK, flatten=True)


def lead(link: Path, target: Path) -> Path:
    """A link of that user's."""
    link.symlink_to(target)
    os.lchown(link, NOBODY, NOBODY)
    return link


def test_a_base_is_not_found_through_another_users_link(place: Path) -> None:
    """But that user's own file is."""
    link = lead(place / "link", place / "secret")
    task = {"path": str(place / "image"), **TASK, "backing": {"path": str(link), "format": "raw"}}
    assert refused("unsafe_directory", **task)["evidence"] == {"owner": NOBODY}
    os.chown(place / "secret", NOBODY, NOBODY)
    four_beats(**task)
    assert qemu_img("info", place / "image").count(str(place / "secret"))


def test_a_base_to_be_made_is_not_found_through_another_users_link(place: Path) -> None:
    link = lead(place / "link", place / "base")
    base = {"path": str(place / "base"), **TASK, "size": "1M"}
    overlay = {"path": str(place / "image"), **TASK, "backing": {"path": str(link), "format": "qcow2"}}
    assert call("disk_image", images=[base, overlay])["reason"] == "unsafe_directory"


def test_a_data_file_is_not_made_through_another_users_link(place: Path) -> None:
    (place / "closed").mkdir()
    link = lead(place / "link", place / "closed")
    data = {"options": {"data_file": str(link / "data")}}
    refused("unsafe_directory", path=str(place / "image"), **TASK, size="1M", **data)
    assert not list((place / "closed").iterdir())


def test_access_lists_count(place: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    image = given(led(place / "image", place / "secret"), 0o600, owner=0)
    subprocess.run(["setfacl", "-m", "u:nobody:rw", image], check=True)
    refused("image_references_file", path=str(image), **TASK, flatten=True)
    subprocess.run(["setfacl", "-m", "u:nobody:r", place / "secret"], check=True)
    four_beats(path=str(image), **TASK, flatten=True)


def test_libvirts_images_are_worked_on_as_ever(place: Path) -> None:
    """Root's golden image, readable by all; overlays of the user of the VMs, in root's directory."""
    golden = str(place / "golden.qcow2")
    backing = {"backing": {"path": golden, "format": "qcow2"}}
    prepared("disk_image", path=golden, **TASK, size="1000K", mode="0644")
    task = {"path": str(place / "vm.qcow2"), **TASK, "owner": "nobody"}
    four_beats(**task, **backing)
    four_beats(**task, **backing, size="4M")
    four_beats(**task, **backing, **TO_OTHER)
    four_beats(**task, flatten=True)


def test_a_base_in_a_users_own_directory_is_not_opened_by_its_name(place: Path) -> None:
    """To copy what differs between the two, as to copy all of it."""
    (place / "home").mkdir()
    base = given(create(place / "home" / "base", "qcow2", "1M"))
    given(place / "home", 0o755)
    task = {"path": str(create(place / "image", "qcow2", "1M")), "format": "qcow2"}
    told = refused("unsafe_directory", **task, backing={"path": str(base), "format": "qcow2"})
    assert told["evidence"]["owner"] == NOBODY, told["evidence"]
