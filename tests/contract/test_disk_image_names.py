"""Names that programs take for something else: the whole life of an image under each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create

NAMES = [
    "a,b.img",
    "a,,driver=raw,file.filename=x",
    "nbd:evil",
    "json:{}",
    "file:a.qcow2",
    "http:no.where",
    "-f raw",
    "--help",
    "two  spaces",
    " begins with one",
    "ends with one ",
    "Größe-値-🦀.qcow2",
    "100%s%d%n",
    'it\'s "quoted"',
    "back\\slash",
    "$HOME `id` $(id);&|<>*?[x]~#!",
    "{{ jinja }}",
    "n" * 200,
    "...",
    ".hidden",
    "trailing.",
]


def images(directory: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A base and an overlay whose names begin alike."""
    base = {"path": str(directory / name), "format": "qcow2", "size": "4M"}
    backing = {"path": base["path"], "format": "qcow2"}
    return base, {"path": str(directory / (name + "+o")), "format": "qcow2", "backing": backing}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_lives_under_any_name(tmp_path: Path, name: str) -> None:
    base, overlay = images(tmp_path, name)
    four_beats(**base)
    scribble(base["path"], "qcow2")
    four_beats(**overlay)
    shows(overlay["path"], "qcow2")
    overlay["backing"]["relative"] = True
    four_beats(**overlay)
    shows(overlay["path"], "qcow2")
    four_beats(path=overlay["path"], format="qcow2", flatten=True, size="8M")
    four_beats(path=overlay["path"], format="qcow2", options={"cluster_size": "32K"}, allow_rewrite=True)
    shows(overlay["path"], "qcow2")
    four_beats(path=base["path"], state="absent")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name + "+o"]


@pytest.mark.parametrize("name", NAMES)
def test_a_source_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    source = create(tmp_path / "plain", "vmdk", "4M").rename(tmp_path / "in" / name)
    scribble(source, "vmdk")
    path = tmp_path / "copy.qcow2"
    four_beats(path=str(path), format="qcow2", source={"path": str(source), "format": "vmdk"})
    shows(path, "qcow2")


@pytest.mark.parametrize("name", ["a,b", "with space", "nbd:x", "Größe"])
def test_a_data_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    given = {"path": str(tmp_path / "image.qcow2"), "format": "qcow2", "size": "4M"}
    four_beats(**given, options={"data_file": str(data), "data_file_raw": True})
    scribble(given["path"], "qcow2")
    shows(data, "raw")


@pytest.mark.parametrize("directory", ["a,b", "nbd:x", "-dash", "Größe 値", "100%"])
def test_a_directory_may_have_any_name(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir()
    base, overlay = images(tmp_path / directory, "image")
    four_beats(**base)
    scribble(base["path"], "qcow2")
    four_beats(**overlay)
    shows(overlay["path"], "qcow2")


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    four_beats(path=str(path), format="raw", size="4M")
    assert facts(path, "raw")["virtual-size"] == 4 << 20


@pytest.mark.parametrize(
    "path",
    ["relative.qcow2", "./x", "~/x", "/tmp/", "nbd:unknown", "sheepdog:x", "/tmp/a\nb", "/tmp/a\tb", "gluster://h/v/i"],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    result = call("disk_image", path=path, format="qcow2", size="4M")
    assert (result["failed"], result["reason"], result["changed"]) == (True, "bad_path", False)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("ssh://host/x", "place_not_writable"),
        ("nbd://127.0.0.1:1/x", "place_unreachable"),
        ({"driver": "nbd", "export": "x", "server": {}}, "place_unreachable"),
        ({"driver": "nbd", "export": "x"}, "place_unreachable"),
    ],
)
def test_a_place_elsewhere_is_a_source_and_only_an_export_is_a_target(path: Any, reason: str) -> None:
    result = call("disk_image", path=path, format="qcow2", size="4M")
    assert (result["failed"], result["reason"], result["changed"]) == (True, reason, False)


def test_a_place_with_a_password_is_refused() -> None:
    result = call("disk_image", path="ssh://me:geheim@host/x", format="qcow2", size="4M")
    assert result["reason"] == "bad_path"
    assert "carries a password" in result["msg"]


@pytest.mark.parametrize("extra", ["//", "/./", "/../{}/"])
def test_one_file_has_one_name(tmp_path: Path, extra: str) -> None:
    given = {"format": "qcow2", "size": "4M"}
    prepared("disk_image", path=str(tmp_path / "image"), **given)
    settled(path=str(tmp_path) + extra.format(tmp_path.name) + "image", **given)


def test_a_blockdev_dict_of_a_file_is_that_file(tmp_path: Path) -> None:
    node = {"driver": "file", "filename": str(tmp_path / "image")}
    result = call("disk_image", path=node, format="qcow2", size="4M")
    assert result["changed"] and result["image"]["path"] == str(tmp_path / "image")
    settled(path=str(tmp_path / "image"), format="qcow2", size="4M")


def test_the_name_of_an_image_in_a_refusal_is_the_real_one(tmp_path: Path) -> None:
    path = tmp_path / "100%s"
    result = refused("size_missing", path=str(path), format="qcow2")
    assert str(path) in result["msg"]


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("base.qcow2", "bad_path"),
        ("nbd://me:geheim@127.0.0.1/x", "place_not_writable"),
        ({"driver": "nbd", "export": "geheim"}, "bad_path"),
    ],
)
def test_a_base_is_named_by_its_absolute_path(tmp_path: Path, base: Any, reason: str) -> None:
    backing = {"path": base, "format": "qcow2"}
    told = refused(reason, path=str(tmp_path / "image"), format="qcow2", backing=backing)["msg"]
    assert "backing.path is " in told and "Write the absolute path" in told and "geheim" not in told
