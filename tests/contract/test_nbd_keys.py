"""Keys for NBD over TLS: made whole, each for its owner, and let in by the servers; what is there stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._keys import observe
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared, process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.patterns import files_of
from ansible_collections.platter.qemu.tests.lab.ports import free_port

SERVER, CLIENTS = ["localhost", "127.0.0.1"], ["backup1", "backup2"]


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    return {"directory": str(tmp_path / "pki"), "server": SERVER, "clients": CLIENTS}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, as each program that is started costs time."""
    directory = tmp_path_factory.mktemp("first") / "pki"
    assert call("nbd_keys", directory=str(directory), server=SERVER, clients=CLIENTS)["changed"]
    return directory


@pytest.fixture
def made(asked: dict[str, Any], first: Path) -> dict[str, Any]:
    """The options of a directory in which all of it is."""
    shutil.copytree(first, asked["directory"])
    return asked


def four_beats(**options: Any) -> dict[str, Any]:
    """Check, real, again, again in check mode; two of them write nothing."""
    place = Path(options["directory"])
    before = files_of(place)
    checked = call("nbd_keys", check=True, **options)
    assert checked["changed"] and files_of(place) == before, checked
    real = call("nbd_keys", **options)
    told = ("changed", "actions", "diff", "nbd_keys")
    assert [real[key] for key in told] == [checked[key] for key in told]
    settled(**options)
    return real


def settled(**options: Any) -> dict[str, Any]:
    before = files_of(Path(options["directory"]))
    results = [call("nbd_keys", check=check, **options) for check in (False, True)]
    assert [(each["changed"], each["actions"], each.get("failed")) for each in results] == [(False, [], None)] * 2
    assert files_of(Path(options["directory"])) == before
    return results[0]


def refused(reason: str, **options: Any) -> dict[str, Any]:
    before = files_of(Path(options["directory"]))
    results = [call("nbd_keys", check=check, **options) for check in (True, False)]
    assert [(each.get("reason"), each["changed"]) for each in results] == [(reason, False)] * 2, results
    assert results[0]["msg"].startswith("refused: ") and files_of(Path(options["directory"])) == before
    return results[1]


def openssl(*words: object) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def test_who_is_listed_gets_in(asked: dict[str, Any], tmp_path: Path) -> None:
    made = four_beats(**asked)["nbd_keys"]
    assert made["authorized"] == ["CN=backup1", "CN=backup2"]
    name, image = exports.new_name(), create(tmp_path / "a.raw", "raw", "1M")
    served = {"name": name, "image": str(image), "format": "raw", "bind": "127.0.0.1", "port": free_port()}
    with exports.cleaned(name):
        tls = {"x509_dir": made["x509_dir"], "authorized": made["authorized"][:1]}
        uri = call("nbd_export", **served, tls=tls)["export"]["uri"]
        who = {each: exports.gets_in(f"{uri}?tls-certificates={made['clients'][each]}") for each in asked["clients"]}
        assert who == {"backup1": True, "backup2": False}
        keys = call("nbd_keys", directory=str(tmp_path / "shared"), kind="keys", clients=["backup1"])["nbd_keys"]
        uri = call("nbd_export", **served, tls={"psk_file": keys["psk_file"]})["export"]["uri"]
        own = f"{uri.replace('nbds://', 'nbds://backup1@')}?tls-psk-file={keys['clients']['backup1']}/keys.psk"
        assert exports.gets_in(own) and not exports.gets_in(uri.replace("nbds:", "nbd:"))


def test_keys_are_for_their_owner_and_never_shown(asked: dict[str, Any], tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        results = [four_beats(**asked), four_beats(directory=str(tmp_path / "psk"), kind="keys", clients=["a"])]
    finally:
        os.umask(old)
    secrets = [*tmp_path.rglob("*-key.pem"), *tmp_path.rglob("keys.psk")]
    assert len(secrets) == 6
    for path in secrets:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().strip().splitlines()[-1][-20:] not in repr(results)
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.stat().st_mode & 0o077]


def test_another_client_is_added_and_nothing_else_changes(made: dict[str, Any]) -> None:
    before = files_of(Path(made["directory"]))
    four_beats(**dict(made, clients=["backup1", "backup3"]))
    after = files_of(Path(made["directory"]))
    assert {path: after[path] for path in before} == before and len(after) == len(before) + 4


def test_shared_keys_of_others_stay(tmp_path: Path) -> None:
    asked = {"directory": str(tmp_path), "kind": "keys", "clients": ["a", "b"]}
    four_beats(**asked)
    shared, own = tmp_path / "keys.psk", tmp_path / "clients/b/keys.psk"
    lines = shared.read_text().splitlines()
    own.unlink()
    four_beats(**asked)
    assert own.read_text().splitlines() == [lines[1]] and shared.read_text().splitlines() == lines
    shared.write_text(lines[0] + "\n")  # b was shut out
    assert "Take it out of clients" in refused("client_shut_out", **asked)["msg"]
    settled(**{**asked, "clients": ["a"]})
    shared.write_text("\n".join([lines[0], "b:" + lines[0].partition(":")[2]]) + "\n")
    refused("keys_differ", **asked)


def test_a_certificate_that_ends_is_told_and_not_renewed_unless_agreed(
    made: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, now = Path(made["directory"]), time.time()
    keys = {path: path.read_bytes() for path in place.rglob("*-key.pem")}
    monkeypatch.setattr(observe.time, "time", lambda: now + 350 * 86400)
    told = settled(**made)
    assert "end within 30 days: ca, server, clients/backup1" in repr(told["warnings"])
    monkeypatch.setattr(observe.time, "time", lambda: now + 366 * 86400)
    assert "renew" in refused("keys_ended", **made)["msg"]
    result = call("nbd_keys", **made, renew=True, days=3650)
    assert [action.split(";")[0] for action in result["actions"]][:1] == [
        "Renew the certificate in ca, for 3650 days"
    ] and len(result["actions"]) == 4
    settled(**made, renew=True)
    assert {path: path.read_bytes() for path in place.rglob("*-key.pem")} == keys
    for part in ("server/server", "clients/backup1/client"):
        openssl("verify", "-CAfile", (place / part).parent / "ca-cert.pem", place / f"{part}-cert.pem")


def test_other_names_of_the_server_are_no_silent_change(made: dict[str, Any]) -> None:
    more = dict(made, server=["store1.example.org", "::1"])
    refused("keys_differ", **more)
    assert call("nbd_keys", **more, renew=True)["changed"]
    settled(**more)
    told = openssl(
        "x509", "-in", Path(made["directory"]) / "server/server-cert.pem", "-noout", "-ext", "subjectAltName"
    )
    assert "DNS:store1.example.org" in told and "127.0.0.1" not in told


@pytest.mark.parametrize("damage", ["no key", "other key", "other CA", "text", "link", "mode"])
def test_what_it_has_not_made_is_not_touched(made: dict[str, Any], tmp_path: Path, damage: str) -> None:
    place = Path(made["directory"])
    key, certificate = place / "ca/ca-key.pem", place / "server/server-cert.pem"
    if damage == "no key":
        key.unlink()
    elif damage == "other key":
        key.write_text(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    elif damage == "other CA":
        prepared("nbd_keys", **dict(made, directory=str(tmp_path / "other")))
        certificate.write_bytes((tmp_path / "other/server/server-cert.pem").read_bytes())
        (place / "server/server-key.pem").write_bytes((tmp_path / "other/server/server-key.pem").read_bytes())
    elif damage == "text":
        certificate.write_text("no certificate\n")
    elif damage == "link":
        key.rename(tmp_path / "key")
        key.symlink_to(tmp_path / "key")
    else:
        key.chmod(0o640)
    for renew in (False, True):
        refused("key_permissions" if damage == "mode" else "keys_foreign", **made, renew=renew)


def test_a_run_that_is_killed_leaves_nothing_half(asked: dict[str, Any]) -> None:
    place = Path(asked["directory"])
    for milliseconds in (200, 300):
        module = process("nbd_keys", **asked)
        try:
            module.wait(milliseconds / 1000)
        except subprocess.TimeoutExpired:
            module.kill()
        module.communicate()
        seen = {path.parent for path in place.rglob("*-key.pem") if ".platter-keys." not in str(path)}
        assert all(len(list(each.glob("*-cert.pem"))) >= 1 for each in seen)
        result = call("nbd_keys", **asked)
        assert not result.get("failed"), result
        settled(**asked)
        assert not list(place.glob(".platter-keys.*"))
        place.rename(place.with_name(f"pki-{milliseconds}"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"server": []}, "bad_option"),
        ({"server": ["a b"]}, "bad_name"),
        ({"server": ["a,DNS:b"]}, "bad_name"),
        ({"clients": ["../x"]}, "bad_option"),
        ({"clients": ["a\nb"]}, "bad_option"),
        ({"days": 7}, "bad_option"),
        ({"kind": "keys"}, "bad_option"),
        ({"directory": "relative"}, "bad_path"),
        ({"directory": "/nonexistent/pki"}, "directory_missing"),
    ],
)
def test_what_cannot_be_made_is_refused(asked: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    result = call("nbd_keys", **dict(asked, **more))
    assert (result["reason"], result["changed"]) == (reason, False), result


def test_keys_do_not_belong_where_others_can_write(asked: dict[str, Any], tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    refused("unsafe_directory", **asked)
