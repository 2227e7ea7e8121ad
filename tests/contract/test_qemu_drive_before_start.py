"""What starts a VM without a task looks at what its images have become, before QEMU opens them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._vm import places
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, settled
from ansible_collections.platter.qemu.tests.lab.drive_qemu import QEMU, ask, started
from ansible_collections.platter.qemu.tests.lab.led import NOBODY, given, place_of_roots, with_data_file
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img

Options = dict[str, Any]
ROOT = os.geteuid() == 0
AS_ROOT = pytest.mark.skipif(not ROOT, reason="needs root, who can give files to others")


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The links to all VMs, of this test only."""
    monkeypatch.setattr(places, "registry", lambda: str(tmp_path / "registry"))
    (tmp_path / "vms").mkdir()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's, with a file for root only."""
    with place_of_roots() as found:
        yield found


def disk(path: Path, format: str = "qcow2", **more: Any) -> Options:
    return {"id": "sys", "image": {"path": str(path), "format": format}, "device": "virtio-blk-pci", **more}


def asked(tmp_path: Path, *drives: Options, **more: Any) -> Options:
    config = str(tmp_path / "vms" / "one")
    return {
        "vm": "one",
        "config": config,
        "drives": list(drives),
        "arguments": ["-m", "64"],
        "validate": "none",
        **more,
    }


def start(tmp_path: Path) -> Path:
    return tmp_path / "vms" / "one" / "start"


def tried(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Of C(start): QEMU says its version, without opening anything, where it is started at all."""
    env = environment or None
    return subprocess.run([*map(str, words), "-version"], check=False, capture_output=True, text=True, env=env)


def is_started(tmp_path: Path) -> None:
    """With all its images opened."""
    assert tried(start(tmp_path)).stdout.startswith("QEMU")
    with started(tmp_path / "qmp", start(tmp_path)):
        pass


def not_started(*words: object, vm: str = "one", **environment: str) -> str:
    """What is said instead; no QEMU has run."""
    ended = tried(*words, **environment)
    assert (ended.returncode, ended.stdout) == (1, ""), ended
    assert "Traceback" not in ended.stderr and ended.stderr.startswith(f"VM {vm} is not started: "), ended.stderr
    return ended.stderr


# --- where headers lead


@AS_ROOT
@pytest.mark.parametrize("style", ["blockdev", "drive"])
def test_a_header_that_was_rewritten_to_lead_to_a_secret_is_not_followed(
    tmp_path: Path, place: Path, style: str
) -> None:
    image = given(create(place / "disk", "qcow2", "1M"))
    four_beats(**asked(tmp_path, disk(image), style=style))
    is_started(tmp_path)
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", place / "secret", "-F", "raw", image)
    words = (tmp_path / "vms" / "one" / "args").read_text().split("\0")[:-1]
    opened = ask(words[words.index("-m") + 2 :], [("query-named-block-nodes", {})])[0]
    assert str(place / "secret") in {each["file"] for each in opened}, "QEMU alone would open it"
    said = not_started(start(tmp_path))
    assert f"drive sys ({image}): it names {place / 'secret'} as its backing file, and user {NOBODY}" in said, said
    assert f"cannot read that file. If that is the right file, let user {NOBODY}" in said, said
    assert "; if not, the image is not to be used." in said
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "", image)
    is_started(tmp_path)


@AS_ROOT
def test_what_an_image_below_leads_to_is_not_followed_either(tmp_path: Path, place: Path) -> None:
    base = given(create(place / "base", "qcow2", "1M"))
    top = create(place / "top", "qcow2", "", "", "-b", base, "-F", "qcow2")
    four_beats(**asked(tmp_path, disk(top)))
    is_started(tmp_path)
    base.unlink()
    with_data_file(base, place / "secret")
    said = not_started(start(tmp_path))
    assert f"{base} names {place / 'secret'} as its data file" in said, said


def test_another_host_is_not_asked(tmp_path: Path) -> None:
    image = create(tmp_path / "disk", "qcow2", "1M")
    four_beats(**asked(tmp_path, disk(image)))
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "nbd://203.0.113.1/x", "-F", "raw", image)
    assert "nbd://203.0.113.1/x" in not_started(start(tmp_path))
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "", image)
    is_started(tmp_path)


def test_a_raw_base_is_not_taken_for_what_its_guest_has_written(tmp_path: Path) -> None:
    base, top = create(tmp_path / "base", "raw", "1M"), tmp_path / "top"
    create(top, "qcow2", "", "", "-b", base, "-F", "raw")
    four_beats(**asked(tmp_path, disk(top)))
    is_started(tmp_path)
    top.write_bytes(top.read_bytes().replace(b"\xe2\x79\x2a\xca\0\0\0\3raw", b"\x11\x11\x11\x11\0\0\0\3raw"))
    assert "has no format recorded" in not_started(start(tmp_path))


def test_what_is_below_can_be_said_in_the_definition(tmp_path: Path) -> None:
    """Then no header is followed, wherever it leads."""
    image = create(tmp_path / "disk", "qcow2", "1M")
    node = {"driver": "qcow2", "file": {"driver": "file", "filename": str(image)}, "backing": None}
    drive = {"id": "sys", "image": {"blockdev": node}, "device": "virtio-blk-pci"}
    four_beats(**asked(tmp_path, drive))
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "nbd://203.0.113.1/x", "-F", "raw", image)
    is_started(tmp_path)


@AS_ROOT
def test_a_vm_of_an_ordinary_user_opens_what_that_user_could(place: Path) -> None:
    image, config = given(create(place / "disk", "qcow2", "1M")), place / "one"
    options = {**asked(place, disk(image)), "config": str(config)}
    made = call("qemu_drive", **options)
    assert made["changed"], made
    for path in (config, *config.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def tried() -> str:
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", config / "start", "-version"]
        ended = subprocess.run(words, check=False, capture_output=True, text=True)
        return ended.stdout or ended.stderr

    assert tried().startswith("QEMU")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", place / "secret", "-F", "raw", image)
    assert tried().startswith("QEMU"), "which will not let it open that"
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "nbd://203.0.113.1/x", "-F", "raw", image)
    assert "VM one is not started: " in tried() and "nbd://203.0.113.1/x" in tried()


# --- who decides what a name means, and who reads secrets


@AS_ROOT
def test_a_place_that_has_been_opened_to_others_since_is_named(tmp_path: Path, place: Path) -> None:
    (place / "i").mkdir()
    four_beats(**asked(tmp_path, disk(create(place / "i" / "disk", "raw", "1M"), "raw")))
    is_started(tmp_path)
    (place / "i").chmod(0o777)
    assert f"anyone can put another file in the place of {place / 'i' / 'disk'}" in not_started(start(tmp_path))
    (place / "i").chmod(0o755)
    os.chown(place / "i", NOBODY, 0)
    assert f"belongs to user {NOBODY}, who can give that name to another file" in not_started(start(tmp_path))


def test_a_secret_that_others_can_read_since_is_not_used(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o600)
    objects = [{"qom-type": "secret", "id": "k", "file": str(key)}]
    image = create(tmp_path / "disk", "luks", "1M", "key-secret=k", "--object", f"secret,id=k,file={key}")
    node = {"driver": "luks", "key-secret": "k", "file": {"driver": "file", "filename": str(image)}}
    drive = {"id": "sys", "image": {"blockdev": node}, "device": "virtio-blk-pci"}
    made = call("qemu_drive", **asked(tmp_path, drive, objects=objects))
    assert made["changed"], made
    is_started(tmp_path)
    key.chmod(0o644)
    assert f"use of the secret file {key} for VM one: its mode is 0644" in not_started(start(tmp_path))


# --- what changes a chain, and is meant to


def test_after_snapshots_and_merges_of_the_running_vm_it_starts_again(tmp_path: Path) -> None:
    image = create(tmp_path / "disk", "qcow2", "16M")
    options = asked(tmp_path, disk(image))
    four_beats(**options)
    task = {"image": str(image), "format": "qcow2", "kind": "external", "switch": "none"}
    for name in ("s1", "s2"):
        with started(tmp_path / "qmp", start(tmp_path)):
            taken = call("image_snapshot", **task, name=name, qmp_socket=str(tmp_path / "qmp"))
            assert taken["changed"], taken
        active = taken["snapshot"]["active"]
        assert "is the backing file of" in not_started(start(tmp_path))
        options["drives"] = [disk(Path(active))]
        four_beats(**options)
        is_started(tmp_path)
    with started(tmp_path / "qmp", start(tmp_path)):
        gone = call("image_snapshot", **task, name="s1", state="absent", qmp_socket=str(tmp_path / "qmp"))
        assert gone["changed"], gone
    options["drives"] = [disk(Path(gone["snapshot"]["active"] or image))]
    prepared("qemu_drive", **options)
    is_started(tmp_path)


@AS_ROOT
def test_the_disk_of_a_user_keeps_its_snapshots(tmp_path: Path, place: Path) -> None:
    """As its layers belong to the same user, who may read them."""
    image = given(create(place / "disk", "qcow2", "16M"))
    options = asked(tmp_path, disk(image))
    four_beats(**options)
    task = {"image": str(image), "format": "qcow2", "kind": "external", "switch": "rename"}
    taken = call("image_snapshot", **task, name="s1")
    assert taken["changed"], taken
    is_started(tmp_path)
    settled(**options)


# --- the program itself


def test_it_is_part_of_the_definition(tmp_path: Path) -> None:
    # qemu_vm looks for others of that name on the whole host
    name = f"one-{os.getpid()}"
    options = asked(tmp_path, disk(create(tmp_path / "disk", "qcow2", "1M")), vm=name)
    four_beats(**options)
    program = tmp_path / "vms" / "one" / "current" / "before_start.pyz"
    assert program.stat().st_mode & 0o777 == 0o600
    program.unlink()  # as of an earlier version
    told = not_started(start(tmp_path), vm=name)
    assert f"what looks at its images first is not there: {os.path.realpath(program)}" in told
    vm = call("qemu_vm", vm=name, config=options["config"], state="started")
    assert vm.get("reason") == "definition_altered", vm
    four_beats(**options)
    is_started(tmp_path)
    program.write_bytes(program.read_bytes()[:-9])  # whole or not: it is another one
    four_beats(**options)
    is_started(tmp_path)
    four_beats(vm=name, config=options["config"], state="absent")
    assert not os.path.lexists(options["config"])


def test_it_is_found_by_any_name_of_start_and_needs_no_path(tmp_path: Path) -> None:
    images = [tmp_path / "é 'a\",b", Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))]
    drives = [dict(disk(create(each, "qcow2", "1M")), id=f"d{number}") for number, each in enumerate(images)]
    assert not call("qemu_drive", **asked(tmp_path, *drives, qemu="/usr/bin/" + QEMU)).get("failed")
    (tmp_path / "web1").symlink_to(start(tmp_path))
    for words in ([tmp_path / "web1"], ["/bin/sh", start(tmp_path)]):
        for environment in ({"PATH": ""}, {"LC_ALL": "C", "PATH": "/nowhere", "PYTHONPATH": "/nowhere"}):
            assert tried(*words, **environment).stdout.startswith("QEMU"), tried(*words, **environment)
    said = subprocess.run(
        ["sh", "start", "-version"], cwd=start(tmp_path).parent, capture_output=True, check=True
    ).stdout
    assert said.startswith(b"QEMU")
    for each in images:
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", "nbd://203.0.113.1/x", "-F", "raw", each)
        assert "nbd://203.0.113.1/x" in not_started(tmp_path / "web1", LC_ALL="C", PATH="")
        qemu_img("rebase", "-u", "-f", "qcow2", "-b", "", each)


def test_without_a_python_that_can_look_it_is_not_started(tmp_path: Path) -> None:
    four_beats(**asked(tmp_path, disk(create(tmp_path / "disk", "qcow2", "1M")), qemu="/usr/bin/" + QEMU))
    written = start(tmp_path).read_text()
    programs = tmp_path / "bin"
    programs.mkdir()
    start(tmp_path).write_text(
        written.replace("/usr/bin/python", f"{programs}/python").replace("/usr/local/bin/", "/none/")
    )
    missing = "as there is no Python 3.8 or later in /usr/bin"
    assert missing in not_started(start(tmp_path), PATH="/nowhere")
    too_old = """exec /usr/bin/python3 "$1" "$2" "$3" "$(echo "$4" | /bin/sed 's/(3, 8)/(99, 0)/')" "$5" "$6" "$7" """
    for line in (too_old, "exit 127"):  # that is one that cannot be run
        (programs / "python3").write_text(f"#!/bin/sh\n{line}\n")
        (programs / "python3").chmod(0o755)
        assert missing in not_started(start(tmp_path), PATH="/nowhere")
    (programs / "python3.12").symlink_to("/usr/bin/python3")
    assert tried(start(tmp_path), PATH="/nowhere").stdout.startswith("QEMU")


def test_a_vm_that_opens_nothing_of_the_host_asks_nobody(tmp_path: Path) -> None:
    made = call("qemu_drive", **asked(tmp_path))
    assert made["changed"] and "python" not in start(tmp_path).read_text()
    is_started(tmp_path)
