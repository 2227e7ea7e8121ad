"""Command lines of servers, and the file that declares an export."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import (
    definition,
    server_nbdkit,
    server_qemu_nbd,
    server_storage_daemon,
)
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import Delay, ExportSpec, Throttle, TlsSpec

SPEC = ExportSpec("web1", "/s", "/i/a,b:c.qcow2", "qcow2")
GROUND = Ground("/i/a,b:c.qcow2", False, "/usr/bin/qemu-nbd")


def node(spec: ExportSpec, ground: Ground = GROUND) -> t.Any:
    """What qemu-nbd is told to open."""
    word = server_qemu_nbd.command(spec, ground)[-1]
    assert word.startswith("json:")
    return json.loads(word[len("json:") :])


def test_the_format_is_named_and_a_name_is_never_read_as_options() -> None:
    assert node(SPEC) == {"driver": "qcow2", "file": {"driver": "file", "filename": "/i/a,b:c.qcow2"}}


def test_a_window_lies_on_the_disk_and_not_on_the_file() -> None:
    window = node(replace(SPEC, offset=512, size=1024))
    assert (window["driver"], window["offset"], window["size"]) == ("raw", 512, 1024)
    assert window["file"] == node(SPEC)
    assert node(replace(SPEC, format="raw", offset=512))["file"]["driver"] == "file"


def test_a_block_device_is_opened_as_one() -> None:
    assert node(SPEC, GROUND._replace(device=True))["file"]["driver"] == "host_device"


def test_it_does_not_leave_with_its_first_client_and_writes_only_when_told_to() -> None:
    words = server_qemu_nbd.command(SPEC, GROUND)
    assert {"--persistent", "--read-only", "--shared=16"} <= set(words)
    assert "--read-only" not in server_qemu_nbd.command(replace(SPEC, read_only=False), GROUND)


def test_the_name_of_a_snapshot_stays_one_word() -> None:
    words = server_qemu_nbd.command(replace(SPEC, snapshot="a,b=c"), GROUND)
    assert "--load-snapshot=snapshot.name=a,,b=c" in words


def test_what_is_written_down_is_read_back() -> None:
    written = definition.define(replace(SPEC, bitmaps=("x", "y"), description="a \u00e9 'b'"), GROUND)
    assert definition.parse(written.text) == written


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"argv": 1, "options": {}}', "x"])
def test_what_is_no_definition_is_none(text: str) -> None:
    assert definition.parse(text) is None


# --- nbdkit

RAW = replace(SPEC, format="raw", server="nbdkit")
NBDKIT = GROUND._replace(program="/usr/sbin/nbdkit", server="nbdkit", holder=("/usr/bin/python3", "/h.py"))


def nbdkit_words(**more: t.Any) -> t.List[str]:
    return server_nbdkit.command(replace(RAW, **more), NBDKIT)


def test_nbdkit_serves_one_name_and_writes_only_when_told_to() -> None:
    assert {"--readonly", "--tls=off", "exportname=web1", "exportname-strict=true", "limit=16"} <= set(nbdkit_words())
    assert "--readonly" not in nbdkit_words(read_only=False)


def test_filters_lie_between_the_client_and_the_file() -> None:
    words = nbdkit_words(
        read_only=False,
        cow=True,
        partition=2,
        delay=Delay(5),
        throttle=Throttle(1000),
        allow_from=("::1", "192.0.2.0/24"),
        bind="::1",
        tls=TlsSpec("/t", any_client=True),
    )
    filters = [word[len("--filter=") :] for word in words if word.startswith("--filter=")]
    assert filters == ["ip", "limit", "exportname", "rate", "delay", "cow", "partition"]
    assert {"allow=::1,192.0.2.0/24", "deny=all", "rate=8000", "rdelay=5ms", "partition=2"} <= set(words)
    assert {"--tls=require", "--tls-certificates=/t", "--tls-verify-peer", "--ipaddr=::1"} <= set(words)


@pytest.mark.parametrize(("more", "how"), [({}, "read"), ({"read_only": False}, "write"), ({"cow": True}, "read")])
def test_nbdkit_is_started_with_the_lock_of_what_it_does(more: t.Dict[str, t.Any], how: str) -> None:
    made = definition.define(replace(RAW, **more), NBDKIT)
    assert made.launcher == ("/usr/bin/python3", "/h.py", how, "/i/a,b:c.qcow2")
    assert definition.parse(made.text) == made


# --- limits


def test_limits_lie_on_what_is_served() -> None:
    spec = replace(SPEC, throttle=Throttle(1000, 7), offset=512)
    assert (node(spec)["driver"], node(spec)["file"]) == ("throttle", node(replace(SPEC, offset=512)))
    (word,) = [word for word in server_qemu_nbd.command(spec, GROUND) if word.startswith("--object=")]
    assert json.loads(word[len("--object=") :])["limits"] == {"bps-total": 1000, "iops-total": 7}


# --- exports of storage daemons

LOTS = replace(SPEC, server="storage_daemon", daemon="lots", socket="/run/lots.sock")
DAEMON = Ground("/i/a", False, "/usr/bin/qemu-storage-daemon", "/d", server="storage_daemon", monitor="/m,q")


def steps(spec: ExportSpec) -> t.Dict[str, t.Any]:
    """What the daemon is told, by command."""
    return dict(server_storage_daemon.steps(spec, DAEMON)[1])


def test_the_name_of_the_node_tells_what_is_served() -> None:
    asked = [
        LOTS,
        replace(LOTS, name="web2"),
        replace(LOTS, read_only=False),
        replace(LOTS, format="raw"),
        replace(LOTS, throttle=Throttle(5)),
        replace(LOTS, cache="none"),
        replace(LOTS, description="x"),
        replace(LOTS, offset=512),
    ]
    names = [server_storage_daemon.steps(spec, DAEMON)[0] for spec in asked]
    assert len(set(names)) == len(asked) and max(map(len, names)) <= 31
    others = (replace(LOTS, allow_disconnect=True), replace(LOTS, shared=3), replace(LOTS, stop_timeout=1.0))
    assert {server_storage_daemon.steps(spec, DAEMON)[0] for spec in others} == {names[0]}


def test_the_daemon_is_the_same_for_all_its_exports() -> None:
    made = [definition.define(spec, DAEMON) for spec in (LOTS, replace(LOTS, name="web2", image="/b", read_only=False))]
    assert made[0].host == made[1].host and made[0].argv[:-1] == made[1].argv[:-1] and made[0].argv != made[1].argv
    assert made[0].host and definition.parse(made[0].host.text) == made[0].host
    assert definition.parse(made[0].text) == made[0]
    assert server_storage_daemon.socket_of(made[0].argv) == "/run/lots.sock"
    assert "--chardev=socket,id=qmp,server=on,wait=off,path=/m,,q" in made[0].argv


def test_limits_and_nodes_have_names_that_tell_whose_they_are() -> None:
    told = steps(replace(LOTS, throttle=Throttle(iops=5)))
    prefix = server_storage_daemon.node_prefix("web1")
    assert list(told) == ["object-add", "blockdev-add", "block-export-add"]
    assert told["blockdev-add"]["throttle-group"] == told["object-add"]["id"]
    assert told["block-export-add"]["node-name"] == told["blockdev-add"]["node-name"]
    assert all(name.startswith(prefix) for name in (told["object-add"]["id"], told["blockdev-add"]["node-name"]))


@pytest.mark.parametrize(
    ("spec", "node", "export"),
    [
        (LOTS, {"read-only": True}, {"writable": False}),
        (replace(LOTS, read_only=False, discard=True), {"read-only": False, "discard": "unmap"}, {"writable": True}),
        (replace(LOTS, cache="directsync"), {"cache": {"direct": True}}, {"writethrough": True}),
        (replace(LOTS, bitmaps=("a",)), {}, {"bitmaps": ["a"]}),
    ],
)
def test_what_is_asked_reaches_the_node_or_the_export(
    spec: ExportSpec, node: t.Dict[str, t.Any], export: t.Dict[str, t.Any]
) -> None:
    told = steps(spec)
    assert node.items() <= told["blockdev-add"].items() and export.items() <= told["block-export-add"].items()


def test_whom_a_daemon_lets_in() -> None:
    tls = TlsSpec("/t", ("CN=a,O=b",))
    words = server_storage_daemon.command(replace(LOTS, bind="::1", port=9, tls=tls), DAEMON)
    server = json.loads(words[-1].partition("=")[2])
    assert (server["tls-creds"], server["tls-authz"]) == ("tls0", "authz0")
    assert server["addr"] == {"type": "inet", "host": "::1", "port": "9"}
    keys = server_storage_daemon.command(replace(LOTS, bind="::1", tls=TlsSpec(psk_file="/k")), DAEMON)
    assert "tls-authz" not in keys[-1] and '"dir": "/d"' in keys[-2]
