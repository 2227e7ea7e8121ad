"""Internal snapshots of encrypted images that nobody has open: what each holds is read by QEMU's tools with the secret."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.guest import KIB, filename, qemu_io, shows
from ansible_collections.platter.qemu.tests.lab.machine import machine
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, qemu_img
from ansible_collections.platter.qemu.tests.lab.qemu import qcow2

SECRET = "ge,heim: 'ü'"


@dataclass
class Vault:
    """An encrypted image with its secret in a file."""

    image: Path
    key: Path

    def task(self, **options: Any) -> dict[str, Any]:
        return {"image": str(self.image), "format": "qcow2", "encryption": {"secret_file": str(self.key)}, **options}

    def write(self, byte: int) -> None:
        qemu_io(self.image, "qcow2", f"write -q -P {byte} 0 64k", secret=self.key)

    def holds(self, byte: int, snapshot: str = "") -> None:
        """The disk, or a snapshot that is copied out of it, has that byte where C(write) wrote it."""
        if not snapshot:
            shows(self.image, "qcow2", ((byte, 0, 64 * KIB),), secret=self.key)
            return
        with tempfile.TemporaryDirectory() as directory:
            given = ("--object", f"secret,id=sec0,file={self.key}", "-l", f"snapshot.name={snapshot}", "-O", "raw")
            qemu_img("convert", *given, filename(self.image, "qcow2", True), f"{directory}/raw")
            shows(f"{directory}/raw", "raw", ((byte, 0, 64 * KIB),))

    def sound(self) -> None:
        qemu_img("check", "-q", "--object", f"secret,id=sec0,file={self.key}", filename(self.image, "qcow2", True))

    def names(self) -> list[str]:
        return [each["name"] for each in info(self.image, "qcow2").get("snapshots", [])]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """Made once: QEMU measures the machine for seconds whenever it makes a key."""
    place = tmp_path_factory.mktemp("vault")
    key = place / "key"
    key.write_text(SECRET)
    key.chmod(0o600)
    options = "encrypt.format=luks,encrypt.key-secret=sec0,encrypt.iter-time=10"
    image = create(place / "vault.qcow2", "qcow2", "1M", options, "--object", f"secret,id=sec0,file={key}")
    one = Vault(image, key)
    one.write(1)
    return one


@pytest.fixture
def vault(tmp_path: Path, made: Vault) -> Vault:
    place = tmp_path / "images"
    place.mkdir()
    return Vault(Path(shutil.copy(made.image, place)), Path(shutil.copy(made.key, tmp_path)))


@pytest.mark.parametrize("given", ["secret", "secret_file"])
def test_there_is_a_way_back(vault: Vault, given: str) -> None:
    secret = {"encryption": {given: SECRET if given == "secret" else str(vault.key)}}
    four_beats(**vault.task(name="s1", **secret))
    vault.write(2)
    result = four_beats(**vault.task(name="s1", state="reverted", **secret))
    assert [each["name"] for each in result["snapshot"]["snapshots"]] == ["s1", "s1.undone"] == vault.names()
    vault.holds(1), vault.holds(1, "s1"), vault.holds(2, "s1.undone")
    four_beats(**vault.task(name="s1.undone", state="reverted", **secret))
    vault.holds(2), vault.holds(1, "s1")
    four_beats(**vault.task(name="s1", state="absent", **secret))
    vault.holds(2), vault.holds(2, "s1.undone"), vault.sound()
    assert vault.names() == ["s1.undone"]


def test_old_ones_are_pruned_and_bitmaps_kept(vault: Vault) -> None:
    for byte in (2, 3):
        four_beats(**vault.task(name=f"s{byte}"))
        vault.write(byte)
    four_beats(**vault.task(state="pruned", retention={"keep_last": 1}))
    vault.holds(3), vault.holds(2, "s3"), vault.sound()
    four_beats(**vault.task(bitmaps=[{"name": "daily"}]))
    four_beats(**vault.task(bitmaps=[{"name": "daily", "enabled": False}]))
    four_beats(**vault.task(bitmaps=[{"name": "daily", "state": "absent"}]))
    assert vault.names() == ["s3"]


@pytest.mark.parametrize(
    ("reason", "encryption"),
    [("secret_missing", None), ("wrong_secret", {"secret": "another"}), ("secret_missing", {"secret_file": "/none"})],
)
def test_an_image_that_does_not_open_is_told_first(vault: Vault, reason: str, encryption: Any) -> None:
    settled(**vault.task(name="s1", state="absent"))
    refused(reason, **vault.task(name="s1", encryption=encryption))
    assert vault.names() == []


def test_the_way_back_needs_the_secret_once_the_vm_is_stopped(tmp_path: Path, vault: Vault) -> None:
    encrypt = {"format": "luks", "key-secret": "key"}
    disk = ["-object", f"secret,id=key,file={vault.key}", *qcow2("n0", vault.image, encrypt=encrypt)]
    with machine(tmp_path / "qmp", disk) as vm:
        live = {"name": "s1", "qmp_socket": str(vm.socket)}
        four_beats(**vault.task(**live, encryption=None))
        refused("secret_missing", **vault.task(**live, state="reverted", encryption=None))
        refused("wrong_secret", **vault.task(**live, state="reverted", encryption={"secret": "another"}))
        refused("guest_running", **vault.task(**live, state="reverted"))


def test_what_needs_no_change_needs_no_secret(vault: Vault) -> None:
    four_beats(**vault.task(name="s1"))
    settled(**vault.task(name="s1", encryption=None))
    settled(**vault.task(name="s1", state="reverted", encryption=None))


def test_a_key_that_others_can_read_is_refused(vault: Vault) -> None:
    vault.key.chmod(0o644)
    told = refused("key_permissions", **vault.task(name="s1"))
    assert str(vault.image) in told["msg"]


def test_a_secret_for_a_plain_image_is_not_used(tmp_path: Path, vault: Vault) -> None:
    plain = create(vault.image.parent / "plain.qcow2", "qcow2", "1M")
    both = [{"image": str(vault.image)}, {"image": str(plain)}]
    result = four_beats(snapshots=both, format="qcow2", name="s1", encryption={"secret_file": str(vault.key)})
    assert len(result["actions"]) == 2


def test_an_overlay_would_not_be_encrypted(vault: Vault) -> None:
    refused("bad_option", **vault.task(name="s1", kind="external"))
    told = refused("image_encrypted", **vault.task(name="s1", kind="external", encryption=None))
    assert told["evidence"] == {"format": "qcow2", "encryption": "luks"} and "kind to internal" in told["msg"]


def test_a_disk_on_an_encrypted_image_is_for_its_vm(vault: Vault) -> None:
    """QEMU asks for a secret of each; a merge must not be begun that cannot be ended."""
    overlay = vault.image.parent / "overlay.qcow2"
    create(overlay, "qcow2", "1M", "", "-u", "-b", vault.image, "-F", "qcow2")
    task = {"image": str(overlay), "format": "qcow2"}
    for more in ({"name": "s1"}, {"bitmaps": [{"name": "b"}]}):
        assert "qmp_socket" in refused("image_encrypted", **task, **more)["msg"]
    external = {**task, "kind": "external", "switch": "rename", "name": "s1"}
    four_beats(**external)
    for state in ("committed", "streamed"):
        assert "qmp_socket" in refused("image_encrypted", **external, state=state)["msg"]


def test_the_old_encryption_is_left_alone(tmp_path: Path, vault: Vault) -> None:
    """By its header only: QEMU makes no such images any more without being asked twice."""
    data = bytearray(create(vault.image.parent / "old.qcow2", "qcow2", "1M", "compat=0.10").read_bytes())
    data[32:36] = (1).to_bytes(4, "big")
    (vault.image.parent / "old.qcow2").write_bytes(data)
    refused("image_encrypted", **vault.task(image=str(vault.image.parent / "old.qcow2"), name="s1"))
