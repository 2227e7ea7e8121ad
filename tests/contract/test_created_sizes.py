"""The sizes that QEMU really makes are the ones that we say before."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import (
    FEATURES,
    largest_size,
    rounded_size,
)
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import to_argument
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import FORMAT_NAMES
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, require_qemu, try_qemu_img

pytestmark = pytest.mark.usefixtures("qemu")
MIB = 1 << 20
SECRET = ("--object", "secret,id=key,file=secret")


@pytest.fixture(scope="module")
def qemu() -> None:
    require_qemu()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("a password")
    return tmp_path


def _works(*argv: object, cwd: Path) -> bool:
    return try_qemu_img(*argv, cwd=cwd).returncode == 0


def _new(directory: Path, format: str, size: object, options: str = "") -> Path:
    if format == "luks":
        options = "key-secret=key,iter-time=10"
    return create(directory / "image", format, size, options, *SECRET)


SIZES = [0, 1, 511, 512, 513, MIB, 10 * MIB, 10_000_001, 504 * MIB, 504 * MIB + 1, 127 * 1024**3, 128 * 1024**3 + 7]
SIZES += [random.Random(7).randrange(1, 1 << bits) for bits in range(10, 41, 2)]


@pytest.mark.parametrize("format", [name for name in FORMAT_NAMES if name not in ("raw", "luks")])
def test_rounded_size_is_what_qemu_makes(format: str, directory: Path) -> None:
    sizes = [size for size in SIZES if FEATURES[format].smallest <= rounded_size(format, size)]
    made = {size: info(_new(directory, format, size), format)["virtual-size"] for size in sizes}
    assert made == {size: rounded_size(format, size) for size in sizes}


@pytest.mark.parametrize(("format", "count"), [("raw", 20), ("luks", 1)])
def test_rounded_size_is_what_qemu_makes_of_flat_files(format: str, count: int, directory: Path) -> None:
    sizes = [10_000_001, 1, *SIZES][:count]
    made = {size: info(_new(directory, format, size), format)["virtual-size"] for size in sizes}
    assert made == {size: rounded_size(format, size) for size in sizes}


@pytest.mark.parametrize("options", ["", "subformat=fixed", "force_size=on", "subformat=fixed,force_size=on"])
def test_rounded_size_of_vpc_is_exact_beyond_every_step(options: str, directory: Path) -> None:
    """The steps of the geometry: 17, 31, 63, 255 sectors a track, and the end of geometry."""
    steps = [1024 * 4 * 17, 1024 * 16 * 17, 1024 * 16 * 31, 65535 * 16 * 63, 65535 * 16 * 255]
    sizes = [step * 512 + more for step in steps for more in (-513, -1, 0, 1, 512, 5_000_000)]
    sizes += [heads * 1024 * 17 * 512 + more for heads in range(4, 17) for more in (-115_000, 123_456, 3_000_001)]
    forced = {"force_size": "force_size" in options}
    made = {size: info(_new(directory, "vpc", size, options), "vpc")["virtual-size"] for size in sizes}
    assert made == {size: rounded_size("vpc", size, forced) for size in sizes}


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("qcow2", {"cluster_size": 16384, "extended_l2": True}),
        ("qed", {"cluster_size": 4096, "table_size": 2}),
        ("vdi", {}),
        ("vhdx", {}),
        ("vpc", {}),
        ("parallels", {"cluster_size": 512}),
    ],
)
def test_nothing_larger_than_largest_size_is_made(format: str, options: dict[str, Any], directory: Path) -> None:
    largest = largest_size(format, options)
    given = ",".join(to_argument(name, value) for name, value in options.items())
    command = ("create", "-q", "-f", format, *(("-o", given) if given else ()), "image")
    if format != "vdi":  # its block map of 512 MiB would be written
        assert _works(*command, largest // MIB * MIB if format == "qcow2" else largest, cwd=directory)
    made = _works(*command, largest + MIB, cwd=directory)
    assert not made or not _works("info", "-f", format, "image", cwd=directory)
