"""Chains are followed by headers alone; what stops them is a value with a reason."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, Reference
from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import (
    ChainResult,
    ReadHeader,
    led_elsewhere,
    possible_files,
    resolve_backing,
    walk_chain,
)


def read_header(path: str, format: str | None) -> Header:
    """A format for these tests: the file holds the name of its backing file, and nothing else."""
    text = Path(path).read_text(encoding="utf-8")
    if text == "garbage":
        raise HeaderError("garbage is no header")
    return Header(format or "found", 512, backing_file=text or None, backing_format="qcow2" if text else None)


def walk(path: object, limit: int = 200) -> ChainResult:
    return walk_chain(str(path), "qcow2", read_header, limit)


def reason(result: ChainResult) -> str:
    assert result.problem is not None and result.links[-1].problem == result.problem
    return result.problem.reason


def write(directory: Path, **backing: str) -> None:
    for name, text in backing.items():
        (directory / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "resolved"),
    [
        ("/abs/base", ("file", "/abs/base")),
        ("base", ("file", "/dir/base")),
        ("../base", ("file", "/dir/../base")),
        ("sub/a:b", ("file", "/dir/sub/a:b")),
        ("./a:b", ("file", "/dir/./a:b")),
        ("a:b", ("protocol", "a:b")),
        ("nbd:localhost:10809", ("protocol", "nbd:localhost:10809")),
        ("nbd://host/export", ("protocol", "nbd://host/export")),
        ("http://host/a", ("protocol", "http://host/a")),
        ('json:{"driver":"qcow2"}', ("protocol", 'json:{"driver":"qcow2"}')),
        ("file:/abs/base", ("file", "/abs/base")),
        ("file:///abs/base", ("file", "/abs/base")),
        ("file:base", ("protocol", "file:base")),
        ('json:{"file.filename":"base"}', ("protocol", 'json:{"file.filename":"base"}')),
        ('json:{"file":{"driver":"file","filename":"/abs/base"}}', ("file", "/abs/base")),
        ('json:{"driver":"raw","file":{"driver":"host_device","filename":"/dev/x"}}', ("file", "/dev/x")),
        ('json:{"driver":"raw","file.driver":"file","file.filename":"/abs/base"}', ("file", "/abs/base")),
        ("fat:rw:/etc", ("protocol", "fat:rw:/etc")),
    ],
)
def test_backing_names_are_read_as_qemu_reads_them(name: str, resolved: tuple[str, str]) -> None:
    assert resolve_backing("/dir/overlay.qcow2", name) == resolved


PLAIN = '"driver":"qcow2","file":{"driver":"file","filename":"/abs/base"}'


@pytest.mark.parametrize(
    "more",
    [
        '"backing":{"driver":"raw","file":{"driver":"file","filename":"/secret"}}',
        '"backing.driver":"raw","backing.file.filename":"/secret"',
        '"data-file":{"driver":"nbd","host":"other"}',
        '"filename":"/secret"',
        '"file.filename":"/secret"',
        '"file":{"driver":"file","filename":"/secret"}',
        '"file.locking":"off"',
        '"backing":null',
        '"backing":{}',
        '"encrypt.key-secret":"sec0"',
    ],
)
def test_a_backing_name_that_says_more_than_one_file_is_not_followed(more: str) -> None:
    """Any of it could lead QEMU elsewhere, and past what our own parser reads."""
    name = "json:{%s,%s}" % (PLAIN, more)
    assert resolve_backing("/dir/overlay.qcow2", "json:{%s}" % PLAIN) == ("file", "/abs/base")
    assert resolve_backing("/dir/overlay.qcow2", name) == ("protocol", name)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("base", ["/dir/base"]),
        ("file:/abs/base", ["/abs/base"]),
        ("file:base", ["/dir/base", "/base"]),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"base"}}', ["/dir/base", "/base"]),
        ('json:{"driver":"raw","file.filename":"base"}', ["/dir/base", "/base"]),
        ('json:{"driver":"nbd","filename":"base"}', []),
        ("json:[", []),
        (f'json:{{{PLAIN},"backing":{{"file.filename":"/below"}}}}', ["/abs/base", "/below"]),
        ('json:{"driver":"quorum","children":[{"driver":"file","filename":"a"}]}', ["/dir/a", "/a"]),
        ("nbd://host/export", []),
    ],
)
def test_every_file_that_a_backing_name_can_mean_is_known(name: str, files: list[str]) -> None:
    assert sorted(set(possible_files("/dir/overlay.qcow2", name))) == sorted(files)


def test_a_chain_is_followed_to_its_base(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, top="sub/middle", base="")
    write(tmp_path / "sub", middle="../base")
    result = walk(tmp_path / "top")
    assert result.problem is None
    assert [os.path.realpath(link.path) for link in result.links] == [
        str(tmp_path / name) for name in ("top", "sub/middle", "base")
    ]
    assert [link.format for link in result.links] == ["qcow2", "qcow2", "qcow2"]


def test_a_relative_name_starts_where_the_image_was_found_not_where_its_link_leads(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    write(tmp_path / "there", top="base")
    write(tmp_path / "here", base="")
    (tmp_path / "here" / "top").symlink_to(tmp_path / "there" / "top")
    assert walk(tmp_path / "here" / "top").links[-1].path == str(tmp_path / "here" / "base")
    assert reason(walk(tmp_path / "there" / "top")) == "base_missing"


def test_an_unnamed_format_is_left_to_the_reader(tmp_path: Path) -> None:
    write(tmp_path, top="")
    assert walk_chain(str(tmp_path / "top"), None, read_header).links[0].format == "found"


def of_format(recorded: str | None) -> ReadHeader:
    """As C(read_header), of images that have C(recorded) for their backing files."""
    return lambda path, format: read_header(path, format)._replace(backing_format=recorded)


def test_a_base_without_a_recorded_format_is_guessed(tmp_path: Path) -> None:
    """QEMU goes by what a guest may have written into a raw disk: where that can be mended it has to be."""
    write(tmp_path, top="middle", middle="base", base="")
    links = walk_chain(str(tmp_path / "top"), "qcow2", of_format(None)).links
    assert [link.guessed for link in links] == [False, True, True]
    told = led_elsewhere(links)
    assert told is not None and told[0] == "backing_format_missing"
    assert led_elsewhere(walk_chain(str(tmp_path / "top"), "qcow2", of_format("raw")).links) is None


def test_a_json_name_says_the_format_that_is_not_recorded(tmp_path: Path) -> None:
    name = 'json:{"driver":"vdi","file":{"driver":"file","filename":"%s"}}'
    write(tmp_path, top=name % (tmp_path / "base"), base="")
    link = walk_chain(str(tmp_path / "top"), "qcow2", of_format(None)).links[1]
    assert (link.format, link.guessed) == ("vdi", False)


@pytest.mark.parametrize("format", ["qcow", "qed"])
def test_what_can_record_no_format_has_a_base_that_names_nothing(tmp_path: Path, format: str) -> None:
    write(tmp_path, top="base", base="")
    links = walk_chain(str(tmp_path / "top"), format, of_format(None)).links
    assert led_elsewhere(links) is None
    leading = Header("qcow2", 512, references=(Reference("backing_file", "/secret"),))
    told = led_elsewhere([links[0], replace(links[1], header=leading)])
    assert told is not None and told[0] == "backing_format_missing"


def test_protocols_are_named_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, top="nbd://127.0.0.1:1/x")
    result = walk(tmp_path / "top")
    assert result.problem is None
    assert (result.links[1].kind, result.links[1].path, result.links[1].header) == (
        "protocol",
        "nbd://127.0.0.1:1/x",
        None,
    )


@pytest.mark.parametrize("files", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_loops_end(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, **files)
    result = walk(tmp_path / "a")
    assert reason(result) == "backing_loop"
    assert result.problem is not None and " -> " in result.problem.fact


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_loop_through_another_name_ends(tmp_path: Path, link: object) -> None:
    write(tmp_path, a="b", b="other")
    assert callable(link)
    link(str(tmp_path / "a"), str(tmp_path / "other"))
    result = walk(tmp_path / "a")
    assert reason(result) == "backing_loop"
    assert len(result.links) == 3


def test_a_link_to_itself_is_a_loop(tmp_path: Path) -> None:
    write(tmp_path, a="b")
    (tmp_path / "b").symlink_to("b")
    assert reason(walk(tmp_path / "a")) == "backing_loop"


def test_a_missing_base_is_named_with_its_overlay(tmp_path: Path) -> None:
    write(tmp_path, a="gone")
    result = walk(tmp_path / "a")
    assert reason(result) == "base_missing"
    assert result.problem is not None
    assert result.problem.fact == f"{tmp_path}/gone, named as the backing file of {tmp_path}/a, does not exist"
    assert reason(walk(tmp_path / "nothing")) == "image_missing"


def test_what_is_no_image_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for target in ("fifo", "/dev/zero", "/"):
        write(tmp_path, a=target)
        assert reason(walk(tmp_path / "a")) == "backing_not_regular"


def test_a_base_that_cannot_be_read_is_a_problem_of_the_chain(tmp_path: Path) -> None:
    write(tmp_path, a="b", b="garbage")
    assert reason(walk(tmp_path / "a")) == "header_unreadable"
    write(tmp_path, a="x\0y")
    assert reason(walk(tmp_path / "a")) == "base_missing"


def test_the_length_is_limited(tmp_path: Path) -> None:
    write(tmp_path, **{f"i{n}": f"i{n + 1}" for n in range(5)}, i5="")
    assert walk(tmp_path / "i0", limit=6).problem is None
    result = walk(tmp_path / "i0", limit=5)
    assert reason(result) == "chain_too_long"
    assert len(result.links) == 6
