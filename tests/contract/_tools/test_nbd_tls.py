"""NBD over TLS: exactly those get in who should, with each server; and nothing said in the clear counts."""

from __future__ import annotations

import shutil
import ssl
import struct
import subprocess
from pathlib import Path
from typing import Callable

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import NbdError, SpecError
from ansible_collections.platter.qemu.plugins.module_utils._core.nbd_uri import Address
from ansible_collections.platter.qemu.plugins.module_utils._tools.nbd_client import NbdClient
from ansible_collections.platter.qemu.plugins.module_utils._tools.tls import Credentials, can_use_psk
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.nbd import SERVERS, Served, secured, serving, tcp, unix
from ansible_collections.platter.qemu.tests.lab.nbd_peer import Peer, peer
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE
from ansible_collections.platter.qemu.tests.lab.tls import OTHER_KEY, Certificates, certificates, psk_file

needs_psk = pytest.mark.skipif(not can_use_psk(), reason="this Python has no TLS with pre-shared keys")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def served(tmp_path: Path) -> Served:
    path = tmp_path / "image"
    path.write_bytes(b"platter" * (MIB // 7) + bytes(MIB % 7))
    return Served(path)


def get_in(address: Address, credentials: Credentials | None = None) -> str:
    """C(in) for who reads what is there, else the reason why not."""
    try:
        with NbdClient(address, 10, credentials) as client:
            assert len(client.exports()) == 1
            assert client.open("disk").read(0, 7) == b"platter"
            assert client.tls is not None and client.tls[0].startswith("TLSv1.")
    except (NbdError, SpecError) as exc:
        return exc.reason
    return "in"


def libnbd_gets_in(address: Address, parameter: str) -> bool:
    """The same question to nbdinfo."""
    uri = f"{address}?{parameter}"
    return (
        subprocess.run(["nbdinfo", "--size", uri], capture_output=True, timeout=DEADLINE, check=False).returncode == 0
    )


@pytest.mark.parametrize("where", [unix, lambda _path, **more: tcp(**more)], ids=["unix", "tcp"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_right_certificate(
    tmp_path: Path, served: Served, made: Certificates, server: str, where: Callable[..., Address]
) -> None:
    address = where(tmp_path, tls=True)
    with serving(server, served, address, *secured(server, made.server)):
        assert get_in(address, Credentials(str(made.client), hostname="localhost")) == "in"


@needs_psk
@pytest.mark.parametrize("where", [unix, lambda _path, **more: tcp(**more)], ids=["unix", "tcp"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_right_key(tmp_path: Path, served: Served, server: str, where: Callable[..., Address]) -> None:
    address, right = where(tmp_path, tls=True), psk_file(tmp_path / "right")
    wrong, stranger = psk_file(tmp_path / "wrong", OTHER_KEY), psk_file(tmp_path / "stranger", user="mallory")
    with serving(server, served, address, *secured(server, psk=right)):
        table = {
            path.parent.name: get_in(address, Credentials(psk_file=str(path))) for path in (right, wrong, stranger)
        }
        table["certificate"] = get_in(address, Credentials(hostname="localhost"))
        table["plain"] = get_in(Address("disk", address.socket, address.host, address.port))
    assert table == {
        "right": "in",
        "wrong": "tls_failed",
        "stranger": "tls_failed",
        "certificate": "tls_failed",
        "plain": "tls_required",
    }


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "anyone"])
@pytest.mark.parametrize("server", SERVERS)
def test_who_gets_in(served: Served, made: Certificates, server: str, verify: bool) -> None:
    """A server that does not ask for certificates takes everybody; whom we do not know we do not speak with, ever."""
    address = tcp(tls=True)
    clients = (made.client, made.no_certificate, made.foreign, made.other_ca)
    with serving(server, served, address, *secured(server, made.server, verify=verify)):
        table = {each.name: get_in(address, Credentials(str(each))) for each in clients}
        table["system_cas"] = get_in(address)
        table["other_name"] = get_in(address, Credentials(str(made.client), hostname="other.example.org"))
        table["plain"] = get_in(Address("disk", host=address.host, port=address.port))
        theirs = {each.name: libnbd_gets_in(address, f"tls-certificates={each}") for each in clients}
    others = "tls_failed" if verify else "in"
    assert table == {
        "client": "in",
        "no_certificate": others,
        "foreign": others,
        "other_ca": "tls_failed",
        "system_cas": "tls_failed",
        "other_name": "tls_failed",
        "plain": "tls_required",
    }
    assert theirs == {name: table[name] == "in" for name in theirs}


@pytest.mark.parametrize("server", SERVERS)
def test_there_is_no_way_back_to_plain_text(tmp_path: Path, served: Served, made: Certificates, server: str) -> None:
    address = unix(tmp_path)
    with serving(server, served, address):
        with_tls = Address("disk", address.socket, tls=True)
        assert get_in(with_tls, Credentials(str(made.client), hostname="localhost")) == "tls_unsupported"


def test_what_is_sent_before_tls_is_not_taken(tmp_path: Path, made: Certificates) -> None:
    """Who is on the way puts an answer behind that to STARTTLS: it is part of the handshake then, and breaks it."""

    def script(peer: Peer) -> None:
        peer.greet()
        option = peer.option()
        assert option == 5, "nothing is asked before TLS"
        peer.reply(option)
        peer.reply(8)
        peer.reply(3, 2, struct.pack(">I", 4) + b"evil")
        peer.receive(4096)

    with peer(unix(tmp_path).socket, script):
        address = unix(tmp_path, tls=True)
        assert get_in(address, Credentials(str(made.client), hostname="localhost")) == "tls_failed"


def test_a_server_that_stops_in_the_handshake(tmp_path: Path, made: Certificates) -> None:
    def script(peer: Peer) -> None:
        peer.greet()
        peer.reply(peer.option())
        while peer.receive(100):
            pass

    with peer(unix(tmp_path).socket, script), pytest.raises(NbdError) as raised:
        NbdClient(unix(tmp_path, tls=True), 0.4, Credentials(str(made.client), hostname="localhost"))
    assert raised.value.reason == "export_unresponsive"


# --- our own files


def test_a_key_that_others_can_read(tmp_path: Path, made: Certificates) -> None:
    directory = Path(shutil.copytree(made.client, tmp_path / "client"))
    (directory / "client-key.pem").chmod(0o644)
    assert get_in(tcp(tls=True), Credentials(str(directory))) == "key_permissions"


@pytest.mark.parametrize("gone", ["ca-cert.pem", "client-cert.pem", "client-key.pem"])
@pytest.mark.parametrize("how", ["missing", "no PEM"])
def test_files_that_are_none(tmp_path: Path, made: Certificates, gone: str, how: str) -> None:
    directory = Path(shutil.copytree(made.client, tmp_path / "client"))
    (directory / gone).unlink() if how == "missing" else (directory / gone).write_text("no PEM")
    with pytest.raises(SpecError, match=gone) as raised:
        NbdClient(tcp(tls=True), 5, Credentials(str(directory)))
    assert raised.value.reason == "tls_files"


def test_an_encrypted_key_is_no_question_at_the_terminal(tmp_path: Path, made: Certificates) -> None:
    directory = Path(shutil.copytree(made.client, tmp_path / "client"))
    key = directory / "client-key.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(key) + ".new", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    Path(str(key) + ".new").rename(key)
    assert get_in(tcp(tls=True), Credentials(str(directory))) == "tls_files"


@needs_psk
def test_files_of_keys(tmp_path: Path) -> None:
    path = psk_file(tmp_path / "psk")
    for text in ("", "alice:xyz\n", "alice:00\nbob:01\n"):
        path.write_text(text)
        assert get_in(tcp(tls=True), Credentials(psk_file=str(path))) == "tls_files"
    assert get_in(tcp(tls=True), Credentials(psk_file=str(path), user="carol")) == "tls_files"
    path.chmod(0o640)
    assert get_in(tcp(tls=True), Credentials(psk_file=str(path), user="bob")) == "place_unreachable"
    path.chmod(0o644)
    assert get_in(tcp(tls=True), Credentials(psk_file=str(path), user="bob")) == "key_permissions"


def test_a_python_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "HAS_PSK", False, raising=False)
    assert get_in(tcp(tls=True), Credentials(psk_file=str(psk_file(tmp_path / "psk")))) == "psk_unsupported"


def test_a_unix_socket_has_no_name(tmp_path: Path, made: Certificates) -> None:
    assert get_in(unix(tmp_path, tls=True), Credentials(str(made.client))) == "bad_option"
