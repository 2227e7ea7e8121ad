"""Nodes that are described apart are themselves, whoever names them, and what differs of them is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import styles
from ansible_collections.platter.qemu.tests.lab.live_qemu import SCSI, Task, image, live_qemu


def tops(tmp_path: Path, backing: str) -> list[Task]:
    """Two drives on one node."""
    paths = [image(tmp_path / name, "1M", "qcow2")["path"] for name in "ab"]
    trees = [{"driver": "qcow2", "file": {"driver": "file", "filename": top}, "backing": backing} for top in paths]
    return [{"id": f"d{n}", "device": "scsi-hd", "image": {"blockdev": tree}} for n, tree in enumerate(trees)]


@pytest.mark.parametrize("at_start", [True, False])
def test_a_drive_without_a_device_is_what_others_are_on(tmp_path: Path, at_start: bool) -> None:
    base: Task = {"id": "base", "image": image(tmp_path / "base", "1M", "qcow2"), "read_only": True}
    (top, _other) = tops(tmp_path, "base")
    with live_qemu(tmp_path, machine="pc") as qemu:
        spec = qemu.spec(base, top)
    words = styles.render(spec, "blockdev").words if at_start else ()
    with live_qemu(tmp_path, *words, machine="pc") as qemu:
        done = qemu.converge(spec, exact=False)
        assert len(done.steps) == (0 if at_start else 3) and not done.needs_restart, done
        again = qemu.converge(spec)
        assert not again.steps and not again.drift, again
        other = qemu.plan(qemu.spec(dict(base, discard="unmap", cache={"direct": True}), top))
        assert not other.steps
        assert [each[:2] for each in other.needs_restart] == [("base", "cache.direct"), ("base", "options")]


def test_a_node_is_the_same_for_one_drive_and_for_two(tmp_path: Path) -> None:
    node: Task = {"driver": "qcow2", "node-name": "n", "file": {"driver": "file"}, "read-only": True}
    node["file"]["filename"] = image(tmp_path / "base", "1M", "qcow2")["path"]
    first, second = tops(tmp_path, "n")
    with live_qemu(tmp_path, *SCSI) as qemu:
        one, both = qemu.spec(first, nodes=[node]), qemu.spec(first, second, nodes=[node])
        for spec, steps in ((one, 1), (both, 1), (one, 0)):
            done = qemu.converge(spec, exact=False)
            assert len(done.steps) == steps and not done.needs_restart, done
        other = qemu.plan(qemu.spec(first, second, nodes=[dict(node, discard="unmap")]))
        assert not other.steps and [each[:2] for each in other.needs_restart] == [("n", "options")]
