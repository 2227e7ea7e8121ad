"""A keeper that can read nothing of its array says so, and goes on."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._array import observe
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._keeper import heal

TOLD = {
    "name": "data",
    "uuid": "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11",
    "level": "raid1",
    "legs": [{"name": name, "source": f"nbd://{name}/data"} for name in ("a", "b")],
}


def test_what_cannot_be_read_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_asked: t.Any) -> t.NoReturn:
        raise errors.EngineError("the kernel has no md/uuid")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(observe, "observe", unreadable)
    with pytest.raises(errors.EngineError, match="the kernel has no md/uuid"):
        heal.Healer(TOLD).cycle()
