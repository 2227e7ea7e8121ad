"""The tables agree with themselves; that they agree with QEMU is for the contract tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._formats.features import (
    FEATURES,
    largest_size,
    rounded_size,
)
from ansible_collections.platter.qemu.plugins.module_utils._formats.options import (
    OPTIONS,
    find_option,
    to_argument,
    with_defaults,
)
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import FORMAT_NAMES
from ansible_collections.platter.qemu.plugins.module_utils._formats.rules import validate_options

LARGEST_VPC = 2040 << 30


def test_every_format_has_features_and_options() -> None:
    assert set(FEATURES) == set(OPTIONS) == set(FORMAT_NAMES)
    assert all(FEATURES[name].name == name for name in FORMAT_NAMES)


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_option_names_are_unique_and_ours(format: str) -> None:
    names = [option.name for option in OPTIONS[format]]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)


def test_one_name_means_one_qemu_name() -> None:
    pairs = {(option.name, option.qemu_name) for options in OPTIONS.values() for option in options}
    assert len(pairs) == len({name for name, _qemu in pairs})


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_defaults_are_valid(format: str) -> None:
    chosen = [option for option in OPTIONS[format] if not option.name.startswith("encrypt_")]
    assert validate_options(format, {option.name: option.default for option in chosen}) == []


@pytest.mark.parametrize("format", FORMAT_NAMES)
def test_nothing_asked_is_valid(format: str) -> None:
    assert validate_options(format, {}) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "static=on"), (False, "static=off"), (65536, "static=65536"), ("a,b", "static=a,,b"), (",", "static=,,")],
)
def test_arguments_are_quoted_as_qemu_reads_them(value: object, text: str) -> None:
    assert to_argument("static", value) == text


def test_arguments_have_qemus_names() -> None:
    names = ("encrypt_cipher_alg", "cipher_alg", "lazy_refcounts", "encrypt_format")
    assert [to_argument(name, "x") for name in names] == [
        "encrypt.cipher-alg=x",
        "cipher-alg=x",
        "lazy_refcounts=x",
        "encrypt.format=x",
    ]


@pytest.mark.parametrize(
    ("format", "options", "word"),
    [
        ("raw", {"subformat": "fixed"}, "no option subformat"),
        ("qcow2", {"lazy_refcounts": "yes"}, "true or false"),
        ("qcow2", {"refcount_bits": True}, "whole number"),
        ("qcow2", {"refcount_bits": -1}, "whole number"),
        ("qcow2", {"cluster_size": "many"}, "is not a size"),
        ("qcow2", {"compat": "3"}, "one of 0.10, 1.1"),
        ("qcow2", {"data_file": "a\nb"}, "one line"),
        ("vmdk", {"hwversion": 10}, "one line"),
    ],
)
def test_a_problem_is_said_in_words(format: str, options: dict[str, object], word: str) -> None:
    (problem,) = validate_options(format, options)
    assert word in problem


def test_all_problems_are_said_at_once() -> None:
    options = {"compat": "0.10", "lazy_refcounts": True, "refcount_bits": 8}
    assert len(validate_options("qcow2", options)) == 2


def test_an_option_that_is_none_is_not_given() -> None:
    assert validate_options("raw", {"subformat": None}) == []


def test_sizes_are_bytes_with_defaults_filled_in() -> None:
    full = with_defaults("qcow2", {"cluster_size": "2M", "compat": None})
    assert (full["cluster_size"], full["compat"]) == (2 << 20, "1.1")


def test_an_option_that_is_not_there_is_not_found() -> None:
    assert find_option("raw", "cluster_size") is None


@given(st.sampled_from(FORMAT_NAMES), st.integers(0, LARGEST_VPC), st.booleans())
def test_rounding_holds_the_size_and_is_stable(format: str, size: int, force: bool) -> None:
    rounded = rounded_size(format, size, {"force_size": force})
    assert rounded >= size
    assert rounded % 512 == 0
    assert rounded_size(format, rounded, {"force_size": force}) == rounded


@given(st.integers(0, LARGEST_VPC), st.integers(0, 1 << 30))
def test_a_larger_size_is_never_rounded_to_less(size: int, more: int) -> None:
    assert rounded_size("vpc", size) <= rounded_size("vpc", min(size + more, LARGEST_VPC))


def test_the_geometry_rule_is_for_vpc_without_force_size() -> None:
    size = 10 << 20
    assert (rounded_size("vpc", size), rounded_size("vpc", size, {"force_size": True})) == (10_514_432, size)


@pytest.mark.parametrize(
    ("format", "options", "largest"),
    [
        ("qcow2", {}, 2 << 50),
        ("qcow2", {"cluster_size": 512}, 128 << 30),
        ("qcow2", {"cluster_size": "16K", "extended_l2": True}, 64 << 40),
        ("qed", {}, 64 << 40),
        ("vpc", {}, 2040 << 30),
        ("raw", {}, 2**63 - 512),
    ],
)
def test_the_largest_size_follows_from_the_options(format: str, options: dict[str, object], largest: int) -> None:
    assert largest_size(format, options) == largest
