"""A place that a server had which was killed just now: it is gone some milliseconds before the kernel closes its listener."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import engine
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import settled
from ansible_collections.platter.qemu.tests.lab.closing import nobodys_listener
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE


@pytest.fixture(params=["unix", "tcp"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The options of an export."""
    name, path = exports.new_name(), str(tmp_path / "served")
    place = {"socket": path} if request.param == "unix" else {"bind": "127.0.0.1", "port": free_port()}
    with exports.cleaned(name):
        yield {"name": name, "image": str(create(tmp_path / "image.raw", "raw", "1M")), "format": "raw", **place}


def where(served: dict[str, Any]) -> str | tuple[str, int]:
    return served.get("socket") or (served["bind"], served["port"])


def test_it_is_waited_for(served: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CLOSING_SECONDS", DEADLINE)
    with nobodys_listener(where(served), 0.3):
        prepared("nbd_export", **served)
    settled(**served)


def test_what_stays_is_anothers(served: dict[str, Any]) -> None:
    with nobodys_listener(where(served)):
        assert call("nbd_export", **served)["reason"] == "socket_in_use"
