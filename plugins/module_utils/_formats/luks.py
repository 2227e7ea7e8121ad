# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""LUKS version 1, as a format of its own and inside encrypted qcow2."""

from __future__ import annotations

import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core.header import ByteSource, Header
from ansible_collections.platter.qemu.plugins.module_utils._core.size import round_up
from ansible_collections.platter.qemu.plugins.module_utils._formats import reading

MAGIC = b"LUKS\xba\xbe"
_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
_SLOT = struct.Struct(">II32sII")
_SLOTS = 8
_ACTIVE, _INACTIVE = 0x00AC71F3, 0x0000DEAD
_CIPHERS = ("aes", "cast5", "serpent", "twofish")
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160")
_IVGENS = ("plain", "plain64", "essiv")


@dataclass(frozen=True)
class LuksHeader:
    """What QEMU shows of a LUKS header: no salt, no digest, no key material."""

    cipher_alg: str
    cipher_mode: str
    ivgen_alg: str
    ivgen_hash_alg: str | None
    hash_alg: str
    uuid: str
    payload_offset: int
    master_key_iters: int
    slots: tuple[t.Mapping[str, t.Any], ...]

    def info(self) -> dict[str, t.Any]:
        """As in C(qemu-img info --output=json)."""
        data: dict[str, t.Any] = {
            "cipher-alg": self.cipher_alg,
            "cipher-mode": self.cipher_mode,
            "ivgen-alg": self.ivgen_alg,
            "hash-alg": self.hash_alg,
            "uuid": self.uuid,
            "payload-offset": self.payload_offset,
            "master-key-iters": self.master_key_iters,
            "slots": [dict(slot) for slot in self.slots],
        }
        if self.ivgen_hash_alg:
            data["ivgen-hash-alg"] = self.ivgen_hash_alg
        return data


def read(source: ByteSource) -> Header:
    header = read_header(source, 0)
    size = round_up(source.length, reading.SECTOR) - header.payload_offset
    reading.require(size >= 0, "the LUKS payload begins beyond the end of the file")
    info = header.info()
    return Header(
        format="luks",
        virtual_size=size,
        encrypted=True,
        options=options_of(info),
        format_specific={"type": "luks", "data": info},
    )


def options_of(info: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The create options that a header tells back, by our names."""
    names = ("cipher-alg", "cipher-mode", "ivgen-alg", "ivgen-hash-alg", "hash-alg")
    return {name.replace("-", "_"): info[name] for name in names if name in info}


def read_header(source: ByteSource, offset: int) -> LuksHeader:
    """The LUKS header that begins at C(offset)."""
    data = reading.exactly(source, offset, _HEADER.size + _SLOTS * _SLOT.size, "the LUKS header")
    magic, version, cipher, mode, hash_spec, payload, key_bytes, _digest, _salt, iters, uuid = _HEADER.unpack_from(data)
    reading.require(magic == MAGIC, "no LUKS magic")
    reading.require(version == 1, f"LUKS version {version} is not 1")
    cipher_mode, ivgen, ivgen_hash = _split_mode(reading.text(mode))
    hash_alg = reading.text(hash_spec)
    reading.require(hash_alg in _HASHES, f"LUKS hash {hash_alg!r} is unknown")
    return LuksHeader(
        cipher_alg=_cipher(reading.text(cipher), cipher_mode, key_bytes),
        cipher_mode=cipher_mode,
        ivgen_alg=ivgen,
        ivgen_hash_alg=ivgen_hash,
        hash_alg=hash_alg,
        uuid=reading.text(uuid),
        payload_offset=payload * reading.SECTOR,
        master_key_iters=iters,
        slots=tuple(_slot(data, index) for index in range(_SLOTS)),
    )


def with_one_key(data: bytes, slot: int) -> bytes:
    """A LUKS header whose only active key slot is C(slot): the same image, for who has that key."""
    changed = bytearray(data)
    for other in set(range(_SLOTS)) - {slot}:
        at = _HEADER.size + other * _SLOT.size
        changed[at : at + 4] = struct.pack(">I", _INACTIVE)
    return bytes(changed)


def _split_mode(mode: str) -> tuple[str, str, str | None]:
    """C(cbc-essiv:sha256) is the mode cbc, the IV generator essiv and its hash sha256."""
    cipher_mode, dash, ivgen = mode.partition("-")
    reading.require(dash, f"LUKS cipher mode {mode!r} has no IV generator")
    ivgen, colon, ivgen_hash = ivgen.partition(":")
    reading.require(ivgen in _IVGENS, f"LUKS IV generator {ivgen!r} is unknown")
    return cipher_mode, ivgen, ivgen_hash if colon else None


def _cipher(name: str, mode: str, key_bytes: int) -> str:
    """QEMU names a cipher with its key size; XTS uses two keys."""
    reading.require(name in _CIPHERS, f"LUKS cipher {name!r} is unknown")
    bits = key_bytes * 8 // (2 if mode == "xts" else 1)
    reading.require(bits in (128, 192, 256), f"a LUKS key of {key_bytes} bytes")
    return f"{name}-{bits}"


def _slot(data: bytes, index: int) -> dict[str, t.Any]:
    active, iters, _salt, offset, stripes = _SLOT.unpack_from(data, _HEADER.size + index * _SLOT.size)
    reading.require(active in (_ACTIVE, _INACTIVE), f"LUKS key slot {index} is neither active nor inactive")
    slot: dict[str, t.Any] = {"active": active == _ACTIVE, "key-offset": offset * reading.SECTOR}
    if active == _ACTIVE:
        slot.update({"iters": iters, "stripes": stripes})
    return slot
