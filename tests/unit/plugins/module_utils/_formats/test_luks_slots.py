"""A LUKS header with one of its keys."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._formats import luks


@pytest.mark.parametrize("slot", [0, 3, 7])
def test_all_keys_but_one_are_taken_out(slot: int) -> None:
    before = bytes(range(208)) + b"".join(struct.pack(">II32sII", 0x00AC71F3, n, b"salt", n, 4000) for n in range(8))
    data = luks.with_one_key(before + b"key material", slot)
    active = [struct.unpack_from(">I", data, 208 + 48 * number)[0] == 0x00AC71F3 for number in range(8)]
    assert active == [number == slot for number in range(8)]
    assert data[:208] == before[:208] and data.endswith(b"key material")
