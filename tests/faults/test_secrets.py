"""A secret shows nowhere: not in arguments, environments, results, outputs, files, on success, refusal or failure."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import strace
from ansible_collections.platter.qemu.tests.lab.zygote import Child, Zygote

Count = t.Callable[[str, int], None]
Options = t.Dict[str, t.Any]
LUKS: Options = {"format": "luks", "size": "1M", "options": {"iter_time": 10}}
QCOW2: Options = {"format": "qcow2", "size": "1M", "options": {"encrypt_format": "luks", "encrypt_iter_time": 10}}
SNAPSHOT: Options = {"_module": "image_snapshot", "format": "qcow2", "name": "s1"}


def _tasks(place: Path, secret: Options, second: Options) -> t.Iterator[tuple[str, Options]]:
    """Success, nothing to do, a new key, refusals and failures, each with the secret in it."""
    luks, qcow2 = str(place / "disk.luks"), str(place / "disk.qcow2")
    keys = dict(secret, keyslots=[{"slot": 0}, dict(second, slot=1)])
    yield "create luks", dict(LUKS, path=luks, encryption=secret)
    yield "again", dict(LUKS, path=luks, encryption=secret)
    yield "add a key", dict(LUKS, path=luks, encryption=keys)
    yield "grow", dict(LUKS, path=luks, size="2M", encryption=secret)
    yield "create qcow2", dict(QCOW2, path=qcow2, encryption=secret)
    yield "refused", dict(QCOW2, path=qcow2, size="512K", encryption=secret)
    yield "bad option", dict(QCOW2, path=qcow2, options={"cluster_size": "3K"}, encryption=secret)
    yield "snapshot", dict(SNAPSHOT, image=qcow2, encryption=secret)
    yield "gone back to", dict(SNAPSHOT, image=qcow2, encryption=secret, state="reverted")
    yield "in check mode", dict(LUKS, path=str(place / "other.luks"), encryption=secret, _check=True)


def _traced(zygote: Zygote, options: Options, log: Path) -> tuple[Child, str]:
    """The task's process, ended, with every program's arguments and environment and every file name it used."""
    options = dict(options)
    child = zygote.start(
        options.pop("_module", "disk_image"), options, check=options.pop("_check", False), stopped=True
    )
    with strace.tracing(child, log, "-v", "-e", "trace=execve,open,openat,unlink,unlinkat"):
        pass
    child.wait()
    return child, log.read_text(errors="replace")


def _files_with(token: str, *directories: Path) -> list[Path]:
    found = []
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_symlink() and token.encode() in path.read_bytes():
                found.append(path)
    return found


def _as_text(_place: Path, token: str) -> tuple[str, str]:
    return "secret", token


def _as_file(place: Path, token: str) -> tuple[str, str]:
    directory = place / "keys"
    directory.mkdir(exist_ok=True)
    path = directory / f"key{len(list(directory.iterdir()))}"
    path.write_text(token)
    path.chmod(0o600)
    return "secret_file", str(path)


@pytest.mark.parametrize("given", [_as_text, _as_file], ids=["secret", "secret_file"])
def test_a_secret_shows_nowhere(
    given: t.Callable[[Path, str], tuple[str, str]],
    zygote: Zygote,
    place: Path,
    count: Count,
) -> None:
    images, remote = place / "images", place / "remote"
    images.mkdir()
    remote.mkdir()
    tokens = [f"token-{secrets.token_hex(12)}" for _each in range(2)]
    (name, value), (other, second) = (given(place, token) for token in tokens)
    tried = 0
    for what, options in _tasks(images, {name: value}, {"new_" + other: second}):
        child, trace = _traced(zygote, dict(options, _ansible_remote_tmp=str(remote)), place / "secrets.log")
        said = child.printed.read_text() + child.printed.with_suffix(".err").read_text()
        result = json.loads(said.splitlines()[-1])
        for token in tokens:
            assert token not in trace, f"{what}: in an argument or environment"
            assert token not in said, f"{what}: in the result"
        assert "commands" not in result or not any(token in str(result["commands"]) for token in tokens)
        assert what in ("refused", "bad option") or not result.get("failed"), (what, result)
        tried += 1
    left = [path for token in tokens for path in _files_with(token, images, remote, _home_tmp())]
    assert not left, f"left over: {left}"
    count("runs with a secret looked through", tried)


def _home_tmp() -> Path:
    return Path(os.path.expanduser("~/.ansible/tmp"))


def test_a_secret_file_that_others_can_read_is_refused(zygote: Zygote, place: Path) -> None:
    key = place / "key"
    key.write_text("token")
    for mode in (0o644, 0o640, 0o660, 0o604):
        key.chmod(mode)
        options = dict(LUKS, path=str(place / "disk.luks"), encryption={"secret_file": str(key)})
        result = zygote.run("disk_image", options)
        assert result.get("reason") == "key_permissions", result
    assert not (place / "disk.luks").exists()


PLAY = """
- hosts: localhost
  gather_facts: false
  roles: [platter.qemu.vm_storage]
"""


@pytest.mark.parametrize("more", [(), ("--check",)])
def test_a_role_shows_none_either(tmp_path: Path, more: tuple[str, ...]) -> None:
    token = f"token-{secrets.token_hex(12)}"
    image = dict(LUKS, path=str(tmp_path / "disk.luks"), encryption={"secret": token})
    variables = {"vm_storage_name": "web1", "vm_storage_libvirt": True, "vm_storage_state": "defined"}
    variables["vm_storage_disks"] = [{"name": "data", "image": image}]
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "variables.json").write_text(json.dumps({**variables, "ansible_python_interpreter": sys.executable}))
    command = [
        Path(sys.executable).parent / "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-vvv",
        "--diff",
        *more,
    ]
    told = ["-e", f"@{tmp_path}/variables.json", str(tmp_path / "play.yml")]
    done = subprocess.run([*command, *told], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "disk.luks" in done.stdout and token not in done.stdout + done.stderr
