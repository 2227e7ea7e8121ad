"""Places: paths, URIs and blockdev dicts are one value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.place import parse_place


@pytest.mark.parametrize("path", ["/a", "/a,b:c.qcow2", "/-x", "/--help", "/nbd:evil", "/ü ñ", "/50%", "/a'\"b"])
def test_a_path_reaches_qemu_as_one_file_name(path: str) -> None:
    assert parse_place(path).node() == {"driver": "file", "filename": path}
    assert parse_place(path).node(device=True) == {"driver": "host_device", "filename": path}


@pytest.mark.parametrize("text", ["a.qcow2", "./a", "", "/dir/", "/a\nb", "/a\x00b", "/a\x7fb", "file:a", "fat:/x"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|directory|control|URI"):
        parse_place(text)


@given(
    st.text(
        st.characters(min_codepoint=33, blacklist_categories=["Cc", "Cs"], blacklist_characters="/\x7f"), min_size=1
    )
)
def test_any_name_is_kept(name: str) -> None:
    if name not in (".", ".."):
        assert parse_place("/d/" + name).path == "/d/" + name


def test_paths_are_normalised() -> None:
    assert parse_place("//a/./b/../c").path == "/a/c"


@pytest.mark.parametrize(
    ("uri", "node"),
    [
        ("nbd://h/x", {"driver": "nbd", "server": {"type": "inet", "host": "h", "port": "10809"}, "export": "x"}),
        ("nbd://h:1/", {"driver": "nbd", "server": {"type": "inet", "host": "h", "port": "1"}, "export": ""}),
        ("nbd+unix:///x?socket=/s", {"driver": "nbd", "server": {"type": "unix", "path": "/s"}, "export": "x"}),
        (
            "nbd:h:1:exportname=x",
            {"driver": "nbd", "server": {"type": "inet", "host": "h", "port": "1"}, "export": "x"},
        ),
        ("nbd:unix:/s", {"driver": "nbd", "server": {"type": "unix", "path": "/s"}, "export": ""}),
        ("ssh://u@h/p", {"driver": "ssh", "server": {"host": "h", "port": "22"}, "path": "/p", "user": "u"}),
        ("https://h/p?q=1", {"driver": "https", "url": "https://h/p?q=1"}),
    ],
)
def test_a_uri_is_its_node(uri: str, node: object) -> None:
    assert parse_place(uri).node() == node
    assert parse_place(uri).path is None


@pytest.mark.parametrize("uri", ["https://u:secret@h/p", "ssh://u:secret@h/p", "nbd://u:secret@h/p"])
def test_a_password_in_a_uri_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ValueError, match="password") as caught:
        parse_place(uri)
    assert "secret" not in str(caught.value)


def test_a_blockdev_dict_and_its_json_are_the_same_place() -> None:
    node = {"driver": "nbd", "server": {"type": "unix", "path": "/s"}, "export": "e"}
    assert parse_place(node).node() == node
    assert parse_place('json:{"driver": "file", "filename": "/a"}') == parse_place("/a")


@pytest.mark.parametrize(
    "value", [{}, {"driver": "qcow2"}, {"driver": "file", "filename": "a"}, "json:[]", "json:{", 5, None, ["/a"]]
)
def test_what_is_no_protocol_node(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_place(value)  # type: ignore[arg-type]
