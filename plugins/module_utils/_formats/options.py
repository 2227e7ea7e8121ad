# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The create options of every format as data: names, kinds, choices, defaults, what can be seen and what be changed."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import size


@dataclass(frozen=True)
class CreateOption:
    """One create option. C(name) is ours (C(encrypt_format)), C(qemu_name) is QEMU's (C(encrypt.format))."""

    name: str
    qemu_name: str
    kind: str  # bool, size, int, str, choice
    doc: str
    default: t.Any = None
    choices: tuple[str, ...] = ()
    #: the header tells it back (C(Header.options)); what is not reported has to be remembered
    reported: bool = False
    amendable: bool = False
    #: the collection derives it from another module option (size, backing, secrets); not for the user's dict
    managed: bool = False
    #: an option of the file that holds the image, not of the format: any format takes it, no C(-o help) lists it
    of_file: bool = False
    #: QEMU takes it for C(amend) only
    amend_only: bool = False


def _option(name: str, kind: str, doc: str, **more: t.Any) -> CreateOption:
    return CreateOption(name, more.pop("qemu_name", name), kind, doc, **more)


_KEY_SIZES = {"aes": (128, 192, 256), "cast5": (128,), "serpent": (128, 192, 256), "twofish": (128, 192, 256)}
CIPHERS = tuple(f"{name}-{bits}" for name, sizes in _KEY_SIZES.items() for bits in sizes)
CIPHER_MODES = ("cbc", "ctr", "ecb", "xts")
HASHES = ("md5", "ripemd160", "sha1", "sha224", "sha256", "sha384", "sha512")
IVGENS = ("plain", "plain64", "essiv")
PREALLOCATIONS = ("off", "metadata", "falloc", "full")

_SIZE = _option("size", "size", "The virtual size.", reported=True, managed=True)
_BACKING = (
    _option("backing_file", "str", "The image that holds what this one does not.", reported=True, managed=True),
    _option("backing_fmt", "str", "The format of the backing file.", reported=True, managed=True),
)
_FILE = (
    _option("nocow", "bool", "Turn copy-on-write off for the file, on Btrfs.", default=False, of_file=True),
    _option("extent_size_hint", "size", "The extent size hint of the file, on XFS.", default=1 << 20, of_file=True),
)
_OLD_ENCRYPTION = _option("encryption", "bool", "QEMU's old word for encrypt_format=aes.", default=False, managed=True)


def _preallocation(*choices: str, of_file: bool = False) -> CreateOption:
    doc = "What is allocated at creation: nothing, the metadata, or all of it (by fallocate, or by writing zeroes)."
    return _option("preallocation", "choice", doc, default="off", choices=choices, of_file=of_file)


def _luks(prefix: str, qemu_prefix: str) -> tuple[CreateOption, ...]:
    """LUKS' options, as the format has them and as qcow2 has them below C(encrypt.)."""
    plain = (
        _option("cipher-alg", "choice", "The cipher.", default="aes-256", choices=CIPHERS, reported=True),
        _option("cipher-mode", "choice", "The cipher's mode.", default="xts", choices=CIPHER_MODES, reported=True),
        _option("ivgen-alg", "choice", "The generator of the IVs.", default="plain64", choices=IVGENS, reported=True),
        _option("ivgen-hash-alg", "choice", "The hash of an essiv generator.", choices=HASHES, reported=True),
        _option("hash-alg", "choice", "The hash of PBKDF2.", default="sha256", choices=HASHES, reported=True),
        _option("iter-time", "int", "The milliseconds that unlocking shall take.", default=2000, amendable=True),
        _option("key-secret", "str", "The id of the secret object with the key.", managed=True),
        _option("state", "choice", "Set or erase a key slot.", choices=("active", "inactive"), **_AMEND),
        _option("keyslot", "int", "The number of that key slot.", **_AMEND),
        _option("new-secret", "str", "The id of the secret for the slot.", **_AMEND),
        _option("old-secret", "str", "The id of the secret whose slots are meant.", **_AMEND),
    )
    return tuple(replace(o, name=prefix + o.name.replace("-", "_"), qemu_name=qemu_prefix + o.name) for o in plain)


_AMEND: dict[str, bool] = {"amendable": True, "amend_only": True, "managed": True}

QCOW2 = (
    _SIZE,
    *_BACKING,
    _option(
        "compat",
        "choice",
        "The version of the format.",
        default="1.1",
        choices=("0.10", "1.1"),
        reported=True,
        amendable=True,
    ),
    _option("cluster_size", "size", "The size of a cluster.", default=65536, reported=True),
    _option("lazy_refcounts", "bool", "Write reference counts later.", default=False, reported=True, amendable=True),
    _option("refcount_bits", "int", "The bits of a reference count.", default=16, reported=True, amendable=True),
    _option("extended_l2", "bool", "Allocate 32 subclusters in a cluster.", default=False, reported=True),
    _option(
        "compression_type",
        "choice",
        "How compressed clusters are compressed.",
        default="zlib",
        choices=("zlib", "zstd"),
        reported=True,
    ),
    _preallocation(*PREALLOCATIONS),
    _option("data_file", "str", "The file that holds the data, beside the metadata.", reported=True),
    _option("data_file_raw", "bool", "Keep the data file readable as raw.", default=False, reported=True),
    _OLD_ENCRYPTION,
    _option("encrypt_format", "choice", "Encrypt.", qemu_name="encrypt.format", choices=("aes", "luks"), reported=True),
    *_luks("encrypt_", "encrypt."),
    *_FILE,
)

OPTIONS: t.Mapping[str, tuple[CreateOption, ...]] = {
    "raw": (_SIZE, _preallocation("off", "falloc", "full", of_file=True), *_FILE),
    "qcow": (
        _SIZE,
        *_BACKING,
        _OLD_ENCRYPTION,
        _option("encrypt_format", "choice", "Encrypt.", qemu_name="encrypt.format", choices=("aes",), reported=True),
        _option("encrypt_key_secret", "str", "The secret's id.", qemu_name="encrypt.key-secret", managed=True),
        *_FILE,
    ),
    "qcow2": QCOW2,
    "qed": (
        _SIZE,
        *_BACKING,
        _option("cluster_size", "size", "The size of a cluster.", default=65536, reported=True),
        _option("table_size", "size", "The clusters of an L1 or L2 table.", default=4, reported=True),
        *_FILE,
    ),
    "vdi": (
        _SIZE,
        _option("static", "bool", "Allocate all blocks.", default=False, reported=True),
        *_FILE,
    ),
    "vmdk": (
        _SIZE,
        *_BACKING,
        _option(
            "subformat",
            "choice",
            "One file or several, sparse or flat.",
            default="monolithicSparse",
            reported=True,
            choices=(
                "monolithicSparse",
                "monolithicFlat",
                "twoGbMaxExtentSparse",
                "twoGbMaxExtentFlat",
                "streamOptimized",
            ),
        ),
        _option(
            "adapter_type",
            "choice",
            "The virtual adapter.",
            default="ide",
            reported=True,
            choices=("ide", "buslogic", "lsilogic", "legacyESX"),
        ),
        _option("hwversion", "str", "The virtual hardware version.", default="4", reported=True),
        _option("toolsversion", "str", "The guest tools' version.", default="2147483647", reported=True),
        _option("compat6", "bool", "Hardware version 6; QEMU's old word.", default=False, reported=True),
        _option("zeroed_grain", "bool", "Mark zeroes in the grain table.", default=False, reported=True),
        *_FILE,
    ),
    "vhdx": (
        _SIZE,
        _option(
            "subformat",
            "choice",
            "Grow, or allocate all blocks.",
            default="dynamic",
            choices=("dynamic", "fixed"),
            reported=True,
        ),
        _option("block_size", "size", "The size of a block; 0 lets QEMU choose by size.", default=0, reported=True),
        _option("log_size", "size", "The size of the log, whole MiB.", default=1 << 20, reported=True),
        _option("block_state_zero", "bool", "Mark new blocks as zero.", default=True),
        *_FILE,
    ),
    "vpc": (
        _SIZE,
        _option(
            "subformat",
            "choice",
            "Grow, or allocate all blocks.",
            default="dynamic",
            choices=("dynamic", "fixed"),
            reported=True,
        ),
        _option("force_size", "bool", "The exact size, not the next CHS geometry.", default=False, reported=True),
        *_FILE,
    ),
    "parallels": (
        _SIZE,
        _option("cluster_size", "size", "The size of a cluster.", default=1 << 20, reported=True),
        *_FILE,
    ),
    "luks": (_SIZE, *_luks("", ""), _preallocation("off", "falloc", "full", of_file=True), *_FILE),
}

_QEMU_NAMES = {option.name: option.qemu_name for options in OPTIONS.values() for option in options}


def find_option(format: str, name: str) -> CreateOption | None:
    return next((option for option in OPTIONS[format] if option.name == name), None)


def with_defaults(format: str, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """All create options: defaults where none is given, sizes as bytes. Raises ValueError for a size that is none."""
    full = {option.name: option.default for option in OPTIONS[format] if not option.amend_only}
    for name, value in options.items():
        option = find_option(format, name)
        if value is not None:
            full[name] = size.parse_size(value) if option and option.kind == "size" else value
    return full


def to_argument(name: str, value: t.Any) -> str:
    """One piece for C(-o): QEMU's name, on and off for booleans, commas doubled as QEMU's parser wants them."""
    if isinstance(value, bool):
        value = "on" if value else "off"
    return "{}={}".format(_QEMU_NAMES.get(name, name), str(value).replace(",", ",,"))
