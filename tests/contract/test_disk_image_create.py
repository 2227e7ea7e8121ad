"""Every format is created with every one of its create options, and the second run finds all as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import OPTIONS, CreateOption
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import MIB, facts, scribble, shows
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

#: 4 MiB holds the patterns; a multiple of every cluster size that is tried
SIZE = 4 * MIB
#: a value other than the default for options that have no choices
OTHER: dict[str, Any] = {
    "cluster_size": "128K",
    "refcount_bits": 8,
    "data_file": "data",
    "table_size": "2",
    "hwversion": "11",
    "toolsversion": "11365",
    "block_size": "8M",
    "log_size": "2M",
    "extent_size_hint": "2M",
}
#: a new LUKS header costs QEMU seconds; its options have a file of their own, test_disk_image_encryption.py
ENCRYPTION = ("encrypt_", "cipher_", "ivgen_", "hash_", "iter_time")


def values(option: CreateOption) -> list[Any]:
    if option.kind == "bool":
        return [True, False]
    return list(option.choices) or [OTHER[option.name]]


def companions(format: str, name: str, value: Any) -> dict[str, Any]:
    """The other options that make this one valid and fast."""
    needed: dict[str, Any] = {"iter_time": 10} if format == "luks" else {}
    return {**needed, "data_file": "data"} if name == "data_file_raw" and value else needed


def cases() -> list[Any]:
    return [
        pytest.param(format, option.name, value, id=f"{format}-{option.name}-{value}")
        for format, options in OPTIONS.items()
        for option in options
        if not option.managed and not option.amend_only and not option.name.startswith(ENCRYPTION)
        for value in values(option)
    ]


def encryption(format: str) -> dict[str, Any]:
    return {"encryption": {"secret": "geheim"}} if format == "luks" else {}


def arguments(tmp_path: Path, format: str, name: str, value: Any) -> dict[str, Any]:
    options = {**companions(format, name, value), name: value}
    if "data_file" in options:
        options["data_file"] = str(tmp_path / "data")
    path = tmp_path / f"an image.{format}"
    return {"path": str(path), "format": format, "size": str(SIZE), "options": options, **encryption(format)}


@pytest.mark.parametrize(("format", "name", "value"), cases())
def test_every_option_is_made_and_found_again(tmp_path: Path, format: str, name: str, value: Any) -> None:
    given = arguments(tmp_path, format, name, value)
    four_beats(**given)
    assert facts(given["path"], format)["format"] == format
    (tmp_path / "secret").write_text("geheim")
    secret = tmp_path / "secret" if format == "luks" else None
    if value == "streamOptimized":  # is written once, in one go
        shows(given["path"], format, ((0, 0, SIZE),))
        return
    scribble(given["path"], format, secret=secret)
    shows(given["path"], format, secret=secret)


@pytest.mark.parametrize("format", [name for name in FEATURES if name != "luks"])
def test_every_format_is_created_without_options(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"plain.{format}"
    result = four_beats(path=str(path), format=format, size="4M")
    assert result["actions"] == [f"Create {path} as {format} of {'4.02' if format == 'vpc' else '4'} MiB."]
    assert facts(path, format)["format"] == format
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("format", "option", "told"),
    [
        ("qcow2", {"compat": "0.10"}, {"compat": "0.10"}),
        ("qcow2", {"lazy_refcounts": True}, {"lazy-refcounts": True}),
        ("qcow2", {"refcount_bits": 8}, {"refcount-bits": 8}),
        ("qcow2", {"extended_l2": True}, {"extended-l2": True}),
        ("qcow2", {"compression_type": "zstd"}, {"compression-type": "zstd"}),
        ("vmdk", {"subformat": "streamOptimized"}, {"create-type": "streamOptimized"}),
        ("vmdk", {"subformat": "monolithicFlat"}, {"create-type": "monolithicFlat"}),
    ],
)
def test_qemu_itself_reports_the_option(tmp_path: Path, format: str, option: dict[str, Any], told: Any) -> None:
    path = tmp_path / "image"
    four_beats(path=str(path), format=format, size="4M", options=option)
    data = facts(path, format)["format-specific"]["data"]
    assert {key: data[key] for key in told} == told


@pytest.mark.parametrize("kind", ["falloc", "full"])
@pytest.mark.parametrize("format", ["raw", "qcow2", "luks"])
def test_preallocation_takes_the_space(tmp_path: Path, format: str, kind: str) -> None:
    path = tmp_path / "image"
    options: dict[str, Any] = {"preallocation": kind, **companions(format, "preallocation", kind)}
    four_beats(path=str(path), format=format, size="4M", options=options, **encryption(format))
    assert path.stat().st_blocks * 512 >= 4 * MIB


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("raw", {"cluster_size": "64K"}),
        ("qcow2", {"cluster_size": "3K"}),
        ("qcow2", {"compat": "0.10", "lazy_refcounts": True}),
        ("qcow2", {"refcount_bits": 7}),
        ("qcow2", {"encrypt_cipher_alg": "aes-256"}),
        ("vmdk", {"subformat": "fixed"}),
        ("vmdk", {"subformat": "monolithicFlat", "zeroed_grain": True}),
        ("vpc", {"subformat": "monolithicFlat"}),
        ("vhdx", {"block_size": "3M"}),
        ("qed", {"table_size": "1"}),
        ("vdi", {"preallocation": "metadata"}),
    ],
)
def test_options_that_the_format_does_not_take_are_refused(tmp_path: Path, format: str, options: Any) -> None:
    refused("bad_option", path=str(tmp_path / "image"), format=format, size="4M", options=options)


def test_an_image_made_by_hand_is_adopted_and_what_nobody_can_confirm_is_named(tmp_path: Path) -> None:
    path = create(tmp_path / "hand.qcow2", "qcow2", "4M")
    result = call("disk_image", path=str(path), format="qcow2", options={"preallocation": "full", "compat": "1.1"})
    assert (result["changed"], result["unprovable_options"]) == (False, ["preallocation"])
