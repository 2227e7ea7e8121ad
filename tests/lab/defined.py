"""VMs that are defined and do not run, of one test only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.tests.lab.modules import call


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


def give_up(options: dict[str, Any]) -> None:
    """The VM is defined no more."""
    assert call("qemu_drive", vm=options["vm"], config=options["config"], state="absent")["changed"]
