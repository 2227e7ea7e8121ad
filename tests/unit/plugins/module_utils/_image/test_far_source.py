"""What a source is not asked for, and what is told of it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import SpecError
from ansible_collections.platter.qemu.plugins.module_utils._image.read_spec import read_spec

NBD = {"path": "nbd://h/x", "format": "raw"}
FILE = {"path": "/s", "format": "raw"}
COOKIE = {"driver": "http", "url": "http://h/x", "cookie": "SECRET"}


@pytest.mark.parametrize(
    "options",
    [
        {"source": {**NBD, "checksum": "sha256:00"}},
        {"source": {**NBD, "compression": "xz"}},
        {"source": {"path": COOKIE, "format": "raw"}},
        {"source": FILE, "compressed": True, "options": {"preallocation": "metadata"}},
        {"source": FILE, "compressed": True, "encryption": {"secret_file": "/key"}},
        {"source": {"url": "http://h/x", "format": "raw", "headers": {"X": True}}},
    ],
    ids=str,
)
def test_what_would_have_no_effect_is_refused(options: dict[str, t.Any]) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec({"path": "/d/a", "format": "qcow2", **options})
    assert caught.value.reason in ("bad_option", "header_refused") and "SECRET" not in caught.value.message


def test_headers_may_be_numbers_and_a_web_place_is_a_url() -> None:
    source = {"path": {"driver": "http", "url": "http://h/x"}, "format": "raw", "headers": {"X": 5}}
    spec = read_spec({"path": "/d/a", "format": "qcow2", "source": source})
    assert spec.source and (spec.source.url, spec.source.http.headers) == ("http://h/x", (("X", "5"),))
