"""The files of a definition say what it says, to a shell too; and what drives claim is told by what it is."""

from __future__ import annotations

import subprocess
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import contradictions, parse_arguments, read_spec
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, info_facts, proof, schema
from ansible_collections.platter.qemu.tests.lab.drives import ODD, vms

Task = t.Dict[str, t.Any]
FEW = settings(max_examples=settings().max_examples // 10)
SHOW = '#!/bin/sh\nprintf "%s\\0" "$@"\n'


def made(drives: t.Sequence[Task], **more: t.Any) -> definition.VmDefinition:
    return definition.VmDefinition("web1", read_spec.read(drives), {"drives": list(drives)}, **more)


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that shows the words that it is started with."""
    path = tmp_path_factory.mktemp("show") / "it's $HOME"
    path.write_text(SHOW)
    path.chmod(0o700)
    return path


NAMES = [
    "/i/a b",
    "/i/it's",
    '/i/"$(id)`id`',
    "/i/a,b=c:d",
    "/i/line\nbreak",
    "/i/\\n%s *?",
    "/i/-x",
    "/i/\u00e9\u2028",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_means_anything_to_the_shell(show: Path, tmp_path: Path, name: str) -> None:
    drive = {"id": "a", "image": {"path": name, "format": "raw"}, "device": "virtio-blk-pci", "serial": "S'\""}
    found = made([drive], qemu=str(show), arguments=("-m", "1G", "-fw_cfg", "a='b' $c\n\nd"))
    texts = definition.texts(found)
    start = tmp_path / "start"
    start.write_text(texts["start"])
    start.chmod(0o700)
    words = [*found.general(), *found.drive_words()]
    seen = subprocess.run([start, "-x", "y z"], stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")[:-1]
    assert sorted(seen) == sorted([*words, "-x", "y z"])
    assert [word for word in seen if word not in ("-x", "y z")] == words
    piped = subprocess.run(
        ["xargs", "-0", str(show)], input=texts["args"].encode(), stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    assert piped == texts["args"] and piped.split("\0")[:-1] == words


@FEW
@given(vms(), st.lists(ODD, max_size=3))
def test_what_is_written_down_is_read_back(drives: t.List[Task], words: t.List[str]) -> None:
    spec = read_spec.read(drives)
    if list(contradictions.found(spec)):
        return
    found = definition.VmDefinition("web1", spec, {"drives": drives}, arguments=tuple(words), lossy=True)
    try:
        text = definition.to_text(found)
    except errors.SpecError:  # -blockdev has no words for it
        return
    assert definition.parse(text) == found


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"vm": 1}', "null", '{"vm": "a", "drives": [{"id": 1, "x": 2}]}']
)
def test_what_is_no_definition_is_none(text: str) -> None:
    assert definition.parse(text) is None


# --- what drives claim


def claimed(*drives: Task, **more: t.Any) -> t.Set[t.Tuple[str, bool]]:
    spec = read_spec.read(dict({"drives": list(drives)}, **more))
    return {(each.name, each.writes) for each in claims.of_spec(spec)}


def drive(tree: t.Any, **more: t.Any) -> Task:
    return dict({"id": "a", "image": {"blockdev": tree}, "device": "virtio-blk-pci"}, **more)


def test_files_are_claimed_to_be_written_to_unless_they_are_only_read() -> None:
    file = {"driver": "file", "filename": "/i/a"}
    assert claimed(drive({"driver": "raw", "file": file})) == {("/i/a", True)}
    assert claimed(drive({"driver": "raw", "file": file}, read_only=True)) == {("/i/a", False)}
    assert claimed(drive({"driver": "raw", "file": file}, snapshot=True)) == {("/i/a", False)}
    assert claimed({"id": "cd", "image": {"path": "/i/a", "format": "raw"}, "device": "ide-cd"}) == {("/i/a", False)}
    assert claimed({"id": "cd", "device": "ide-cd"}) == set()


def test_a_backing_file_is_only_read_and_a_data_file_written() -> None:
    tree = {
        "driver": "qcow2",
        "file": {"driver": "file", "filename": "/i/a"},
        "data-file": {"driver": "file", "filename": "/i/d"},
        "backing": {"driver": "raw", "file": {"driver": "file", "filename": "/i/b"}},
    }
    assert claimed(drive(tree)) == {("/i/a", True), ("/i/d", True), ("/i/b", False)}


def test_nodes_that_are_described_elsewhere_are_claimed() -> None:
    node = {"driver": "file", "filename": "/i/a", "node-name": "shared"}
    other = {"id": "b", "image": {"blockdev": {"driver": "raw", "file": "shared", "read-only": True}}}
    assert ("/i/a", True) in claimed(drive({"driver": "raw", "file": "shared"}), other, nodes=[node])


def test_how_a_server_is_asked_does_not_make_it_another_place() -> None:
    server = {"type": "inet", "host": "store1", "port": "10809"}
    plain = {"driver": "nbd", "server": server, "export": "a"}
    again = dict(plain, **{"reconnect-delay": 5, "read-only": False})
    assert claimed(drive(plain)) == claimed(drive(again)) == claimed(drive({"driver": "qcow2", "file": plain}))
    assert claimed(drive(plain)) != claimed(drive(dict(plain, export="b")))
    assert claimed(drive({"driver": "nbd", "server": server})) == claimed(drive(dict(plain, export="")))


# --- what QEMU is told to prove it


@FEW
@given(vms())
def test_all_nodes_are_opened_as_a_reader(drives: t.List[Task]) -> None:
    spec = read_spec.read(drives)
    asked = [each for each in proof.opening(spec) if each.command == "blockdev-add"]
    assert len(asked) >= len([each for each in drives if "image" in each])
    for each in asked:
        assert (each.arguments["read-only"], each.arguments["force-share"]) == (True, True)
        assert "copy-on-read" not in str(each.arguments)


@FEW
@given(vms())
def test_stand_ins_open_nothing(drives: t.List[Task]) -> None:
    spec, skipped = proof.stand_ins(read_spec.read(drives), {"d0": 512})
    assert skipped == []
    assert {node.driver for node in spec.all_nodes()} <= {"null-co"}
    assert len(spec.drives) == len(drives)


def test_the_id_of_a_secret_is_none_and_is_given_back() -> None:
    node = '{"driver":"luks","node-name":"d","key-secret":"k","file":{"driver":"file","filename":"/i/d"}}'
    words = ["-object", "secret,id=k,file=/k", "-blockdev", node, "-device", "virtio-blk-pci,id=d,drive=d"]
    told = info_facts.started(words)
    assert told["drives"][0]["encryption"] == {"secret": "k"}
    assert read_spec.read({name: told[name] for name in ("drives", "objects")}) == parse_arguments.parse(words).spec
    assert info_facts.started(["-object", "secret,id=k,data=x"])["objects"][0]["data"] == "***"


def test_bridges_in_json_are_seen() -> None:
    spec = read_spec.read([{"id": "d", "image": {"path": "/i/d", "format": "raw"}, "device": "nvme", "bus": "p1"}])
    words = [
        "-device",
        '{"driver":"pcie-root-port","id":"p1"}',
        "-device",
        '{"driver":"x","id":"p2"}',
        "-name",
        "device",
    ]
    assert proof.bridges(words, spec) == words[:2]


def test_bridges_that_drives_are_on_are_part_of_the_proof() -> None:
    spec = read_spec.read(
        [{"id": "a", "device": "scsi-cd", "bus": "s0.0"}, {"id": "b", "device": "scsi-cd", "bus": "s.x.0"}]
    )
    arguments = [
        "-m",
        "1G",
        "-device",
        "pcie-root-port,id=rp1",
        "-device",
        "virtio-scsi-pci,id=s0,bus=rp1",
        "-device",
        "x,id=n",
    ]
    assert proof.bridges(arguments, spec) == [
        "-device",
        "pcie-root-port,id=rp1",
        "-device",
        "virtio-scsi-pci,id=s0,bus=rp1",
    ]


SCHEMA = [
    {"name": "blockdev-add", "meta-type": "command", "arg-type": "0"},
    {
        "name": "0",
        "meta-type": "object",
        "tag": "driver",
        "members": [{"name": "driver", "type": "e"}, {"name": "read-only", "type": "bool", "default": None}],
        "variants": [{"case": "raw", "type": "r"}],
    },
    {"name": "e", "meta-type": "enum", "values": ["raw"]},
    {"name": "r", "meta-type": "object", "members": [{"name": "size", "type": "int"}, {"name": "file", "type": "f"}]},
    {"name": "f", "meta-type": "alternate", "members": [{"type": "0"}, {"type": "str"}]},
    {"name": "bool", "meta-type": "builtin", "json-type": "boolean"},
    {"name": "int", "meta-type": "builtin", "json-type": "int"},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", {"driver": "raw", "size": 1, "file": "n", "read-only": True}),
        ("", {"driver": "raw", "size": 1, "file": {"driver": "raw", "size": 1, "file": "n"}}),
        ("driver is 'ssh', which it does not know", {"driver": "ssh", "size": 1, "file": "n"}),
        ("it has no colour for raw", {"driver": "raw", "size": 1, "file": "n", "colour": 1}),
        ("size is True, and should be int", {"driver": "raw", "size": True, "file": "n"}),
        ("file is missing", {"driver": "raw", "size": 1}),
        (
            "it has no file.x for raw",
            {"driver": "raw", "size": 1, "file": {"driver": "raw", "size": 1, "file": "n", "x": 1}},
        ),
    ],
)
def test_what_qemu_does_not_know_is_named(said: str, told: Task) -> None:
    assert schema.Schema(SCHEMA).problem("blockdev-add", told) == said
