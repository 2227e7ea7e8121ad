# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Which create options go together, as QEMU enforces them: said before anything is written, in sentences."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import size
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import (
    OPTIONS,
    CreateOption,
    find_option,
    with_defaults,
)

Options = t.Mapping[str, t.Any]
_MIB = 1 << 20


def validate_options(format: str, options: Options) -> list[str]:
    """Everything that is wrong with these create options for that format; an empty list means QEMU takes them."""
    given = {name: value for name, value in options.items() if value is not None}
    problems = [_problem_of_one(format, name, value) for name, value in sorted(given.items())]
    found = [problem for problem in problems if problem]
    if not found:
        full = with_defaults(format, given)
        found.extend(_RULES.get(format, _no_rules)(full))
        found.extend(_extent_size_hint(full))
        found.extend(_without_encryption(given))
    return found


def _problem_of_one(format: str, name: str, value: t.Any) -> str:
    option = find_option(format, name)
    if option is None:
        names = ", ".join(o.name for o in OPTIONS[format] if not o.managed)
        return f"{format} images have no option {name} (they have: {names})"
    return _CHECKS[option.kind](option, value)


def _check_bool(option: CreateOption, value: t.Any) -> str:
    return "" if isinstance(value, bool) else f"{option.name} must be true or false, not {value!r}"


def _check_choice(option: CreateOption, value: t.Any) -> str:
    if value in option.choices:
        return ""
    return "{} must be one of {}, not {!r}".format(option.name, ", ".join(option.choices), value)


def _check_int(option: CreateOption, value: t.Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return "" if good else f"{option.name} must be a whole number, not {value!r}"


def _check_size(option: CreateOption, value: t.Any) -> str:
    try:
        size.parse_size(value)
    except ValueError as exc:
        return f"{option.name}: {exc}"
    return ""


def _check_str(option: CreateOption, value: t.Any) -> str:
    bad = not isinstance(value, str) or "\0" in value or "\n" in value
    return f"{option.name} must be text of one line, not {value!r}" if bad else ""


_CHECKS: t.Mapping[str, t.Callable[[CreateOption, t.Any], str]] = {
    "bool": _check_bool,
    "choice": _check_choice,
    "int": _check_int,
    "size": _check_size,
    "str": _check_str,
}


def _said(*facts: tuple[t.Any, str]) -> t.Iterator[str]:
    """The sentences whose condition holds."""
    return (sentence for condition, sentence in facts if condition)


def _qcow2(options: Options) -> t.Iterator[str]:
    yield from _qcow2_sizes(options)
    if options["compat"] == "0.10":
        yield from _qcow2_version_2(options)
    yield from _qcow2_files(options)
    if options["encrypt_format"] == "luks":
        yield from _luks({name[len("encrypt_") :]: options[name] for name in options if name.startswith("encrypt_")})


def _qcow2_sizes(options: Options) -> t.Iterator[str]:
    cluster, bits = options["cluster_size"], options["refcount_bits"]
    return _said(
        (
            not reading.is_power_of_two(cluster) or not 512 <= cluster <= 2 * _MIB,
            f"cluster_size must be a power of two from 512 to 2M, not {cluster}",
        ),
        (not reading.is_power_of_two(bits) or bits > 64, f"refcount_bits must be a power of two up to 64, not {bits}"),
        (options["extended_l2"] and cluster < 16384, "extended_l2 needs a cluster_size of 16K or more"),
    )


def _qcow2_version_2(options: Options) -> t.Iterator[str]:
    return _said(
        (options["lazy_refcounts"], "lazy_refcounts needs compat 1.1"),
        (options["refcount_bits"] != 16, "refcount_bits other than 16 needs compat 1.1"),
        (options["extended_l2"], "extended_l2 needs compat 1.1"),
        (options["compression_type"] != "zlib", "compression_type other than zlib needs compat 1.1"),
        (options["data_file"], "data_file needs compat 1.1"),
    )


def _qcow2_files(options: Options) -> t.Iterator[str]:
    backing, preallocation = options["backing_file"], options["preallocation"]
    return _said(
        (options["data_file_raw"] and not options["data_file"], "data_file_raw needs data_file"),
        (options["data_file_raw"] and backing, "data_file_raw and a backing file exclude each other"),
        (
            backing and preallocation != "off" and not options["extended_l2"],
            "preallocation with a backing file needs extended_l2",
        ),
        (options["backing_fmt"] and not backing, "backing_fmt needs backing_file"),
        (backing and not options["backing_fmt"], "backing_file needs backing_fmt"),
    )


def _without_encryption(given: Options) -> t.Iterator[str]:
    """LUKS' options below C(encrypt_) are for encrypt_format luks; the secret is for any."""
    of_luks = [n for n in given if n.startswith("encrypt_") and n not in ("encrypt_format", "encrypt_key_secret")]
    wrong = of_luks and given.get("encrypt_format") != "luks"
    return _said((wrong, "{} needs encrypt_format luks".format(", ".join(sorted(of_luks)))))


def _luks(options: Options) -> t.Iterator[str]:
    cipher, mode, essiv = options["cipher_alg"], options["cipher_mode"], options["ivgen_alg"] == "essiv"
    iv_hash = options["ivgen_hash_alg"] or ("sha256" if essiv else None)
    return _said(
        # Seen on QEMU 7.2: "Unsupported cipher mode xts", and an assertion that fails for keys of 24 bytes.
        (cipher == "cast5-128" and mode == "xts", "cipher cast5-128 has no mode xts"),
        (cipher.endswith("-192") and mode != "xts", "ciphers with keys of 192 bits work with cipher_mode xts only"),
        (iv_hash and not essiv, "ivgen_hash_alg is for ivgen_alg essiv only"),
        # The digest is a key of the same cipher: QEMU says "No AES cipher with key size 20 available".
        (
            essiv and iv_hash not in ("md5", "sha256"),
            "ivgen_hash_alg must be md5 or sha256, whose digests are key sizes",
        ),
        (essiv and iv_hash == "sha256" and cipher == "cast5-128", "essiv with cast5-128 needs ivgen_hash_alg md5"),
    )


def _qed(options: Options) -> t.Iterator[str]:
    cluster, table = options["cluster_size"], options["table_size"]
    return _said(
        (
            not reading.is_power_of_two(cluster) or not 4096 <= cluster <= 64 * _MIB,
            f"cluster_size must be a power of two from 4K to 64M, not {cluster}",
        ),
        # Seen on QEMU 7.2: create takes table_size=1, and then nothing opens the image.
        (
            not reading.is_power_of_two(table) or not 2 <= table <= 16,
            f"table_size must be a power of two from 2 to 16, not {table}",
        ),
        ((table * cluster // 8) ** 2 * cluster >= 1 << 64, "cluster_size and table_size are too large together"),
    )


def _vmdk(options: Options) -> t.Iterator[str]:
    flat = options["subformat"].endswith("Flat")
    return _said(
        (flat and options["zeroed_grain"], "zeroed_grain is not for flat subformats"),
        (flat and options["backing_file"], "a flat subformat cannot have a backing file"),
        (options["compat6"] and options["hwversion"] != "4", "compat6 and hwversion exclude each other"),
        (options["backing_file"] and options["backing_fmt"] != "vmdk", "the backing file of a vmdk must be a vmdk"),
    )


def _vhdx(options: Options) -> t.Iterator[str]:
    block, log = options["block_size"], options["log_size"]
    return _said(
        (
            block and not (reading.is_power_of_two(block) and _MIB <= block <= 256 * _MIB),
            f"block_size must be 0 or a power of two from 1M to 256M, not {block}",
        ),
        (log % _MIB or not 0 < log < 4 << 30, f"log_size must be whole MiB, at least 1M and below 4G, not {log}"),
    )


def _parallels(options: Options) -> t.Iterator[str]:
    cluster = options["cluster_size"]
    return _said((cluster % 512 or not 512 <= cluster < 1 << 31, "cluster_size must be whole sectors, below 2G"))


def _extent_size_hint(options: Options) -> t.Iterator[str]:
    return _said((options["extent_size_hint"] >= 1 << 32, "extent_size_hint must be below 4G"))


def _no_rules(options: Options) -> t.Iterator[str]:
    return iter(())


_RULES: t.Mapping[str, t.Callable[[Options], t.Iterator[str]]] = {
    "qcow2": _qcow2,
    "luks": _luks,
    "qed": _qed,
    "vmdk": _vmdk,
    "vhdx": _vhdx,
    "parallels": _parallels,
}
