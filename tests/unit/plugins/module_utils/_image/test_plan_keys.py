"""Key slots of an image that is replaced by a copy of itself, or by a new import: none is lost silently."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.place import parse_place
from ansible_collections.platter.qemu.plugins.module_utils._image.plan import plan_image
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import (
    EncryptionSpec,
    ImageSpec,
    Keyslot,
    SourceSpec,
)
from ansible_collections.platter.qemu.plugins.module_utils._image.state import ImageReading, ImageState, SourceReading

PATH = "/d/a"
MIB = 1 << 20
REWRITE: t.Dict[str, t.Any] = {"options": (("cluster_size", 4096), ("encrypt_format", "luks")), "allow_rewrite": True}
ANEW: t.Dict[str, t.Any] = {"source": SourceSpec("raw", parse_place("/s"), policy="if_changed")}


def planned(active: t.Sequence[int], keyslots: t.Sequence[Keyslot] = (), **asked: t.Any) -> t.List[str]:
    """The steps for an encrypted image in which those slots are in use; it has clusters of 64 KiB."""
    slots = [{"active": number in active} for number in range(8)]
    options = {"encrypt_format": "luks", "cluster_size": 65536}
    header = Header("qcow2", MIB, options=options, format_specific={"data": {"encrypt": {"slots": slots}}})
    spec = ImageSpec(PATH, format="qcow2", encryption=EncryptionSpec("/k", tuple(keyslots)), **asked)
    is_so = tuple((name, options[name]) for name, _value in spec.options)
    state = ImageState(PATH, "qcow2", MIB, is_so, keyslots=tuple(active) if keyslots else None)
    source = SourceReading(MIB, changed=True, why="the source file has changed")
    reading = ImageReading("file", header=header, detected=("qcow2",), source=source)
    return [str(step).split(" because", maxsplit=1)[0] for step in plan_image(spec, state, reading)]


@pytest.mark.parametrize("keyslots", [(), (Keyslot(2, False),), (Keyslot(2, True, "/n"),)])
def test_a_rewrite_that_would_drop_keys_is_refused(keyslots: t.Sequence[Keyslot]) -> None:
    with pytest.raises(RefusedError) as caught:
        planned((0, 2), keyslots, **REWRITE)
    assert (caught.value.reason, caught.value.facts["evidence"]) == ("would_lose_keyslots", {"keyslots": [0, 2]})
    assert "2 key slots in use (0, 2)" in caught.value.message


def test_a_rewrite_of_an_image_with_one_key_puts_it_in_slot_0() -> None:
    assert planned((3,), **REWRITE) == ["Rewrite /d/a as encrypted qcow2"]
    again = planned((3,), (Keyslot(3, True, "/n"),), **REWRITE)
    assert again == ["Rewrite /d/a as encrypted qcow2", "Change the key slots of /d/a: set slot 3."]


def test_what_is_imported_anew_has_the_keys_that_the_task_names() -> None:
    steps = planned((0, 1, 2), (Keyslot(1, True, "/n"), Keyslot(2, False)), **ANEW)
    assert steps[1:] == ["Change the key slots of /d/a: set slot 1."]
    with pytest.raises(RefusedError) as caught:
        planned((0, 1, 2), (Keyslot(1, True, "/n"),), **ANEW)
    assert (caught.value.reason, caught.value.facts["evidence"]) == ("would_lose_keyslots", {"keyslots": [2]})
