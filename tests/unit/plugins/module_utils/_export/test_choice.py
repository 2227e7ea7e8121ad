"""Which server serves an export, and why."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import choice, servers
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import Delay, ExportSpec, Throttle, TlsSpec

QCOW2 = ExportSpec("web1", "/s", "/i/a", "qcow2")
RAW = replace(QCOW2, format="raw")
ALL = tuple(servers.ORDER)


@pytest.mark.parametrize(
    ("spec", "installed", "declared", "server", "why"),
    [
        (RAW, ALL, "", "qemu_nbd", "it can do all that is asked"),
        (RAW, ALL, "nbdkit", "nbdkit", ""),
        (RAW, ["nbdkit"], "", "nbdkit", "qemu_nbd is not installed"),
        (RAW, ["qemu_nbd"], "nbdkit", "qemu_nbd", "it can do all that is asked"),
        (replace(RAW, delay=Delay(5)), ALL, "qemu_nbd", "nbdkit", "qemu_nbd does not delay"),
        (replace(RAW, server="nbdkit"), ALL, "qemu_nbd", "nbdkit", ""),
        (QCOW2, ALL, "nbdkit", "qemu_nbd", "it can do all that is asked"),
    ],
)
def test_what_serves_already_goes_on_and_else_the_first_that_can(
    spec: ExportSpec, installed: t.Sequence[str], declared: str, server: str, why: str
) -> None:
    assert choice.choose(spec, installed, declared) == choice.Choice(server, why)


@pytest.mark.parametrize(
    ("more", "able"),
    [
        ({"format": "qcow2", "server": "nbdkit"}, "qemu_nbd"),
        ({"cache": "none", "server": "nbdkit"}, "qemu_nbd"),
        ({"allocation_depth": True, "server": "nbdkit"}, "qemu_nbd"),
        ({"throttle": Throttle(iops=5), "server": "nbdkit"}, "qemu_nbd"),
        ({"tls": TlsSpec("/t", ("CN=a",)), "server": "nbdkit"}, "qemu_nbd"),
        ({"partition": 1, "server": "qemu_nbd"}, "nbdkit"),
        ({"cow": True, "server": "qemu_nbd"}, "nbdkit"),
        ({"allow_from": ("::1",), "server": "qemu_nbd"}, "nbdkit"),
        ({"delay": Delay(5), "format": "qcow2"}, ""),
        ({"throttle": Throttle(5), "snapshot": "x", "format": "qcow2"}, ""),
    ],
    ids=str,
)
def test_what_a_server_cannot_do_is_refused_naming_one_that_can(more: t.Dict[str, t.Any], able: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        choice.choose(replace(RAW, **more), ALL)
    assert caught.value.reason == "server_cannot"
    assert set(caught.value.facts["evidence"]["servers"]) >= ({able} if able else set())
    assert (f"Set server: {able}" in caught.value.message) == bool(able)


def test_a_server_that_is_not_there_is_named_with_its_package() -> None:
    with pytest.raises(errors.RefusedError, match="nbdkit is not installed") as caught:
        choice.choose(replace(RAW, server="nbdkit"), ["qemu_nbd"])
    assert caught.value.reason == "tool_missing"
