"""What is defined comes before what uses it, and nodes say all that they do not get from those around them."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import parse_arguments, read_spec, stack, styles
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Node


def test_filters_let_through_what_the_image_has() -> None:
    disk = {"id": "d", "image": {"path": "/d", "format": "raw"}, "device": "virtio-blk-pci"}
    settings = {"discard": "unmap", "auto_read_only": True, "throttle": {"iops_total": 1}, "copy_on_read": True}
    (drive,) = read_spec.read([{**disk, **settings}]).drives
    graph = stack.graph(drive)
    assert graph is not None
    assert [each.driver for each in graph.walk()] == ["throttle", "copy-on-read", "raw", "file"]
    assert all(each.option("discard") == "unmap" for each in list(graph.walk())[:3])
    assert all(each.option("auto-read-only") is True for each in list(graph.walk())[:3])


def test_a_node_of_its_own_keeps_its_defaults_when_it_is_described_in_another() -> None:
    line = (
        "-blockdev driver=file,node-name=f,filename=/d -blockdev driver=raw,node-name=d,file=f,cache.direct=on"
        " -device virtio-blk-pci,drive=d"
    )
    spec = parse_arguments.parse(line.split()).spec
    written = styles.render(spec, "drive_device").words[1].split(",")
    assert "cache=none" in written
    assert "file.cache.direct=off" in written


def test_a_drive_that_another_is_built_on_comes_first() -> None:
    def image(**more: t.Any) -> t.Dict[str, t.Any]:
        return {"blockdev": {"driver": "qcow2", "file": {"driver": "file", "filename": "/%s" % more}, **more}}

    drives = [
        {"id": "top", "image": image(backing="middle"), "device": "virtio-blk-pci"},
        {"id": "middle", "image": image(backing="bottom")},
        {"id": "bottom", "image": image()},
    ]
    words = styles.render(read_spec.read(drives), "blockdev").words
    nodes = [json.loads(value)["node-name"] for word, value in zip(words, words[1:]) if word == "-blockdev"]
    assert nodes == ["bottom", "middle", "top"]


def test_each_node_is_defined_once() -> None:
    base: t.Dict[str, t.Any] = {"driver": "raw", "node-name": "base", "file": {"driver": "file", "filename": "/b"}}
    image = {"blockdev": {"driver": "qcow2", "backing": "base", "file": {"driver": "file", "filename": "/o"}}}
    drives = [{"id": name, "image": image, "read_only": True, "device": "virtio-blk-pci"} for name in ("a", "b")]
    spec = read_spec.read({"nodes": [base], "drives": drives})
    assert [each.name for each in spec.nodes] == ["base"]
    assert all(isinstance(child, (str, Node)) for each in spec.all_nodes() for _role, child in each.children)
    words = styles.render(spec, "blockdev").words
    assert sum('"node-name":"base"' in word for word in words) == 1
