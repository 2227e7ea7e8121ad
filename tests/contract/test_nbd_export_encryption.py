"""Encrypted images are served in the clear to those who get in, with a secret that is only ever in its file."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import places, server_storage_daemon
from ansible_collections.platter.qemu.plugins.module_utils._tools import qmp
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import MIB
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

SECRET = "open, sesame: 7"


@pytest.fixture
def name() -> Iterator[str]:
    name = exports.new_name()
    with exports.cleaned(name):
        yield name
    assert not exports.leftovers(name)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with C(secret), and images C(a.luks) and C(a.qcow2) of 4 MiB that it opens, whose first MiB holds 0x5a."""
    directory = tmp_path_factory.mktemp("vault")
    (directory / "secret").touch(0o600)
    (directory / "secret").write_text(SECRET)
    (directory / "wrong").touch(0o600)
    (directory / "wrong").write_text("another")
    for format, prefix in (("luks", ""), ("qcow2", "encrypt.")):
        path, more = directory / f"a.{format}", ["-o", f"{prefix}key-secret=s,{prefix}iter-time=10"]
        more[1] += ",encrypt.format=luks" if prefix else ""
        secret = f"secret,id=s,file={directory}/secret"
        qemu_img("create", "-q", "--object", secret, "-f", format, *more, path, "4M")
        key = f"{'encrypt.' if prefix else ''}key-secret=s"
        options = f"driver={format},{key},file.filename={path}"
        run("qemu-io", "--object", secret, "--image-opts", "-c", "write -P 0x5a 0 1M", options)
    return directory


def run(*argv: object) -> None:
    subprocess.run([str(word) for word in argv], check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)


def served(name: str, vault: Path, server: str, format: str) -> dict[str, Any]:
    by = {"server": server, **({"daemon": name} if server == "storage_daemon" else {})}
    image = {"image": str(vault / f"a.{format}"), "format": format}
    return {"name": name, **image, **by, "encryption": {"secret_file": str(vault / "secret")}}


@pytest.mark.parametrize(
    ("server", "format"), [("qemu_nbd", "luks"), ("qemu_nbd", "qcow2"), ("storage_daemon", "qcow2")]
)
def test_what_is_encrypted_is_served_in_the_clear(name: str, vault: Path, server: str, format: str) -> None:
    options = served(name, vault, server, format)
    result = four_beats(**options, unpredictable=["virtual_size"])
    assert SECRET not in repr(result)
    exports.io(name, "read -P 0x5a 0 1M")
    assert call("nbd_export", **options, read_only=False)["changed"]
    exports.io(name, "write -P 0x66 1M 1M", writes=True)
    exports.kill_server(name)
    exports.io(name, "read -P 0x5a 0 1M", "write -P 0 1M 1M", writes=True)
    if server == "storage_daemon":
        assert call("nbd_export", name=name, state="stopped")["changed"]
        assert call("nbd_export", **options)["changed"]
        settled(**options)


def test_a_daemon_keeps_no_secret_of_an_export_that_has_gone(name: str, vault: Path, tmp_path: Path) -> None:
    options = served(name + "-b", vault, "storage_daemon", "qcow2")
    run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "other.raw", "1M")
    with exports.cleaned(name + "-b"):
        prepared("nbd_export", name=name, image=str(tmp_path / "other.raw"), format="raw", daemon=name)
        assert call("nbd_export", **dict(options, daemon=name))["changed"]
        with qmp.Qmp.connect(places.monitor(name), 10) as monitor:
            assert _secrets(monitor, name + "-b") == 1
        prepared("nbd_export", name=name + "-b", state="absent")
        with qmp.Qmp.connect(places.monitor(name), 10) as monitor:
            assert _secrets(monitor, name + "-b") == 0


def _secrets(monitor: qmp.Qmp, name: str) -> int:
    objects = [each["name"] for each in monitor.execute("qom-list", {"path": "/objects"})]
    prefix = server_storage_daemon.node_prefix(name)
    return sum(each.startswith(prefix) and each.endswith(".secret") for each in objects)


def test_without_the_right_secret_nothing_is_begun(name: str, vault: Path, tmp_path: Path) -> None:
    options = served(name, vault, "qemu_nbd", "qcow2")
    refused("secret_missing", **dict(options, encryption=None))
    refused("secret_missing", **dict(options, encryption={"secret_file": str(vault / "none")}))
    refused("wrong_secret", **dict(options, encryption={"secret_file": str(vault / "wrong")}))
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "open").chmod(0o640)
    refused("key_permissions", **dict(options, encryption={"secret_file": str(tmp_path / "open")}))
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "plain.qcow2", "1M")
    refused("bad_option", **dict(options, image=str(tmp_path / "plain.qcow2")))
    refused("bad_option", **dict(options, image=str(vault / "a.luks"), format="raw"))


def test_as_raw_a_luks_image_is_served_as_it_is(name: str, vault: Path) -> None:
    assert call("nbd_export", name=name, image=str(vault / "a.luks"), format="raw")["changed"]
    told = exports.nbdinfo(name)
    assert told["export-size"] == (vault / "a.luks").stat().st_size > 4 * MIB
