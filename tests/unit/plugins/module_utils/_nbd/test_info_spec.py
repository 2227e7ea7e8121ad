"""What a task asks of an NBD server, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import SpecError
from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address
from ansible_collections.platter.qemu.plugins.module_utils._nbd.info_spec import InfoSpec


def spec(uri: str, **more: Any) -> InfoSpec:
    return InfoSpec.from_params({"uri": uri, "timeout": 5.0, **more})


def test_what_is_asked() -> None:
    assert spec("nbd://h/x", identity=True) == InfoSpec(Address("x", host="h"), identity=True)
    with_key = spec("nbds://alice@h/", tls_psk_file="/k")
    assert (with_key.psk_file, with_key.username) == ("/k", "alice")
    assert spec("nbds://alice@h/", tls_psk_file="/k", tls_username="bob").username == "bob"


@pytest.mark.parametrize(
    ("uri", "more"),
    [
        ("nbd://h/", {"tls_certificates": "/c"}),
        ("nbd://h/", {"tls_hostname": "h"}),
        ("nbd://alice@h/", {}),
        ("nbd://h/", {"timeout": 0.0}),
        ("nbd://h/", {"timeout": -1.0}),
        ("/dev/nbd0", {}),
        ("nbds://u:secret@h/", {}),
    ],
)
def test_what_contradicts_itself(uri: str, more: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as raised:
        spec(uri, **more)
    assert raised.value.reason == "bad_option"
    assert "secret" not in raised.value.message
