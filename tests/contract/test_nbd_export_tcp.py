"""Exports by TCP: who listens, and who gets in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, running, wait_until
from ansible_collections.platter.qemu.tests.lab.tls import OTHER_KEY, USER, Certificates, certificates, psk_file


@pytest.fixture
def name() -> Iterator[str]:
    name = exports.new_name()
    with exports.cleaned(name):
        yield name
    assert not exports.leftovers(name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def served(name: str, tmp_path: Path) -> dict[str, Any]:
    """The options of an export of 8 MiB at a free port of the loopback interface."""
    image = create(tmp_path / "web1.qcow2", "qcow2", "8M")
    return {"name": name, "image": str(image), "format": "qcow2", "bind": "127.0.0.1", "port": free_port()}


def listeners(name: str) -> set[str]:
    """Where the server of an export listens, as ss(8) sees it."""
    told = subprocess.run(["ss", "-Hltnp"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return {line.split()[3] for line in told.splitlines() if f"pid={exports.server_of(name)}," in line}


def gets_in(uri: str) -> bool:
    """Whether libnbd does."""
    return (
        subprocess.run(["nbdinfo", "--size", uri], capture_output=True, timeout=DEADLINE, check=False).returncode == 0
    )


def test_loopback_needs_no_more(served: dict[str, Any]) -> None:
    result = four_beats(**served, unpredictable=["virtual_size"])
    assert result["export"]["uri"] == f"nbd://127.0.0.1:{served['port']}/{served['name']}"
    assert result["export"]["virtual_size"] == 8 * MIB
    assert gets_in(result["export"]["uri"])
    assert listeners(served["name"]) == {f"127.0.0.1:{served['port']}"}
    four_beats(name=served["name"], state="absent")
    assert not gets_in(result["export"]["uri"])


def test_a_client_by_tcp_is_named_by_its_address_and_here_by_its_process(served: dict[str, Any]) -> None:
    uri = call("nbd_export", **served)["export"]["uri"]
    with running("qemu-io", "-r", "-f", "raw", uri) as using:
        exports.tell(using, "read 0 512")
        refusal = refused("export_busy", **dict(served, shared=3))
        (client,) = refusal["evidence"]["clients"]
        assert client["address"].startswith("127.0.0.1 port ")
        assert (client["pid"], client["comm"]) == (using.pid, "qemu-io")
        assert f"process {using.pid} (qemu-io) at 127.0.0.1 port " in refusal["msg"]


def test_from_a_socket_to_a_port_is_a_change(served: dict[str, Any]) -> None:
    local = {key: value for key, value in served.items() if key not in ("bind", "port")}
    prepared("nbd_export", **local)
    four_beats(**served, unpredictable=["virtual_size"])
    assert not exports.connects(exports.uri(served["name"]).partition("socket=")[2])


def test_a_port_of_others_is_not_taken(served: dict[str, Any]) -> None:
    with running("qemu-nbd", "-t", "-b", "127.0.0.1", "-p", served["port"], "-f", "qcow2", "-r", served["image"]):
        wait_until(lambda: gets_in(f"nbd://127.0.0.1:{served['port']}/"), "the other one serves")
        refused("socket_in_use", **served)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"bind": "0.0.0.0"}, "open_export"),
        ({"bind": "::", "insecure_plaintext": True}, "open_export"),
        ({"bind": "::ffff:0.0.0.0", "insecure_plaintext": True}, "open_export"),
        ({"bind": "192.0.2.1"}, "open_export"),
        ({"bind": "192.0.2.1", "insecure_plaintext": True}, "address_missing"),
        ({"bind": "localhost"}, "bad_option"),
        ({"bind": "fe80::1%lo", "insecure_plaintext": True}, "bad_option"),
        ({"port": 0}, "bad_option"),
        ({"socket": "/run/x.sock"}, "bad_option"),
        ({"tls": {"x509_dir": "/x", "psk_file": "/y"}}, "bad_option"),
        ({"tls": {"x509_dir": "/x"}}, "bad_option"),
        ({"tls": {"x509_dir": "/x", "authorized": ["CN=a"]}}, "secret_missing"),
        ({"tls": {"psk_file": "/x", "any_client": True}}, "bad_option"),
        ({"tls": {"psk_file": "/x"}, "insecure_plaintext": True}, "bad_option"),
    ],
    ids=str,
)
def test_an_open_door_is_refused(served: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    refused(reason, **{**served, **more})


def test_a_key_that_others_can_read_is_refused(served: dict[str, Any], tmp_path: Path) -> None:
    keys = psk_file(tmp_path / "psk")
    keys.chmod(0o644)
    refused("key_permissions", **served, tls={"psk_file": str(keys)})
    keys.chmod(0o600)
    keys.parent.chmod(0o1777)
    refused("unsafe_directory", **served, tls={"psk_file": str(keys)})


def test_only_authorized_certificates_get_in(served: dict[str, Any], made: Certificates) -> None:
    os.chmod(made.server / "server-key.pem", 0o600)
    tls = {"x509_dir": str(made.server), "authorized": ["CN=client"]}
    result = four_beats(**served, tls=tls)
    uri = result["export"]["uri"]
    assert uri.startswith("nbds://") and "virtual_size" not in result["export"]
    who = {
        each: gets_in(f"{uri}?tls-certificates={getattr(made, each)}")
        for each in ("client", "no_certificate", "foreign")
    }
    assert who == {"client": True, "no_certificate": False, "foreign": False}
    assert not gets_in(uri.replace("nbds://", "nbd://"))
    prepared("nbd_export", **served, tls=dict(tls, authorized=["CN=other, and more"]))
    assert not gets_in(f"{uri}?tls-certificates={made.client}")


def test_only_those_with_the_key_get_in(served: dict[str, Any], tmp_path: Path) -> None:
    keys, others = psk_file(tmp_path / "psk"), psk_file(tmp_path / "other", OTHER_KEY)
    named = (tmp_path / "psk" / "of-web1").with_name("of-web1")
    keys.rename(named)
    result = four_beats(**served, tls={"psk_file": str(named)})
    uri = result["export"]["uri"].replace("nbds://", f"nbds://{USER}@")
    assert gets_in(f"{uri}?tls-psk-file={named}")
    assert not gets_in(f"{uri}?tls-psk-file={others}")
    assert not gets_in(result["export"]["uri"].replace("nbds://", "nbd://"))


@pytest.mark.parametrize("wrong", ["ended", "other key", "other CA"])
def test_certificates_that_no_server_would_start_with_end_no_server(
    served: dict[str, Any], made: Certificates, tmp_path: Path, wrong: str
) -> None:
    keys = shutil.copytree(made.server, tmp_path / "keys")
    (keys / "server-key.pem").chmod(0o600)
    options = {**served, "tls": {"x509_dir": str(keys), "authorized": ["CN=client"]}}
    uri = call("nbd_export", **options)["export"]["uri"]
    if wrong == "other CA":
        shutil.copy(made.other_ca / "ca-cert.pem", keys)
    for kind in {"ended": ("key", "cert"), "other key": ("key",)}.get(wrong, ()):
        shutil.copy(made.ended / f"server-{kind}.pem", keys)
    (keys / "server-key.pem").chmod(0o600)
    if wrong == "other key":  # the server has the certificates that are there
        settled(**options)
    refused("tls_files", **options, shared=3)
    assert gets_in(f"{uri}?tls-certificates={made.client}")


@pytest.mark.parametrize("kind", ["qemu_nbd", "storage_daemon"])
def test_the_next_run_has_a_server_take_new_certificates(served: dict[str, Any], tmp_path: Path, kind: str) -> None:
    keys = {"directory": str(tmp_path / "keys"), "server": ["127.0.0.1"], "clients": ["client"]}
    served["tls"] = {"x509_dir": str(tmp_path / "keys/server"), "authorized": ["CN=client"]}
    served["daemon"] = served["name"] if kind == "storage_daemon" else None
    prepared("nbd_keys", **keys)
    uri = call("nbd_export", **served)["export"]["uri"]
    shutil.rmtree(tmp_path / "keys")
    prepared("nbd_keys", **keys)
    client = f"{uri}?tls-certificates={tmp_path}/keys/clients/client"
    assert not gets_in(client)
    with socket.create_connection(("127.0.0.1", served["port"])):  # who only connects is cut off too
        told = refused("export_busy", **served)
    assert "no option differs, but what it was started with does (certificates, " in told["msg"]
    assert told["evidence"]["changes"] == {}
    four_beats(**served)
    assert gets_in(client)
