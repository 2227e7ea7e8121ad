"""VMs that are defined and do not run, of one test only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create


def own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The links to all VMs are this test's, from here on."""
    path = tmp_path / "registry"
    monkeypatch.setattr(vm_definitions, "registry", lambda: str(path))
    return path


def define(tmp_path: Path, image: Any, vm: str = "web1", format: str = "qcow2", **more: Any) -> dict[str, Any]:
    """A VM that does not run, with a drive on a file, or on a node. The options of the task."""
    named = {"blockdev": image} if isinstance(image, dict) else {"path": str(image), "format": format}
    drive = {"id": "system", "image": named, "device": "virtio-blk-pci", **more}
    options = {"vm": vm, "config": str(tmp_path / "vms" / vm), "drives": [drive], "validate": "none"}
    (tmp_path / "vms").mkdir(exist_ok=True)
    result = call("qemu_drive", **options)
    assert result["changed"], result.get("msg")
    return options


def define_on(tmp_path: Path, base: Any, format: str = "qcow2") -> tuple[dict[str, Any], Path]:
    """A VM whose image, in a directory of its own, names nothing: only the definition has C(base) below it. The options of
    the task, and the image.
    """
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    overlay = create(tmp_path / "elsewhere" / "overlay.qcow2", "qcow2", "4M")
    return define(tmp_path, node("qcow2", overlay, backing=node(format, base))), overlay


def node(format: str, path: Any, **more: Any) -> dict[str, Any]:
    """A node of an image in a file."""
    return {"driver": format, "file": {"driver": "file", "filename": str(path)}, **more}


def is_based(refusal: dict[str, Any], options: dict[str, Any], base: Any, overlay: Any) -> None:
    """It says that the image of the VM is on C(base) by its definition."""
    said = {"vm": options["vm"], "config": options["config"], "drive": "system"}
    assert refusal["evidence"] == {**said, "place": str(base), "overlay": str(overlay)}
    told = "is below drive system of VM web1 (defined in %s), which has %s on it" % (options["config"], overlay)
    assert told in refusal["msg"] and "Have that VM give up the drive first" in refusal["msg"]


def give_up(options: dict[str, Any]) -> None:
    """The VM is defined no more."""
    assert call("qemu_drive", vm=options["vm"], config=options["config"], state="absent")["changed"]
