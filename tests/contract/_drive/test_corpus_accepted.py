"""The lines that people have written, written anew, are taken by the real QEMU, which makes the nodes they ask for."""

from __future__ import annotations

import contextlib
import itertools
import re
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    definitions,
    facts,
    nodes,
    parse_arguments,
    read_spec,
    styles,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Device, Drive, DrivesSpec, Node
from ansible_collections.platter.qemu.tests.lab.drive_corpus import Line, lines
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QemuRefusedError, ask
from ansible_collections.platter.qemu.tests.lab.oracle import create

#: for other machines, real SCSI devices, other QEMUs; and a replication that only runs in a pair
ELSEWHERE = ("s390", "aarch64", "scsi-block", "replication", "mdts=10")
LINES = [line for line in lines() if not line.reason and not any(word in line.text for word in ELSEWHERE)]
#: what QEMU took when the line was written, and 7.2 does not; and a line of a document without its controller
NOT_TODAY = "ide-drive|scsi-disk|if=scsi|media=cdrom,cache=|usb-storage,drive=d0"
#: a disk that is on another host, or a directory
AWAY = Node("null-co", (("read-zeroes", True), ("size", 1 << 21)))
FORMATS = ("qcow2", "vmdk", "luks")


class Images:
    """Files in place of those of the lines: one for each name and format, of a size that floppies and SD cards have."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._names: t.Dict[t.Tuple[str, str], str] = {}

    def path(self, name: str, format: str) -> str:
        """The file for a name in a line, made when it is asked for first."""
        key = (name, format)
        if key not in self._names:
            path = self._place / ("%d-%s" % (len(self._names), re.sub(r"[^\w.-]", "_", Path(name).name)))
            create(path, format, "2M")
            self._names[key] = str(path)
        return self._names[key]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(tmp_path_factory.mktemp("corpus"))


def here(node: Node, format: str, images: Images) -> Node:
    """The node on this host: its files are there, and what is elsewhere is a disk of zeros."""
    if node.driver in block_options.HOST_FILES:
        options = dict(node.options, filename=images.path(str(node.option("filename")), format))
        return replace(node, driver="file", options=tuple(sorted(options.items())))
    if node.driver in block_options.PROTOCOLS:
        return replace(AWAY, name=node.name, separate=node.separate)
    format = node.driver if node.driver in FORMATS else "raw"
    children = tuple(
        (role, here(child, format, images) if isinstance(child, Node) else child) for role, child in node.children
    )
    away = node.driver in FORMATS and any(
        isinstance(child, Node) and child.driver == "null-co" for _role, child in children
    )
    return replace(AWAY, name=node.name, separate=node.separate) if away else replace(node, children=children)


def ready(line: Line, images: Images) -> DrivesSpec:
    """The drives of a line, on this host, on PCI buses that are there, with the formats that it leaves out."""
    told = facts.of_spec(parse_arguments.parse(parse_arguments.words(line.text)).spec)
    for each in told["drives"]:
        if "path" in each.get("image", {}):
            each["image"].setdefault("format", "raw")
    spec = read_spec.read(told)
    drives = tuple(_here(each, images) for each in spec.drives)
    return replace(spec, drives=drives, controllers=tuple(_on_pci(each) for each in spec.controllers))


def _here(drive: Drive, images: Images) -> Drive:
    backend = drive.backend
    if backend is not None:
        backend = here(replace(backend, driver=backend.driver or "raw"), "raw", images)
        if any(node.driver == "null-co" for node in backend.walk()):  # aio and the like are of what was there
            backend = replace(
                backend, options=tuple(pair for pair in backend.options if pair[0] in block_options.COMMON)
            )
    return replace(drive, backend=backend, frontend=_on_pci(drive.frontend) if drive.frontend is not None else None)


def _on_pci(device: Device) -> Device:
    return replace(device, bus="").with_property("addr", None) if device.bus.startswith("pci") else device


def test_the_nodes_of_every_line_are_what_was_asked_for(images: Images) -> None:
    specs = [ready(line, images) for line in LINES]
    questions: t.List[t.Tuple[str, t.Dict[str, t.Any]]] = []
    for spec in specs:
        made = [
            each for each in definitions.all_of(replace(spec, controllers=())) if each.kind in ("object", "blockdev")
        ]
        questions += [({"object": "object-add", "blockdev": "blockdev-add"}[each.kind], each.told) for each in made]
        questions.append(("query-named-block-nodes", {"flat": True}))
        added = [each for each in made if each.kind == "blockdev"]
        questions += [("blockdev-del", {"node-name": each.told["node-name"]}) for each in reversed(added)]
        questions += [("object-del", {"id": each.told["id"]}) for each in made if each.kind == "object"]
    answers = ask([], questions, "none")
    refused = [question for question, answer in zip(questions, answers) if answer is None]
    assert refused == []
    shown = [answer for (name, _told), answer in zip(questions, answers) if name == "query-named-block-nodes"]
    for line, spec, found in zip(LINES, specs, shown):
        asked = sorted(str(node.option("filename")) for node in spec.all_nodes() if node.driver == "file")
        assert sorted(each["file"] for each in found if each["drv"] == "file") == asked, line.text
        direct = [each["cache"]["direct"] for each in found if each["drv"] in ("file", "null-co")]
        tops = [each.backend.option("cache.direct") is True for each in spec.drives if each.backend is not None]
        assert any(direct) == any(tops), line.text


def _kinds(spec: DrivesSpec) -> t.Set[t.Tuple[str, ...]]:
    """The devices of a line, each with one of its properties."""
    frontends = [each.frontend for each in spec.drives if each.frontend is not None]
    devices = [*frontends, *spec.controllers]
    return {(each.device, name) for each in devices for name in ["", *dict(each.properties)]}


def _enough() -> t.Iterator[Line]:
    """Lines that have each device, and each property of it, that any line has."""
    seen: t.Set[t.Tuple[str, ...]] = set()
    for line in LINES:
        kinds = _kinds(read_spec.read(facts.of_spec(parse_arguments.parse(parse_arguments.words(line.text)).spec)))
        if not kinds <= seen:
            seen |= kinds
            yield line


@pytest.mark.parametrize("line", list(_enough()), ids=lambda line: line.text[:60])
def test_every_kind_of_device_in_them_is_taken(images: Images, line: Line) -> None:
    spec = ready(line, images)
    (blocks,) = ask(styles.render(spec, "blockdev").words, [("query-block", {})], spec.machine)
    flash = [each for each in spec.drives if each.frontend is not None and each.frontend.device == "pflash"]
    assert len(blocks) == len([each for each in spec.drives if each.frontend is not None]), flash


@pytest.mark.soak
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.text[:60])
def test_the_line_itself_makes_the_same_nodes(images: Images, line: Line) -> None:
    with unless_it_has_gone(line):
        makes_the_same_nodes(images, line)


@contextlib.contextmanager
def unless_it_has_gone(line: Line) -> t.Iterator[None]:
    """Newer QEMUs have no C(scsi) of virtio-blk any more (seen with 10.0)."""
    try:
        yield
    except QemuRefusedError as exc:
        if "scsi=" not in line.text or "Property 'virtio-blk-pci.scsi' not found" not in str(exc):
            raise


def makes_the_same_nodes(images: Images, line: Line) -> None:
    spec = ready(line, images)
    for style in ("blockdev", "drive_device"):
        known(styles.render(spec, style, lossy=True).words, spec.machine)
    words = parse_arguments.words(line.text)
    parsed = parse_arguments.parse(words)
    local = [nodes.protocol(each.backend) for each in parsed.spec.drives if each.backend is not None]
    if any(node is None or node.driver not in block_options.HOST_FILES for node in local) or re.search(
        r"pci\.[1-9]", line.text
    ):
        return
    told = [_with_files(word, parsed.spec, spec) for word in _without(words, [*parsed.program, *parsed.rest])]
    if re.search(NOT_TODAY, line.text):
        with pytest.raises(QemuRefusedError):
            known(told, spec.machine)
        return
    assert known(told, spec.machine) == known(styles.render(spec, "drive_device", lossy=True).words, spec.machine)


def known(words: t.List[str], machine: str) -> t.List[t.Tuple[t.Any, ...]]:
    """What QEMU says of the nodes, filters left out."""
    (found,) = ask(words, [("query-named-block-nodes", {"flat": True})], machine)
    return sorted(
        (
            each["drv"],
            each["file"],
            each["ro"],
            each["detect_zeroes"],
            each["cache"]["direct"],
            each["cache"]["no-flush"],
        )
        for each in found
        if each["drv"] not in ("throttle", "copy-on-read")
    )


def _without(words: t.List[str], rest: t.List[str]) -> t.List[str]:
    left = list(rest)
    found = []
    for word in words:
        if left and word == left[0]:
            left.pop(0)
        else:
            found.append(word)
    return found


def _with_files(word: str, asked: DrivesSpec, spec: DrivesSpec) -> str:
    """The word with the names of files here."""
    pairs = {}
    for old, new in itertools.zip_longest(asked.all_nodes(), spec.all_nodes()):
        if old is not None and new is not None and old.driver in block_options.HOST_FILES:
            pairs[str(old.option("filename"))] = str(new.option("filename"))
    for old_name in sorted(pairs, key=len, reverse=True):
        word = re.sub(
            r"(?<![\w/.-])%s(?![\w/.-])" % re.escape(old_name), lambda _match, name=pairs[old_name]: name, word
        )  # type: ignore[misc]
    return word.replace("host_device", "file")
