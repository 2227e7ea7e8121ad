"""The rules for create options are QEMU's: what they allow it makes, what they refuse it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats.options import to_argument
from ansible_collections.platter.qemu.plugins.module_utils._formats.rules import validate_options
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, require_qemu, try_qemu_img

pytestmark = pytest.mark.usefixtures("qemu")
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


VALID = [
    ("qcow2", {"cluster_size": 512}),
    ("qcow2", {"cluster_size": "2M", "refcount_bits": 1}),
    ("qcow2", {"compat": "0.10", "refcount_bits": 16, "compression_type": "zlib"}),
    ("qcow2", {"extended_l2": True, "cluster_size": "16K"}),
    ("qcow2", {"preallocation": "metadata", "extended_l2": True, "backing_file": "base", "backing_fmt": "raw"}),
    ("qcow2", {"data_file": "data", "data_file_raw": True, "preallocation": "full"}),
    ("qcow2", {"data_file": "data", "backing_file": "base", "backing_fmt": "raw"}),
    ("qcow2", {"nocow": True, "extent_size_hint": "0"}),
    ("raw", {"preallocation": "falloc", "extent_size_hint": "2G"}),
    ("qed", {"cluster_size": "4K", "table_size": 16}),
    ("qed", {"cluster_size": "2M"}),
    ("vmdk", {"subformat": "streamOptimized", "zeroed_grain": True, "adapter_type": "lsilogic"}),
    ("vmdk", {"compat6": True}),
    ("vhdx", {"subformat": "fixed", "block_state_zero": False, "log_size": "3M", "block_size": 0}),
    ("vpc", {"subformat": "fixed", "force_size": True}),
    ("vdi", {"static": True}),
    ("parallels", {"cluster_size": 1 << 30}),
]
INVALID = [
    ("qcow2", {"cluster_size": 256}),
    ("qcow2", {"cluster_size": "3K"}),
    ("qcow2", {"cluster_size": "4M"}),
    ("qcow2", {"compat": "0.10", "lazy_refcounts": True}),
    ("qcow2", {"compat": "0.10", "refcount_bits": 8}),
    ("qcow2", {"compat": "0.10", "extended_l2": True}),
    ("qcow2", {"compat": "0.10", "compression_type": "zstd"}),
    ("qcow2", {"compat": "0.10", "data_file": "data"}),
    ("qcow2", {"compat": "2"}),
    ("qcow2", {"refcount_bits": 3}),
    ("qcow2", {"refcount_bits": 128}),
    ("qcow2", {"extended_l2": True, "cluster_size": "8K"}),
    ("qcow2", {"compression_type": "lz4"}),
    ("qcow2", {"data_file_raw": True}),
    ("qcow2", {"data_file": "data", "data_file_raw": True, "backing_file": "base", "backing_fmt": "raw"}),
    ("qcow2", {"preallocation": "metadata", "backing_file": "base", "backing_fmt": "raw"}),
    ("qcow2", {"preallocation": "full", "backing_file": "base", "backing_fmt": "raw"}),
    ("qcow2", {"preallocation": "some"}),
    ("qcow2", {"backing_fmt": "raw"}),
    ("qcow2", {"backing_file": "base"}),
    ("qcow2", {"encrypt_cipher_alg": "aes-256"}),
    ("qcow2", {"subformat": "fixed"}),
    ("raw", {"cluster_size": "64K"}),
    ("raw", {"preallocation": "metadata"}),
    ("raw", {"extent_size_hint": "5G"}),
    ("qed", {"cluster_size": "2K"}),
    ("qed", {"cluster_size": "128M"}),
    ("qed", {"cluster_size": "64M"}),
    ("qed", {"table_size": 3}),
    ("qed", {"table_size": 32}),
    ("qed", {"table_size": 1}),
    ("vmdk", {"subformat": "monolithicFlat", "zeroed_grain": True}),
    ("vmdk", {"subformat": "twoGbMaxExtentFlat", "backing_file": "base", "backing_fmt": "vmdk"}),
    ("vmdk", {"backing_file": "base", "backing_fmt": "raw"}),
    ("vmdk", {"compat6": True, "hwversion": "10"}),
    ("vmdk", {"adapter_type": "scsi"}),
    ("vmdk", {"subformat": "monolithicflat"}),
    ("vhdx", {"block_size": "3M"}),
    ("vhdx", {"log_size": 0}),
    ("vhdx", {"log_size": "4G"}),
    ("vpc", {"subformat": "differencing"}),
    ("parallels", {"cluster_size": "2G"}),
]


def _qemu_makes_it(format: str, options: dict[str, Any], directory: Path) -> bool:
    """Makes an image, and can open it again."""
    base_format = options.get("backing_fmt", "raw")
    create(directory / "base", base_format, "1M")
    given = ",".join(to_argument(name, value) for name, value in options.items())
    command = ("create", "-q", "-f", format, "-o", given, "image", "1M")
    return _works(*command, cwd=directory) and _works("info", "-f", format, "image", cwd=directory)


@pytest.mark.parametrize(("format", "options"), VALID, ids=str)
def test_what_the_rules_allow_qemu_makes(format: str, options: dict[str, Any], directory: Path) -> None:
    assert (validate_options(format, options), _qemu_makes_it(format, options, directory)) == ([], True)


@pytest.mark.parametrize(("format", "options"), INVALID, ids=str)
def test_what_the_rules_refuse_qemu_refuses(format: str, options: dict[str, Any], directory: Path) -> None:
    assert validate_options(format, options) != []
    assert not _qemu_makes_it(format, options, directory)


#: QEMU makes these, but something else than was asked for, or nothing that differs: the rules refuse them.
SILENTLY_CHANGED = [
    ("vhdx", {"block_size": "512M"}),
    ("vhdx", {"block_size": 1000}),
    ("parallels", {"cluster_size": 1000}),
]


@pytest.mark.parametrize(("format", "options"), SILENTLY_CHANGED, ids=str)
def test_what_qemu_would_change_silently_is_refused(format: str, options: dict[str, Any], directory: Path) -> None:
    assert validate_options(format, options) != []
    assert _qemu_makes_it(format, options, directory)


LUKS = [
    {"cipher_alg": "aes-192"},
    {"cipher_alg": "aes-192", "cipher_mode": "cbc"},
    {"cipher_alg": "cast5-128"},
    {"ivgen_alg": "essiv"},
    {"ivgen_alg": "essiv", "ivgen_hash_alg": "sha1"},
    {"ivgen_alg": "essiv", "ivgen_hash_alg": "sha512"},
    {"ivgen_alg": "essiv", "cipher_alg": "cast5-128", "cipher_mode": "cbc"},
    {"ivgen_alg": "essiv", "ivgen_hash_alg": "md5", "cipher_alg": "cast5-128", "cipher_mode": "cbc"},
]


@pytest.mark.parametrize("options", LUKS, ids=str)
def test_luks_ciphers_go_together_as_the_rules_say(options: dict[str, Any], directory: Path) -> None:
    given = ",".join(to_argument(name, value) for name, value in options.items())
    command = ("create", "-q", "-f", "luks", *SECRET, "-o", f"key-secret=key,iter-time=10,{given}", "image", "1M")
    assert _works(*command, cwd=directory) == (validate_options("luks", options) == [])


def test_commas_in_a_value_reach_qemu_as_they_are(directory: Path) -> None:
    create(directory / "a,b", "raw", "1M")
    options = f"{to_argument('backing_file', 'a,b')},{to_argument('backing_fmt', 'raw')}"
    path = create(directory / "image", "qcow2", "", options)
    assert info(path, "qcow2")["backing-filename"] == "a,b"
