"""What a task asks about images."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import EngineError
from ansible_collections.platter.qemu.plugins.module_utils._image.info_spec import InfoSpec


def test_a_place_named_twice_is_looked_at_once() -> None:
    spec = InfoSpec.from_params({"paths": ["/a//b", "/a/./b", {"driver": "file", "filename": "/a/b"}, "nbd://h/x"]})
    assert [str(place) for place in spec.places] == ["/a/b", "nbd://h/x"]


@pytest.mark.parametrize("path", ["relative", "/a/", "nosuch://x", {"driver": "qcow2"}, 5, None, ["/a"]])
def test_what_is_no_place_is_refused_by_name(path: object) -> None:
    with pytest.raises(EngineError) as caught:
        InfoSpec.from_params({"paths": ["/good", path]})
    assert caught.value.facts["reason"] == "bad_option"
    assert str(path) in caught.value.message


def test_overlay_directories_turn_dependents_on() -> None:
    assert not InfoSpec.from_params({"paths": ["/a"]}).dependents
    assert InfoSpec.from_params({"paths": ["/a"], "overlay_directories": ["/b"]}).dependents


@pytest.mark.parametrize("asked", [{"check": True}, {"map": True}, {"measure": "raw"}])
def test_only_questions_about_content_need_qemu_img(asked: dict[str, object]) -> None:
    assert InfoSpec.from_params(asked).wants_content
    assert not InfoSpec.from_params({"backing_chain": True, "dependents": True, "features": True}).wants_content


def test_users_are_looked_for_unless_told_not_to() -> None:
    assert InfoSpec.from_params({}).in_use
    assert not InfoSpec.from_params({"in_use": False}).in_use
