"""The command line of a server says what it serves, and names are only names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._device import definition
from ansible_collections.platter.qemu.plugins.module_utils._device.read_spec import read_spec

PATHS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1).map(
    lambda name: "/i/x" + name
)


@given(PATHS, st.sampled_from(["raw", "qcow2", "vmdk"]), st.booleans(), st.sampled_from(["0", "1M"]), st.booleans())
def test_what_an_image_is_served_as_is_read_back(path: str, format: str, flag: bool, offset: str, size: bool) -> None:
    task = {"name": "web1", "source": path, "format": format, "read_only": flag, "direct_io": flag, "offset": offset}
    spec = read_spec({**task, "size": "2M" if size else None})
    for kind in ("fuse", "nbd"):
        argv = definition.argv_of(spec, definition.Ground(str(spec.source), False, "/q", "/d"), kind)
        # a loop device chooses the part by itself
        part = (spec.offset, spec.size or 0) if kind == "nbd" else (0, 0)
        assert definition.parse(argv) == (spec.source, format, flag, flag, *part)


@pytest.mark.parametrize(
    "uri", ["nbd://host:10809/web1", "nbds://[::1]:1/a%20b", "nbd+unix:///x?socket=/s", "nbds+unix:///x?socket=/s"]
)
def test_so_is_an_export(uri: str) -> None:
    secure = "nbds" in uri
    spec = read_spec({"name": "web1", "source": uri, "tls_certificates": "/c" if secure else None})
    argv = definition.argv_of(spec, definition.Ground(uri, False, "/q", "/d"), "fuse")
    assert definition.parse(argv) == (uri, "raw", True, False, 0, 0)
    assert ("--object" in argv) == secure
    assert bool(definition.argv_of(spec, definition.Ground(uri, False, "/q", "/d"), "nbd")) == secure


@pytest.mark.parametrize("argv", [(), ("/q", "--blockdev"), ("/q", "--blockdev", "{}"), ("/q", "--blockdev", "x")])
def test_another_command_line_is_no_server_of_ours(argv: tuple[str, ...]) -> None:
    assert definition.parse(argv) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "nbds://host/x"},
        {"source": "nbds://host/x", "tls_certificates": "/c", "tls_psk_file": "/k"},
        {"source": "nbd://host/x", "tls_hostname": "h"},
        {"source": "nbd://host/x", "format": "qcow2"},
        {"source": "/i/a", "format": "raw", "device": "/dev/sda"},
        {"source": "/i/a", "format": "raw", "size": "0"},
        {"source": "/i/a", "format": "raw", "timeout": 0},
    ],
)
def test_options_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(errors.SpecError) as caught:
        read_spec({"name": "web1", **wrong})
    assert caught.value.reason == "bad_option"
