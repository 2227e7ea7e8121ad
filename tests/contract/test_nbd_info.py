"""nbd_info says what nbdinfo and qemu-img say, of each server, each way to it; in check mode too, and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address
from ansible_collections.platter.qemu.plugins.module_utils._tools.tls import can_use_psk
from ansible_collections.platter.qemu.tests.lab.beats import snapshot
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.nbd import (
    SERVERS,
    Served,
    nbdinfo,
    qemu_nbd_list,
    secured,
    serving,
    tcp,
    unix,
)
from ansible_collections.platter.qemu.tests.lab.nbd_peer import SERVER, Peer, peer
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import stand_still
from ansible_collections.platter.qemu.tests.lab.tls import KEY, OTHER_KEY, USER, Certificates, certificates, psk_file

WAYS = ("plain", "x509", pytest.param("psk", marks=pytest.mark.skipif(not can_use_psk(), reason="Python is too old")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    return create(tmp_path / "served" / "image", "raw", "8M")


def beats(watch: Path, **options: Any) -> dict[str, Any]:
    """The result of the real run, which is that of check mode and of the next one; nothing is touched."""
    found = snapshot([str(watch)])
    checked, real, again = (call("nbd_info", check=check, **options) for check in (True, False, False))
    assert checked == real == again
    assert (real["changed"], real.get("failed", False)) == (False, False), real
    assert snapshot([str(watch)]) == found
    return real


def failed(reason: str, **options: Any) -> dict[str, Any]:
    results = [call("nbd_info", check=check, **options) for check in (True, False)]
    assert [(each.get("failed"), each["changed"], each.get("reason")) for each in results] == [
        (True, False, reason)
    ] * 2
    assert isinstance(results[0]["evidence"], dict)
    return results[1]


# --- each server, each way


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", [unix, lambda _path, **more: tcp(**more)], ids=["unix", "tcp"])
@pytest.mark.parametrize("server", SERVERS)
def test_it_says_what_others_say(
    tmp_path: Path, image: Path, made: Certificates, server: str, where: Callable[..., Address], way: str
) -> None:
    address = where(tmp_path, tls=way != "plain")
    psk = psk_file(tmp_path / "psk") if way == "psk" else None
    more = secured(server, made.server, psk) if way != "plain" else []
    options = {
        "plain": {},
        "x509": {"tls_certificates": str(made.client), "tls_hostname": "localhost"},
        "psk": {"tls_psk_file": str(psk)},
    }[way]
    with serving(server, Served(image), address, *more):
        result = beats(image.parent, uri=str(address), timeout=20, **options)
        theirs = _libnbd(address, made, psk)
        virtual_size = _virtual_size(address, made, psk)
    (export,) = result["exports"]
    assert result["tls"]["used"] is (way != "plain")
    assert result["tls"]["authentication"] == (None if way == "plain" else way)
    assert (export["name"], export["size"], virtual_size) == ("disk", theirs["export-size"], theirs["export-size"])
    assert export["contexts"] == sorted(theirs["contexts"])
    assert export["flags"]["read_only"] is theirs["is_read_only"] is True
    assert export["flags"]["can_multi_conn"] is theirs["can_multi_conn"]
    assert (export["block_size"] or {}).get("preferred") == theirs.get("block_size_preferred")


def _libnbd(address: Address, made: Certificates, psk: Path | None) -> dict[str, Any]:
    """libnbd checks no name on a Unix socket."""
    text = str(address)
    if address.tls:
        parameter = f"tls-psk-file={psk}" if psk else f"tls-certificates={made.client}"
        text += ("&" if address.socket else "?") + parameter
        text = text.replace("://", f"://{USER}@", 1) if psk else text
    (export,) = nbdinfo(text)["exports"]
    return dict(export)


def _virtual_size(address: Address, made: Certificates, psk: Path | None) -> int:
    """As qemu-img sees it."""
    node: dict[str, Any] = {"driver": "nbd", "export": address.export}
    inet = {"type": "inet", "host": address.host, "port": str(address.port)}
    node["server"] = {"type": "unix", "path": address.socket} if address.socket else inet
    objects = []
    if address.tls:
        node.update({"tls-creds": "tls"} if psk else {"tls-creds": "tls", "tls-hostname": "localhost"})
        kind = f"psk,dir={psk.parent},username={USER}" if psk else f"x509,dir={made.client}"
        objects = ["--object", f"tls-creds-{kind},id=tls,endpoint=client"]
    name = "json:" + json.dumps({"driver": "raw", "file": node})
    return int(json.loads(qemu_img("info", "--output=json", *objects, name))["virtual-size"])


# --- pre-shared keys on a Python that has none


@pytest.fixture
def old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "HAS_PSK", False, raising=False)


@pytest.mark.parametrize("where", [unix, lambda _path, **more: tcp(**more)], ids=["unix", "tcp"])
@pytest.mark.parametrize("server", SERVERS)
def test_qemu_nbd_is_asked_instead(
    tmp_path: Path,
    image: Path,
    server: str,
    where: Callable[..., Address],
    old_python: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, psk = where(tmp_path, tls=True), psk_file(tmp_path / "a, psk")
    name = "" if server == "nbdkit" else "disk"  # its plugin serves any name, and lists the default one
    with serving(server, Served(image), address, *secured(server, psk=psk_file(tmp_path / "psk"))):
        options = {"uri": str(replace(address, export=name)), "tls_psk_file": str(psk), "timeout": 20}
        result = beats(image.parent, **options)
        wrong = failed("tls_failed", **{**options, "tls_psk_file": str(psk_file(tmp_path / "wrong", OTHER_KEY))})
        if can_use_psk_at_all():
            monkeypatch.setattr(ssl, "HAS_PSK", True)
            ours = call("nbd_info", **options)
            assert [{**each, "canonical_name": ""} for each in ours["exports"]] == result["exports"]
    assert result["tls"] == {"used": True, "version": None, "cipher": None, "authentication": "psk"}
    assert KEY not in json.dumps([result, wrong])


def can_use_psk_at_all() -> bool:
    return hasattr(ssl.SSLContext, "set_psk_client_callback")


def test_what_qemu_nbd_says_has_the_same_reasons(tmp_path: Path, image: Path, old_python: None) -> None:
    address, psk = unix(tmp_path, tls=True), psk_file(tmp_path / "psk")
    options = {"uri": str(address), "tls_psk_file": str(psk)}
    failed("place_unreachable", **options)
    failed("tls_files", **options, tls_username="bob")
    failed("psk_unsupported", **options, identity=True)
    with serving("qemu-nbd", Served(image), unix(tmp_path)):
        failed("tls_unsupported", **options)
    with serving("qemu-nbd", Served(image), address, *secured("qemu-nbd", psk=psk)) as process:
        other = str(replace(address, export="other"))
        assert failed("export_missing", uri=other, tls_psk_file=str(psk))["evidence"]["exports"] == ["disk"]
        stand_still(process.pid)
        try:
            failed("export_unresponsive", **options, timeout=0.5)
        finally:
            os.kill(process.pid, signal.SIGCONT)


# --- what there is


def test_everything_about_an_export(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    path, address = create(tmp_path / "served" / "image", "qcow2", "64M"), unix(tmp_path, "Größe, 1")
    qemu_img("bitmap", "--add", path, "b0")
    more = ("-B", "b0", "-A", "-D", "The disk of «web1»")
    with serving("qemu-nbd", Served(path, "qcow2", "Größe, 1", writable=True, more=more), address):
        result = beats(tmp_path / "served", uri=str(replace(address, export="")))
        assert qemu_nbd_list("-k", address.socket) == ["Größe, 1"]
        assert beats(tmp_path / "served", uri=result["exports"][0]["uri"])["exports"] == result["exports"]
    assert result["listed"] is True
    assert result["exports"] == [
        {
            "name": "Größe, 1",
            "uri": str(address),
            "description": "The disk of «web1»",
            "canonical_name": "Größe, 1",
            "size": 64 * MIB,
            "flags": {
                "read_only": False,
                "rotational": False,
                "can_flush": True,
                "can_fua": True,
                "can_trim": True,
                "can_zero": True,
                "can_fast_zero": True,
                "can_df": True,
                "can_cache": True,
                "can_multi_conn": True,
            },
            "block_size": {"minimum": 1, "preferred": 4096, "maximum": 32 * MIB},
            "contexts": ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0"],
        }
    ]


def test_many_exports(tmp_path: Path) -> None:
    names = [f"disk{number}" for number in range(200)]
    plugin = ("memory", "1M", *(f"exportname={name}" for name in names), "exportname-list=explicit")
    with serving("nbdkit", Served(tmp_path, plugin=plugin, more=("--filter=exportname",)), unix(tmp_path)):
        result = call("nbd_info", uri=str(unix(tmp_path, "")), timeout=30)
    assert sorted(each["name"] for each in result["exports"]) == sorted(names)


def test_a_server_without_exports(tmp_path: Path) -> None:
    plugin = ("memory", "1M", "exportname-list=empty")
    with serving("nbdkit", Served(tmp_path, plugin=plugin, more=("--filter=exportname",)), unix(tmp_path)):
        result = beats(tmp_path, uri=str(unix(tmp_path, "")))
    assert (result["listed"], result["exports"]) == (True, [])


def test_an_export_that_is_not_there(tmp_path: Path, image: Path) -> None:
    with serving("qemu-nbd", Served(image), unix(tmp_path)):
        result = failed("export_missing", uri=str(unix(tmp_path, "other")))
    assert result["evidence"]["exports"] == ["disk"]
    assert 'does not have the export "other"' in result["msg"]


def test_a_listed_export_that_cannot_be_asked(tmp_path: Path) -> None:
    """One that goes, or cannot be opened, does not hide the others."""

    def script(peer: Peer) -> None:
        option = peer.ready()
        for name in (b"gone", b"broken"):
            peer.reply(option, SERVER, struct.pack(">I", len(name)) + name)
        peer.reply(option)
        peer.reply(peer.option(), (1 << 31) + 6, b"no such thing")
        peer.reply(peer.option(), (1 << 31) + 2, b"the disk is \x1b[31mon fire")

    with peer(unix(tmp_path).socket, script):
        result = call("nbd_info", uri=str(unix(tmp_path, "")))
    assert [(each["name"], each["reason"]) for each in result["exports"]] == [
        ("gone", "export_missing"),
        ("broken", "nbd_refused"),
    ]
    assert "the disk is \\x1b[31mon fire" in result["exports"][1]["error"]


def test_a_server_that_does_not_list(tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.reply(peer.ready(), (1 << 31) + 2)
        option = peer.option()
        peer.reply(option, 3, struct.pack(">HQH", 0, MIB, 1))
        peer.reply(option)
        peer.reply(peer.option())

    with peer(unix(tmp_path).socket, script):
        result = call("nbd_info", uri=str(unix(tmp_path, "")))
    assert (result["listed"], [each["name"] for each in result["exports"]]) == (False, [""])


def test_names_that_steer_terminals_are_shown_with_escapes(tmp_path: Path) -> None:
    name = b"a\x1b[2J\n\xff\xe2\x80\xae"

    def script(peer: Peer) -> None:
        option = peer.ready()
        peer.reply(option, SERVER, struct.pack(">I", len(name)) + name + b"\x07")
        peer.reply(option)
        peer.reply(peer.option(), (1 << 31) + 6)

    with peer(unix(tmp_path).socket, script):
        (export,) = call("nbd_info", uri=str(unix(tmp_path, "")))["exports"]
    assert (export["name"], export["description"]) == ("a\\x1b[2J\\x0a\\xff\\u202e", "\\x07")
    assert export["uri"].startswith("nbd+unix:///a%1B%5B2J%0A%FF%E2%80%AE?socket=")


# --- identity


def test_identity(tmp_path: Path, image: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-L", "data", str(image)], check=True)
    command = ["blkid", "-p", "-o", "value", "-s", "UUID", str(image)]
    blkid = subprocess.run(command, capture_output=True, text=True, check=True)
    with serving("qemu-nbd", Served(image), unix(tmp_path)):
        (export,) = beats(image.parent, uri=str(unix(tmp_path)), identity=True)["exports"]
    assert export["identity"] == {
        "size": 8 * MIB,
        "formats": [],
        "signatures": [{"type": "ext4", "uuid": blkid.stdout.strip(), "label": "data"}],
        "beginning_sha256": hashlib.sha256(image.read_bytes()[:MIB]).hexdigest(),
    }


def test_an_image_behind_a_raw_export_is_seen(tmp_path: Path) -> None:
    path = create(tmp_path / "image", "qcow2", "8M")
    with serving("nbdkit", Served(path), unix(tmp_path)):
        (export,) = call("nbd_info", uri=str(unix(tmp_path)), identity=True)["exports"]
    assert (export["identity"]["formats"], export["identity"]["signatures"]) == (["qcow2"], [])
    assert export["identity"]["size"] == path.stat().st_size


def test_identity_of_all_exports_of_a_server_for_one_client(tmp_path: Path, image: Path) -> None:
    with serving("qemu-nbd", Served(image, more=("-e", "1")), unix(tmp_path)):
        (export,) = beats(image.parent, uri=str(unix(tmp_path, "")), identity=True)["exports"]
    assert export["identity"]["size"] == 8 * MIB


def test_an_empty_export_has_an_identity(tmp_path: Path) -> None:
    with serving("nbdkit", Served(tmp_path, plugin=("memory", "0")), unix(tmp_path)):
        (export,) = call("nbd_info", uri=str(unix(tmp_path)), identity=True)["exports"]
    assert (export["size"], export["identity"]["signatures"]) == (0, [])


# --- refusals


def test_servers_that_do_not_answer(tmp_path: Path, image: Path) -> None:
    failed("place_unreachable", uri=str(unix(tmp_path)))
    with serving("qemu-nbd", Served(image), unix(tmp_path)) as process:
        stand_still(process.pid)
        try:
            begun = time.monotonic()
            result = failed("export_unresponsive", uri=str(unix(tmp_path)), timeout=0.5)
            assert time.monotonic() - begun < 60
        finally:
            os.kill(process.pid, signal.SIGCONT)
    assert "within 0.5 s" in result["msg"]


def test_a_client_before_us_on_a_server_for_one(tmp_path: Path, image: Path) -> None:
    with serving("qemu-nbd", Served(image, more=("-e", "1")), unix(tmp_path)), socket.socket(socket.AF_UNIX) as other:
        other.connect(unix(tmp_path).socket)
        other.recv(18)
        result = failed("export_unresponsive", uri=str(unix(tmp_path)), timeout=0.5)
    assert "serve one at a time" in result["msg"]


@pytest.mark.parametrize(
    "options",
    [
        {"uri": "http://h/"},
        {"uri": "nbd://h/", "tls_hostname": "h"},
        {"uri": "nbd://h/", "tls_certificates": "/etc/pki"},
        {"uri": "nbd://alice@h/"},
        {"uri": "nbd://h/", "timeout": 0},
        {"uri": "nbds+unix:///?socket=/s", "tls_certificates": "/etc/pki"},
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any]) -> None:
    result = call("nbd_info", **options)
    assert (result["failed"], result["reason"], result["changed"]) == (True, "bad_option", False)
    assert result["msg"].startswith("refused: ")


def test_no_secret_is_in_any_result(tmp_path: Path, image: Path) -> None:
    psk, address = psk_file(tmp_path / "psk"), unix(tmp_path, tls=True)
    with serving("qemu-nbd", Served(image), address, *secured("qemu-nbd", psk=psk)):
        results = [
            call("nbd_info", uri=str(address), tls_psk_file=str(psk)),
            call("nbd_info", uri=str(address), tls_psk_file=str(psk), tls_username="mallory"),
            call("nbd_info", uri="nbds://u:hidden@h/", tls_psk_file=str(psk)),
        ]
    assert [each.get("reason") for each in results[1:]] == ["tls_files", "bad_option"]
    said = json.dumps([{**each, "invocation": None} for each in results])
    assert KEY not in said
    assert "hidden" not in said
