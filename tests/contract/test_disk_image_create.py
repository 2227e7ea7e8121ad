"""Every format is created with every one of its create options, and the second run finds all as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import FEATURES
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import OPTIONS, CreateOption
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused
from ansible_collections.platter.qemu.tests.lab.guest import MIB, facts, scribble, shows

#: 4 MiB holds the patterns; a multiple of every cluster size that is tried
SIZE = 4 * MIB
#: a value other than the default for options that have no choices
OTHER: dict[str, Any] = {
    "cluster_size": "128K",
    "refcount_bits": 8,
    "encrypt_iter_time": 10,
    "iter_time": 10,
    "data_file": "data",
    "table_size": "2",
    "hwversion": "11",
    "toolsversion": "11365",
    "block_size": "8M",
    "log_size": "2M",
    "extent_size_hint": "2M",
}
#: what an option needs beside it to be valid
ESSIV = {"ivgen_alg": "essiv", "cipher_mode": "cbc", "ivgen_hash_alg": "sha256"}
#: ciphers and hashes that QEMU's crypto library may have been built without
OPTIONAL_CRYPTO = ("cast5", "twofish", "serpent", "ripemd160", "ctr", "ecb")


def values(option: CreateOption) -> list[Any]:
    if option.kind == "bool":
        return [True, False]
    return list(option.choices) or [OTHER[option.name]]


def companions(format: str, name: str, value: Any) -> dict[str, Any]:
    """The other options that make this one valid and fast."""
    plain = name.replace("encrypt_", "")
    prefix = "encrypt_" if name.startswith("encrypt_") else ""
    needed: dict[str, Any] = {}
    if prefix:
        needed = {"encrypt_format": "luks", "encrypt_iter_time": 10}
    if format == "luks":
        needed = {"iter_time": 10}
    if plain == "ivgen_hash_alg":
        needed.update({prefix + key: other for key, other in ESSIV.items()})
    if value == "essiv" or value == "cast5-128":
        needed[prefix + "cipher_mode"] = "cbc"
    if name == "data_file_raw" and value:
        needed["data_file"] = "data"
    return needed


def cases() -> Iterator[Any]:
    for format, options in OPTIONS.items():
        for option in (o for o in options if not o.managed and not o.amend_only):
            for value in values(option):
                if valid(format, option.name, value):
                    yield pytest.param(format, option.name, value, id=f"{format}-{option.name}-{value}")


def valid(format: str, name: str, value: Any) -> bool:
    """Not what QEMU has no meaning for: see _formats/rules.py."""
    if name.endswith("ivgen_hash_alg"):
        return value in ("md5", "sha256")
    return (name, value) != ("encrypt_format", "aes")


def encryption(format: str, options: dict[str, Any]) -> dict[str, Any]:
    encrypted = format == "luks" or "encrypt_format" in options
    return {"encryption": {"secret": "geheim"}} if encrypted else {}


def arguments(tmp_path: Path, format: str, name: str, value: Any) -> dict[str, Any]:
    options = {**companions(format, name, value), name: value}
    if "data_file" in options:
        options["data_file"] = str(tmp_path / "data")
    path = tmp_path / f"an image.{format}"
    return {"path": str(path), "format": format, "size": str(SIZE), "options": options, **encryption(format, options)}


@pytest.mark.parametrize(("format", "name", "value"), list(cases()))
def test_every_option_is_made_and_found_again(tmp_path: Path, format: str, name: str, value: Any) -> None:
    given = arguments(tmp_path, format, name, value)
    secret = tmp_path / "secret"
    secret.write_text("geheim")
    with_crypto(lambda: four_beats(**given), value)
    seen = facts(given["path"], format) if "encryption" not in given else {"format": format}
    assert seen["format"] == format
    key = secret if "encryption" in given else None
    scribble(given["path"], format, secret=key)
    shows(given["path"], format, secret=key)


def with_crypto(make: Any, value: Any) -> None:
    """QEMU may have been built without some ciphers and hashes; all others must work."""
    try:
        make()
    except AssertionError as exc:
        lacking = any(word in str(exc) for word in ("not supported", "Unsupported", "not available", "No such"))
        if lacking and any(str(value).startswith(name) for name in OPTIONAL_CRYPTO):
            pytest.skip(f"this QEMU has no {value}")
        raise


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
    four_beats(path=str(path), format=format, size="4M", options=options, **encryption(format, options))
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
    from ansible_collections.platter.qemu.tests.lab.modules import call
    from ansible_collections.platter.qemu.tests.lab.oracle import create

    path = create(tmp_path / "hand.qcow2", "qcow2", "4M")
    result = call("disk_image", path=str(path), format="qcow2", options={"preallocation": "full", "compat": "1.1"})
    assert (result["changed"], result["unprovable_options"]) == (False, ["preallocation"])
