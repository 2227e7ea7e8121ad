"""What a running QEMU tells of what drives need is compared with what is declared."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._drive import styles
from ansible_collections.platter.qemu.plugins.module_utils._live import actions, execute
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.tests.lab.live_qemu import Task, image, live_qemu


def test_controllers_objects_and_shared_nodes_are_compared_with_what_is_declared(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    base = image(tmp_path / "base", "1M", "qcow2")
    node = {"driver": "qcow2", "node-name": "base", "file": {"driver": "file", "filename": base["path"]}}
    node["read-only"] = True
    tops = [image(tmp_path / name, "1M", "qcow2")["path"] for name in "ab"]
    trees = [{"driver": "qcow2", "file": {"driver": "file", "filename": top}, "backing": "base"} for top in tops]
    drives = [{"id": f"d{n}", "device": "scsi-hd", "image": {"blockdev": tree}} for n, tree in enumerate(trees)]
    lists: Task = {
        "controllers": [{"device": "virtio-scsi-pci", "id": "scsi0", "bus": "pci.0", "properties": {"num_queues": 1}}],
        "objects": [
            {"qom-type": "secret", "id": "k", "file": str(tmp_path / "key"), "format": "raw"},
            {"qom-type": "iothread", "id": "t", "poll-max-ns": 4096},
            {"qom-type": "throttle-group", "id": "g"},
        ],
        "nodes": [node],
    }
    changed: Task = {
        "controllers": [{"device": "virtio-scsi-pci", "id": "scsi0", "bus": "pci.0", "properties": {"num_queues": 2}}],
        "objects": [
            {"qom-type": "secret", "id": "k", "file": str(tmp_path / "other"), "format": "base64"},
            {"qom-type": "iothread", "id": "t", "poll-max-ns": 0},
        ],
        "nodes": [dict(node, discard="unmap", cache={"direct": True})],
    }
    told = {("scsi0", "num_queues"), ("k", "file"), ("k", "format"), ("t", "poll-max-ns"), ("base", "cache.direct")}
    told.add(("base", "options"))
    with live_qemu(tmp_path, machine="pc") as qemu:
        spec = qemu.spec(*drives, **lists)
        with Qmp.connect(str(qemu.socket)) as qmp:
            for each in spec.objects:
                execute.execute(qmp, [actions.AddObject(each)])
        qemu.converge(spec, exact=False)
        other = qemu.plan(qemu.spec(*drives, **changed))
        assert not other.steps and {each[:2] for each in other.needs_restart} == told, other.needs_restart
    with live_qemu(tmp_path, *styles.render(spec, "blockdev").words, machine="pc") as qemu:
        nothing = qemu.converge(spec)
        assert not nothing.steps and not nothing.drift, nothing
        other = qemu.plan(qemu.spec(*drives, **changed))
        assert {each[:2] for each in other.needs_restart} == told, other.needs_restart
