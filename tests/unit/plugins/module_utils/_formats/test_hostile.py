"""Each hostile image is seen for what it is, by our readers alone."""

from __future__ import annotations

from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats.info import has_protocol
from ansible_collections.platter.qemu.plugins.module_utils._formats.registry import (
    detect,
    foreign_signatures,
    read_header,
)
from ansible_collections.platter.qemu.tests.lab.hostile import Hostile, hostile_images
from ansible_collections.platter.qemu.tests.lab.sources import file_source

TIB = 1 << 40


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Hostile]:
    return hostile_images(tmp_path_factory.mktemp("hostile"))


def _references(header: Header) -> bool:
    return bool(header.references)


def _protocols(header: Header) -> bool:
    return any(reference.kind == "backing_file" and has_protocol(reference.target) for reference in header.references)


def _unknown(header: Header) -> bool:
    return bool(header.unknown_features)


def _bomb(header: Header) -> bool:
    return header.virtual_size >= 64 * TIB


SEEN: dict[str, Callable[[Header], bool]] = {
    "image_references_file": _references,
    "backing_protocol_refused": _protocols,
    "unknown_features": _unknown,
    "would_exceed_space": _bomb,
    "backing_loop": _references,
}


@pytest.mark.parametrize("reason", SEEN)
def test_the_header_shows_the_reason(reason: str, images: list[Hostile]) -> None:
    chosen = [image for image in images if image.reason == reason]
    blind = [image.name for image in chosen if not SEEN[reason](read_header(image.format, file_source(image.path)))]
    assert (blind, bool(chosen)) == ([], True)


def test_sizes_that_no_disk_has_are_an_error_with_its_reason(images: list[Hostile]) -> None:
    for image in [image for image in images if image.reason == "bad_size"]:
        with pytest.raises(HeaderError) as raised:
            read_header(image.format, file_source(image.path))
        assert raised.value.facts["reason"] == "bad_size", image.name


def test_disguises_are_recognised_by_their_signatures(images: list[Hostile]) -> None:
    for image in [image for image in images if image.reason == "format_mismatch"]:
        data = image.path.read_bytes()
        found = {*detect(data[:40_000], data[-512:]), *foreign_signatures(data[:40_000], data[-512:])}
        assert found - {image.format}, image.name


#: Their headers are whole; what is wrong is in the tables behind it, for check to find.
WHOLE_HEADERS = {"qcow2 cut in its tables"}


def test_damage_in_the_header_is_an_error(images: list[Hostile]) -> None:
    read = set()
    for image in [image for image in images if image.reason == "source_damaged"]:
        try:
            read_header(image.format, file_source(image.path))
            read.add(image.name)
        except HeaderError as exc:
            assert "reason" not in exc.facts
    assert read == WHOLE_HEADERS


def test_names_are_unique_and_files_small(images: list[Hostile]) -> None:
    assert len({image.path for image in images}) == len(images) >= 90
    assert max(image.path.stat().st_size for image in images) <= 16 << 20
