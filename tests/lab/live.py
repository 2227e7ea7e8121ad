"""The four beats of image_snapshot on a VM that runs, and what its files hold once it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.platter.qemu.tests.lab.guest import KIB, MIB, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img

MODULE = "image_snapshot"


def beats(**options: Any) -> dict[str, Any]:
    """Check, real, again, again in check mode; the result of the real run."""
    checked, real = call(MODULE, check=True, **options), call(MODULE, **options)
    assert not real.get("failed"), real["msg"]
    assert (checked["changed"], real["changed"]) == (True, True), (checked, real)
    assert (checked["actions"], checked["diff"]) == (real["actions"], real["diff"])
    settled(**options)
    return real


def settled(**options: Any) -> None:
    """The last two beats."""
    for check in (False, True):
        again = call(MODULE, check=check, **options)
        assert (again.get("failed"), again["changed"], again["actions"]) == (None, False, []), again


def refused(reason: str, **options: Any) -> dict[str, Any]:
    """The same refusal in check mode and without."""
    results = [call(MODULE, check=check, **options) for check in (True, False)]
    for result in results:
        assert (result.get("failed"), result.get("reason"), result["changed"]) == (True, reason, False), result
    assert results[0]["msg"] == results[1]["msg"]
    return results[1]


def holds(path: object, *patterns: tuple[int, int]) -> None:
    """What nobody has open: by qemu-io, 64 KiB of each (byte, offset in MiB)."""
    shows(path, "qcow2", tuple((byte, offset * MIB, 64 * KIB) for byte, offset in patterns))


def sound(path: object) -> None:
    """qemu-img check has nothing to say of a file that nobody has open."""
    qemu_img("check", "-q", "-f", "qcow2", str(path))


def names(directory: Path) -> set[str]:
    """The files of a directory, sockets left out."""
    return {each.name for each in directory.iterdir() if each.is_file() or each.is_symlink()}
