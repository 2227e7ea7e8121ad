"""What happens between the planning of a task of image_snapshot and its steps."""

from __future__ import annotations

import shutil
from typing import Any, Callable

from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.engine import SnapshotEngine
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.read_spec import read_spec

QEMU_IMG = shutil.which("qemu-img")
#: what stands in for qemu-img, to do something when a command has ended; ends as the real program did
AFTER = '"$real" "$@"; ended=$?; case "$1" in {verb}) {what};; esac; exit $ended'


def undressed(_like: str, _built: str) -> None:
    """Owner, mode and label are no matter here."""


def between(meanwhile: Callable[[], object], **options: Any) -> Item:
    """The item of a task during which C(meanwhile) is called once all is planned."""
    return between_all(meanwhile, options)[0]


def between_all(meanwhile: Callable[[], object], *entries: dict[str, Any]) -> list[Item]:
    """The same of a task with several images."""
    engine = SnapshotEngine([read_spec(options) for options in entries], undressed, qemu_img=QEMU_IMG)
    with engine.hold():
        items = engine.prepare(patient=False)
        assert all(item.plan and not item.refusal for item in items), [item.refusal for item in items]
        meanwhile()
        engine.execute(items)
    return items
