"""NBD URIs are read as the NBD project writes them down, and written so that they are read the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address, parse


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("nbd://h", Address(host="h")),
        ("nbd://h/", Address(host="h")),
        ("nbd://h:1/a%20b", Address("a b", host="h", port=1)),
        ("nbd+tcp://h/a/b", Address("a/b", host="h")),
        ("nbd://[::1]:1/x", Address("x", host="::1", port=1)),
        ("nbds://alice@h/x", Address("x", host="h", tls=True, user="alice")),
        ("nbd+unix:///x?socket=/run/a+b%20c", Address("x", socket="/run/a+b c")),
        ("nbds+unix:///?socket=/s", Address(socket="/s", tls=True)),
        ("nbd://h/%FF", Address("\udcff", host="h")),
    ],
)
def test_what_a_uri_means(uri: str, address: Address) -> None:
    assert parse(uri) == address
    assert parse(str(address)) == Address(
        address.export, address.socket, address.host, address.port, address.tls, user=""
    )


@pytest.mark.parametrize(
    "uri",
    [
        "http://h/x",
        "/dev/nbd0",
        "nbd:h:1",
        "nbd:///x",
        "nbd://:1/x",
        "nbd://h:70000/",
        "nbd://h:x/",
        "nbd://a b/",
        "nbd://[::1/",
        "nbd://u:secret@h/",
        "nbd://h/?socket=/s",
        "nbd://h/x?y",
        "nbd://h/x#y",
        "nbd+unix:///x",
        "nbd+unix:///x?socket=",
        "nbd+unix:///x?socket=relative",
        "nbd+unix:///x?socket=/a%00b",
        "nbd+unix:///x?socket=/s&tls-psk-file=/k",
    ],
)
def test_what_is_no_nbd_uri(uri: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse(uri)
    assert "secret" not in str(raised.value)


@given(export=st.text(st.characters(blacklist_categories=["Cs"])), tls=st.booleans(), port=st.integers(1, 65535))
def test_any_export_has_a_uri(export: str, tls: bool, port: int) -> None:
    for address in (Address(export, host="h", port=port, tls=tls), Address(export, socket="/a ?&#%+", tls=tls)):
        assert parse(str(address)) == address
