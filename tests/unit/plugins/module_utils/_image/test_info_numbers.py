"""What qemu-img prints, as facts."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image.info_numbers import (
    check_facts,
    map_facts,
    measure_facts,
    place_facts,
)

DATA = {"data": True, "zero": False, "present": True, "offset": 0}
PACKED = {"data": True, "zero": False, "present": True}
ZERO = {"data": False, "zero": True, "present": True}
NONE = {"data": False, "zero": True, "present": False}
NEWER = {"data": True, "zero": False, "present": True, "compressed": True}
NEWER_PLAIN = {"data": True, "zero": False, "present": True, "compressed": False}
OLDER_ZERO = {"data": False, "zero": True}


@pytest.mark.parametrize(
    ("format", "extent", "kind"),
    [
        ("qcow2", DATA, "data"),
        ("qcow2", PACKED, "compressed"),
        ("vmdk", PACKED, "compressed"),
        ("luks", PACKED, "data"),
        ("qcow2", NEWER, "compressed"),
        ("qcow2", NEWER_PLAIN, "data"),
        ("qcow2", ZERO, "zero"),
        ("qcow2", NONE, "unallocated"),
        ("qcow2", OLDER_ZERO, "zero"),
        ("raw", OLDER_ZERO, "zero"),
    ],
)
def test_each_extent_counts_as_what_it_is(format: str, extent: dict[str, t.Any], kind: str) -> None:
    found = map_facts(Header(format, 10), [dict(extent, length=3), dict(DATA, length=7)])
    expected = dict.fromkeys(("data", "compressed", "zero", "unallocated"), 0)
    expected["data"] += 7
    expected[kind] += 3
    assert found == expected


def test_encrypted_data_is_not_compressed() -> None:
    assert map_facts(Header("qcow2", 3, encrypted=True), [dict(PACKED, length=3)])["data"] == 3


def test_qemu_leaves_zeros_out_of_a_check() -> None:
    found = check_facts({"check-errors": 0, "leaks": 2, "image-end-offset": 7})
    assert (found["leaks"], found["corruptions"], found["image_end_offset"]) == (2, 0, 7)


def test_a_measure_names_its_format() -> None:
    told = {"required": 1, "fully-allocated": 2, "bitmaps": 0}
    assert measure_facts("raw", told) == {"format": "raw", "required": 1, "fully_allocated": 2}


def test_a_place_has_the_facts_of_a_file() -> None:
    told = {
        "filename": "x",
        "format": "qcow2",
        "virtual-size": 5,
        "dirty-flag": True,
        "backing-filename": "b",
        "full-backing-filename": "nbd://h/b",
        "snapshots": [{"id": "1", "name": "s", "vm-clock-sec": 2, "vm-clock-nsec": 3, "vm-state-size": 0}],
        "format-specific": {
            "type": "qcow2",
            "data": {"compat": "1.1", "corrupt": True, "data-file": "d", "bitmaps": [{"name": "b"}], "x-y": 1},
        },
    }
    found = place_facts("nbd://h/x", told, certain=False)
    assert found["backing"] == {"path": "nbd://h/b", "format": None, "name": "b"}
    assert found["snapshots"] == [{"id": "1", "name": "s", "vm_clock_nsec": 2 * 10**9 + 3, "vm_state_size": 0}]
    assert (found["dirty"], found["corrupt"], found["encrypted"], found["actual_size"]) == (True, True, False, None)
    assert (found["data_file"], found["options"], found["format_specific"]) == ("d", {"compat": "1.1"}, {"x_y": 1})
    assert found["bitmaps"] == [{"name": "b"}] and found["format_is_certain"] is True


@pytest.mark.parametrize("certain", [True, False])
def test_a_raw_place_is_certain_only_when_declared(certain: bool) -> None:
    found = place_facts("nbd://h/x", {"format": "raw", "virtual-size": 5}, certain=certain)
    assert found["format_is_certain"] is certain and "format_specific" not in found
