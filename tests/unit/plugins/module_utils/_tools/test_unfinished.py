"""By what a block device is known over a restart."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import unfinished

BOOT = "/proc/sys/kernel/random/boot_id"


def note(monkeypatch: pytest.MonkeyPatch, name: str, **files: str) -> str:
    """That of a disk of this name. C(files): what the kernel says of it."""
    texts = {f"/sys/block/{name}/{key}": value for key, value in files.items()}
    monkeypatch.setattr(unfinished, "_sysfs", lambda _device: f"/sys/block/{name}")
    monkeypatch.setattr(unfinished, "_text", lambda path: texts.get(path, "boot" if path == BOOT else ""))
    return unfinished.note_of(f"/dev/{name}")


def test_a_disk_with_a_serial_number_is_known_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = [note(monkeypatch, name, size="8", wwid="naa.5") for name in ("no-sda", "no-sdb")]
    assert notes[0] == notes[1] != note(monkeypatch, "no-sda", size="8", wwid="naa.6")


def test_one_without_is_known_by_its_name_until_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = [note(monkeypatch, name, size="8", diskseq="1") for name in ("no-sda", "no-sdb")]
    assert notes[0] != notes[1] and "filling-no-sda-" in notes[0]
