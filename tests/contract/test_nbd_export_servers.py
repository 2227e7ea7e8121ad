"""Each server at each door, with independent clients; who gets in; and what a server's end leaves of what was written."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import servers
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, first_client, wait_until
from ansible_collections.platter.qemu.tests.lab.tls import OTHER_KEY, USER, Certificates, certificates, psk_file

DOORS = ("unix", "tcp", "x509", "psk")


@pytest.fixture
def name() -> Iterator[str]:
    name = exports.new_name()
    with exports.cleaned(name):
        yield name
    assert not exports.leftovers(name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A raw image of 8 MiB whose first MiB holds 0x5a."""
    path = create(tmp_path / "a.raw", "raw", "8M")
    path.write_bytes(b"\x5a" * MIB + bytes(7 * MIB))
    return path


class Keys:
    """Of the server, of those who get in, and of those who do not."""

    def __init__(self, directory: Path) -> None:
        self.made: Certificates = certificates(directory)
        os.chmod(self.made.server / "server-key.pem", 0o600)
        self.psk, self.other_psk = psk_file(directory / "psk"), psk_file(directory / "other_psk", OTHER_KEY)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


def door_options(door: str, server: str, keys: Keys) -> dict[str, Any]:
    """Where it is served, and to whom."""
    if door == "unix":
        return {}
    where = {"bind": "127.0.0.1", "port": free_port()}
    if door == "tcp":
        return where
    if door == "psk":
        return {**where, "tls": {"psk_file": str(keys.psk)}}
    who = {"any_client": True} if server == "nbdkit" else {"authorized": ["CN=client"]}
    return {**where, "tls": {"x509_dir": str(keys.made.server), **who}}


def by(server: str, name: str) -> dict[str, Any]:
    """Served by it; by a daemon of its own, as tests run side by side."""
    return {"server": server, **({"daemon": name} if server == "storage_daemon" else {})}


def client_uri(uri: str, door: str, keys: Keys) -> str:
    """As the right client names it."""
    if door == "psk":
        return uri.replace("nbds://", f"nbds://{USER}@") + f"?tls-psk-file={keys.psk}"
    return uri + (f"?tls-certificates={keys.made.client}" if door == "x509" else "")


def qemu_words(export: dict[str, Any], door: str, keys: Keys) -> tuple[list[str], str]:
    """As the right client of QEMU's own names it: options, and the node."""
    unix = f"file.server.type=unix,file.server.path={export.get('socket')}"
    inet = f"file.server.type=inet,file.server.host=127.0.0.1,file.server.port={export.get('port')}"
    node = f"driver=raw,file.driver=nbd,file.export={export['name']},{unix if door == 'unix' else inet}"
    if door not in ("x509", "psk"):
        return ["--image-opts"], node
    kind = f"x509,dir={keys.made.client}" if door == "x509" else f"psk,dir={keys.psk.parent},username={USER}"
    return ["--object", f"tls-creds-{kind},id=t,endpoint=client", "--image-opts"], f"{node},file.tls-creds=t"


def run(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("server", servers.ORDER)
def test_clients_read_and_write_at_each_door(
    name: str, image: Path, keys: Keys, tmp_path: Path, server: str, door: str
) -> None:
    options = {"name": name, "image": str(image), "format": "raw", **by(server, name), "read_only": False}
    options.update(door_options(door, server, keys))
    result = call("nbd_export", **options)
    assert result.get("changed") and result["export"]["server"] == server, result
    settled(**options)
    uri = client_uri(result["export"]["uri"], door, keys)
    (tmp_path / "new").write_bytes(os.urandom(MIB) + bytes(7 * MIB))
    run("nbdcopy", "--flush", tmp_path / "new", uri)
    told = subprocess.run(["nbdinfo", uri], capture_output=True, text=True, timeout=DEADLINE, check=True).stdout
    assert "export-size: 8388608" in told and "is_read_only: false" in told
    result = call("nbd_export", **dict(options, read_only=True))
    assert len(result["actions"]) == 3, result
    run("nbdcopy", uri, tmp_path / "copy")
    run("cmp", tmp_path / "copy", tmp_path / "new")
    run("cmp", tmp_path / "copy", image)
    words, node = qemu_words(result["export"], door, keys)
    run("qemu-img", "convert", *words, "-O", "raw", node, tmp_path / "copy")
    run("cmp", tmp_path / "copy", image)
    argv = ["qemu-io", *words, "-c", "write 0 512", node]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0


#: by certificates; the guide has the same table
WHO = {
    "client": True,
    "other_name": False,
    "as_server": False,
    "server": False,
    "no_certificate": False,
    "foreign": False,
    "other_ca": False,
    "ended": False,
}
#: no name is looked at, nor what a certificate is for
ANY_CLIENT = dict(WHO, other_name=True, as_server=True)


@pytest.mark.parametrize("server", servers.ORDER)
def test_who_gets_in(name: str, image: Path, keys: Keys, server: str) -> None:
    options = {"name": name, "image": str(image), "format": "raw", **by(server, name)}
    uri = call("nbd_export", **options, **door_options("x509", server, keys))["export"]["uri"]
    assert _who(uri, keys) == (ANY_CLIENT if server == "nbdkit" else WHO)
    assert not exports.gets_in(uri.replace("nbds://", "nbd://")) and not _lists(uri, keys.made.foreign)
    uri = call("nbd_export", **options, **door_options("psk", server, keys))["export"]["uri"]
    own, other = (f"tls-psk-file={path}" for path in (keys.psk, keys.other_psk))
    secure = {user: uri.replace("nbds://", f"nbds://{user}@") for user in (USER, "mallory")}
    renamed = keys.other_psk.with_name("mallory.psk")
    renamed.write_text(keys.psk.read_text().replace(USER, "mallory"))
    told = [
        exports.gets_in(f"{secure[USER]}?{own}"),
        exports.gets_in(f"{secure[USER]}?{other}"),
        exports.gets_in(f"{secure['mallory']}?tls-psk-file={renamed}"),
        exports.gets_in(uri.replace("nbds://", "nbd://")),
    ]
    assert told == [True, False, False, False]


def _who(uri: str, keys: Keys) -> dict[str, bool]:
    return {each: exports.gets_in(f"{uri}?tls-certificates={getattr(keys.made, each)}") for each in WHO}


def _lists(uri: str, certificates: Path) -> bool:
    """Whether the names of the exports can be had."""
    place = uri[: uri.rindex("/") + 1]
    argv = ["nbdinfo", "--list", f"{place}?tls-certificates={certificates}"]
    return subprocess.run(argv, capture_output=True, timeout=DEADLINE, check=False).returncode == 0


def test_with_any_client_all_of_that_ca_get_in(name: str, image: Path, keys: Keys) -> None:
    tls = {"x509_dir": str(keys.made.server), "any_client": True}
    where = {"bind": "127.0.0.1", "port": free_port()}
    uri = call("nbd_export", name=name, image=str(image), format="raw", **where, tls=tls)["export"]["uri"]
    assert _who(uri, keys) == ANY_CLIENT


@pytest.mark.parametrize(("server", "door"), [*((server, "unix") for server in servers.ORDER), ("qemu_nbd", "x509")])
def test_who_talks_nonsense_keeps_nobody_out(name: str, image: Path, keys: Keys, server: str, door: str) -> None:
    options = {"name": name, "image": str(image), "format": "raw", **by(server, name), "shared": 64}
    options.update(door_options(door, server, keys))
    uri = call("nbd_export", **options)["export"]["uri"]
    with contextlib.ExitStack() as half_open:
        for number in range(200):
            nonsense = _connection(name, options)
            if number % 8:
                nonsense.sendall(bytes([number]) * 512)
                nonsense.close()
            else:
                half_open.enter_context(nonsense)
        assert exports.gets_in(client_uri(uri, door, keys))
        if door == "unix":
            exports.io(name, "read -P 0x5a 0 1M")
    settled(**options)


@pytest.mark.parametrize("server", servers.ORDER)
def test_a_server_whose_clients_were_quicker_than_the_look_at_it_serves(name: str, image: Path, server: str) -> None:
    options = {"name": name, "image": str(image), "format": "raw", **by(server, name), "shared": 1}
    place = Path(own_places.socket_directory(), f"{name}.sock")
    with first_client(place, name) as served:
        made = call("nbd_export", **options)
        assert not made.get("failed"), made
        served()
        settled(**options)


def _connection(name: str, options: dict[str, Any]) -> socket.socket:
    if "port" in options:
        return socket.create_connection((options["bind"], options["port"]), timeout=DEADLINE)
    made = socket.socket(socket.AF_UNIX)
    made.connect(f"{own_places.socket_directory()}/{name}.sock")
    return made


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize(
    ("server", "format"),
    [*((server, "raw") for server in servers.ORDER), ("qemu_nbd", "qcow2"), ("storage_daemon", "qcow2")],
)
def test_what_was_flushed_is_there_whatever_ends_the_server(
    name: str, image: Path, server: str, format: str, number: signal.Signals
) -> None:
    """While a client goes on writing elsewhere."""
    if format == "qcow2":
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, image.with_suffix(".qcow2"))
        image = image.with_suffix(".qcow2")
    options = {"name": name, "image": str(image), "format": format, **by(server, name), "read_only": False}
    prepared("nbd_export", **options)
    with exports.client(name) as using:
        exports.tell(using, "write -P 0x77 1M 1M", "flush")
        assert using.stdin
        using.stdin.write(b"write -P 0x78 4M 2M\n")
        exports.kill_server(name) if number == signal.SIGKILL else os.kill(exports.server_of(name), number)
        run("qemu-io", "-r", "-U", "-f", format, "-c", "read -P 0x5a 0 1M", "-c", "read -P 0x77 1M 1M", image)
    if number == signal.SIGSTOP:
        os.kill(exports.server_of(name), signal.SIGCONT)
    if number == signal.SIGTERM:
        wait_until(lambda: not exports.processes_of(name), "the server ends")
        assert len(call("nbd_export", **options)["actions"]) == 1
    exports.io(name, "read -P 0x5a 0 1M", "read -P 0x77 1M 1M")
    settled(**options)


# --- nbdkit


@pytest.mark.parametrize("read_only", [True, False])
def test_qemu_sees_what_nbdkit_does_with_an_image(name: str, image: Path, read_only: bool) -> None:
    """nbdkit itself takes no lock."""
    options = {"name": name, "image": str(image), "format": "raw", "server": "nbdkit", "read_only": read_only}
    prepared("nbd_export", **options)
    for writer in (
        ["qemu-img", "resize", "-f", "raw", image, "16M"],
        ["qemu-io", "-f", "raw", "-c", "write 0 512", image],
    ):
        done = subprocess.run([str(word) for word in writer], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "lock" in done.stderr, done
    exports.kill_server(name)
    assert subprocess.run(["qemu-img", "resize", "-f", "raw", str(image), "16M"], check=False).returncode == 1
    prepared("nbd_export", name=name, state="absent")
    run("qemu-img", "resize", "-f", "raw", image, "16M")


def test_nbdkit_serves_no_image_that_a_qemu_writes_to(name: str, image: Path) -> None:
    """Also when that comes between our look and its start."""
    options = {"name": name, "image": str(image), "format": "raw", "server": "nbdkit"}
    prepared("nbd_export", **options)
    prepared("nbd_export", name=name, state="stopped")
    with subprocess.Popen(
        ["qemu-io", "-f", "raw", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        exports.tell(writer, "write -P 1 0 512")
        refused("image_in_use", **options)
        argv = [*_launcher(name), "/bin/echo", "served"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "") and "in use by a running QEMU" in done.stderr
        writer.communicate(b"quit\n")


def _launcher(name: str) -> tuple[str, ...]:
    from ansible_collections.platter.qemu.plugins.module_utils._export import declared

    made = declared.read(name)
    assert made
    return made.launcher


def test_filters_of_nbdkit(name: str, tmp_path: Path) -> None:
    image = create(tmp_path / "disk.raw", "raw", "8M")
    run("sh", "-c", f"echo '2048,4096' | sfdisk -q {image}")
    with open(image, "r+b") as stream:
        stream.seek(MIB)
        stream.write(b"\x22" * MIB)
    options = {"name": name, "image": str(image), "format": "raw", "read_only": False, "cow": True, "partition": 1}
    result = call("nbd_export", **options, delay={"read_ms": 300})
    assert "qemu_nbd finds no partitions" in result["actions"][0]
    assert result["export"]["virtual_size"] == 2 * MIB
    exports.io(name, "read -P 0x22 0 1M", "write -P 0x33 0 1M", "read -P 0x33 0 1M", writes=True)
    with open(image, "rb") as stream:
        stream.seek(MIB)
        assert stream.read(MIB) == b"\x22" * MIB
    settled(**options, delay={"read_ms": 300})
    result = call("nbd_export", **{**options, "partition": 9})
    assert result["reason"] == "server_failed" and not exports.processes_of(name), result


@pytest.mark.parametrize("server", servers.ORDER)
def test_a_throttled_export_is_slow(name: str, image: Path, server: str) -> None:
    options = {"name": name, "image": str(image), "format": "raw", **by(server, name), "throttle": {"bps": "1M"}}
    image.write_bytes(os.urandom(8 * MIB))
    prepared("nbd_export", **options)
    settled(**options)
    argv = [
        "timeout",
        "0.7",
        "nbdcopy",
        "--requests=1",
        "--connections=1",
        "--request-size=65536",
        exports.uri(name),
        "null:",
    ]
    assert subprocess.run(argv, check=False).returncode == 124


def test_only_addresses_that_are_allowed_get_in(name: str, image: Path) -> None:
    """Where nbdkit can read addresses: that of Debian 12 (1.32.5) cannot, and so serves nobody."""
    options = {"name": name, "image": str(image), "format": "raw", "bind": "127.0.0.1", "port": free_port()}
    result = call("nbd_export", **options, allow_from=["192.0.2.0/24", "127.0.0.1"])
    if result.get("failed"):
        assert result["reason"] == "server_failed" and "cannot parse address" in result["msg"], result["msg"]
        assert not exports.processes_of(name)
        return
    uri = result["export"]["uri"]
    assert exports.gets_in(uri)
    prepared("nbd_export", **options, allow_from=["192.0.2.0/24"])
    assert not exports.gets_in(uri)


def test_an_image_that_others_can_replace_is_not_for_nbdkit(name: str, image: Path) -> None:
    """It would open whatever lies there when the next client comes."""
    image.parent.chmod(0o777)
    options = {"name": name, "image": str(image), "format": "raw", "read_only": True}
    refused("unsafe_directory", **options, server="nbdkit")
    assert call("nbd_export", **options)["changed"]
