"""Where qemu-img and our readers both take an image, they take it for the same; QEMU alone sees nothing outside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import to_qemu_info
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import read_header
from ansible_collections.platter.qemu.tests.lab.headers import every_format, vpc
from ansible_collections.platter.qemu.tests.lab.mutants import mutants
from ansible_collections.platter.qemu.tests.lab.oracle import info, info_of_hostile, require_qemu, version
from ansible_collections.platter.qemu.tests.lab.sources import MemorySource

SAMPLE = 400
#: from this QEMU on (10.0 at the latest) programs that it does not know mean the size in the footer of a VHD too
SIZE_IN_FOOTER = (10, 0)
GEOMETRY_COUNTS = (b"vpc ", b"qemu")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    require_qemu()
    for name in ("base.raw", "data.raw"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    return tmp_path


def _read(format: str, data: bytes) -> Header | None:
    try:
        return read_header(format, MemorySource(data))
    except HeaderError:
        return None


def _printable(name: str | None) -> str | None:
    """As in the JSON of qemu-img, where bytes that are not UTF-8 are replaced."""
    return name and name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _disagreements(header: Header, told: dict[str, Any]) -> list[str]:
    kinds = {reference.kind for reference in header.references}
    data = told.get("format-specific", {}).get("data", {})
    facts = {
        "virtual size": header.virtual_size == told["virtual-size"],
        "backing file": _printable(header.backing_file) == told.get("backing-filename"),
        "cluster size": header.format == "parallels" or (header.cluster_size or None) == told.get("cluster-size"),
        "data file": "data-file" not in data or "data_file" in kinds,
        "extents": all(extent["filename"].endswith("/image") for extent in data.get("extents", []))
        or "extent" in kinds,
    }
    return [name for name, agreed in facts.items() if not agreed]


def test_mutants_that_both_take_are_the_same_to_both(directory: Path) -> None:
    compared, wrong = 0, {}
    for name, format, data in mutants(30, SAMPLE):
        path = directory / "image"
        path.write_bytes(data)
        told, header = info_of_hostile(path, format), _read(format, data)
        if told is not None and header is not None:
            compared += 1
            wrong[name] = _disagreements(header, told)
    assert {name: found for name, found in wrong.items() if found} == {}
    assert compared > SAMPLE // 4


@pytest.mark.parametrize(
    "application", [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0", b"vpc ", b"qemu", b"vbox", b"wa  "]
)
@pytest.mark.parametrize("kind", [2, 3, 4])
def test_the_size_of_a_vhd_depends_on_who_made_it(application: bytes, kind: int, directory: Path) -> None:
    data = vpc(application=application, kind=kind, geometry=(20, 4, 17))
    (directory / "image").write_bytes(data)
    ours = read_header("vpc", MemorySource(data)).virtual_size
    theirs = info(directory / "image", "vpc")["virtual-size"]
    if version() >= SIZE_IN_FOOTER and application not in GEOMETRY_COUNTS:
        assert theirs == 1 << 20 >= ours
    else:
        assert ours == theirs


@pytest.mark.parametrize("name", every_format())
def test_the_labs_own_images_are_what_qemu_reads(name: str, directory: Path) -> None:
    """Else the mutants are mutants of nothing."""
    format, data = every_format()[name]
    path = directory / "image"
    path.write_bytes(data)
    told = info(path, format)
    told.pop("children", None)
    ours = to_qemu_info(read_header(format, MemorySource(data)), filename=str(path), actual_size=told["actual-size"])
    assert ours == told
