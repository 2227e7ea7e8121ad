"""Exports by qemu-nbd at a private Unix socket, seen by independent clients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._export import by_process, places
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places
from ansible_collections.platter.qemu.plugins.module_utils._tools.process import Runner
from ansible_collections.platter.qemu.tests.lab import exports
from ansible_collections.platter.qemu.tests.lab.beats import four_beats, refused, settled
from ansible_collections.platter.qemu.tests.lab.defined import define, define_on, give_up, is_based, own_registry
from ansible_collections.platter.qemu.tests.lab.guest import MIB, shows
from ansible_collections.platter.qemu.tests.lab.modules import call, prepared, process
from ansible_collections.platter.qemu.tests.lab.oracle import create, qemu_img
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, exported, running, stand_still, wait_until


@pytest.fixture
def name() -> Iterator[str]:
    name = exports.new_name()
    with exports.cleaned(name):
        yield name
    assert not exports.leftovers(name)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A qcow2 image of 8 MiB whose first MiB holds 0x5a."""
    (tmp_path / "images").mkdir()
    path = create(tmp_path / "images" / "web1.qcow2", "qcow2", "8M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 0 1M", path], check=True, stdout=subprocess.DEVNULL)
    return path


def socket_of(name: str) -> str:
    return f"{own_places.socket_directory()}/{name}.sock"


# --- what clients see


def test_an_image_is_served_read_only(name: str, image: Path) -> None:
    result = four_beats(name=name, image=str(image), format="qcow2", read_only=True, unpredictable=["virtual_size"])
    assert result["export"]["uri"] == exports.uri(name)
    assert (result["export"]["virtual_size"], result["export"]["pid"]) == (8 * MIB, exports.server_of(name))
    seen = exports.nbdinfo(name)
    assert (seen["export-name"], seen["export-size"], seen["is_read_only"]) == (name, 8 * MIB, True)
    exports.io(name, "read -P 0x5a 0 1M", "read -P 0 1M 7M")


def test_only_its_owner_can_connect(name: str, image: Path) -> None:
    prepared("nbd_export", name=name, image=str(image), format="qcow2")
    assert stat.S_IMODE(os.lstat(socket_of(name)).st_mode) == 0o600
    listening = subprocess.run(["ss", "-Hltnp"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert f"pid={exports.server_of(name)}," not in listening


def test_what_is_written_is_in_the_image_when_the_export_has_gone(name: str, image: Path, tmp_path: Path) -> None:
    four_beats(name=name, image=str(image), format="qcow2", read_only=False, unpredictable=["virtual_size"])
    exports.io(name, "write -P 0x11 2M 64k", writes=True)
    subprocess.run(["nbdcopy", exports.uri(name), tmp_path / "copy"], check=True, timeout=DEADLINE)
    four_beats(name=name, state="absent")
    qemu_img("compare", "-f", "qcow2", "-F", "raw", image, tmp_path / "copy")
    shows(image, "qcow2", [(0x11, 2 * MIB, 64 << 10)])
    qemu_img("check", "-f", "qcow2", image)


def test_raw_serves_the_file_as_it_is_whatever_is_in_it(name: str, image: Path, tmp_path: Path) -> None:
    prepared("nbd_export", name=name, image=str(image), format="raw")
    subprocess.run(["nbdcopy", exports.uri(name), tmp_path / "copy"], check=True, timeout=DEADLINE)
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


@pytest.mark.parametrize(
    ("more", "reads", "size"),
    [
        ({"offset": "1M", "size": "2M"}, ["read -P 0x22 0 1M", "read -P 0 1M 1M"], 2 * MIB),
        ({"snapshot": "then"}, ["read -P 0x5a 0 1M", "read -P 0 1M 1M"], 8 * MIB),
        ({"allocation_depth": True, "bitmaps": ["daily"]}, ["read -P 0x22 1M 1M"], 8 * MIB),
    ],
    ids=["window", "snapshot", "contexts"],
)
def test_a_part_or_a_view_is_served(name: str, image: Path, more: dict[str, Any], reads: list[str], size: int) -> None:
    qemu_img("snapshot", "-c", "then", image)
    qemu_img("bitmap", "-f", "qcow2", "--add", image, "daily")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x22 1M 1M", image], check=True)
    four_beats(name=name, image=str(image), format="qcow2", read_only=True, **more, unpredictable=["virtual_size"])
    exports.io(name, *reads)
    seen = exports.nbdinfo(name)
    assert seen["export-size"] == size
    if "bitmaps" in more:
        assert {"qemu:allocation-depth", "qemu:dirty-bitmap:daily"} <= set(seen["contexts"])


def test_options_reach_the_server(name: str, image: Path) -> None:
    options = {"cache": "writethrough", "discard": True, "shared": 2, "description": "web1, its disk"}
    four_beats(name=name, image=str(image), format="qcow2", read_only=False, **options, unpredictable=["virtual_size"])
    seen = exports.nbdinfo(name)
    assert (seen["can_trim"], seen["description"]) == (True, "web1, its disk")


# --- states


def test_stopped_keeps_what_was_declared(name: str, image: Path) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True}
    four_beats(**options, unpredictable=["virtual_size"])
    result = four_beats(**options, state="stopped")
    assert (result["export"]["state"], result["export"]["image"]) == ("stopped", str(image))
    assert not os.path.lexists(socket_of(name)) and not exports.processes_of(name)
    assert four_beats(**options, unpredictable=["virtual_size"])["actions"] == [
        f"Start qemu_nbd for export {name}, supervised by process."
    ]
    four_beats(name=name, state="absent")
    assert not exports.leftovers(name)


def test_another_image_under_the_same_name_is_another_server(name: str, image: Path, tmp_path: Path) -> None:
    prepared("nbd_export", name=name, image=str(image), format="qcow2")
    other = create(tmp_path / "other.raw", "raw", "2M")
    before = exports.server_of(name)
    result = four_beats(name=name, image=str(other), format="raw", read_only=True, unpredictable=["virtual_size"])
    assert len(result["actions"]) == 3
    assert exports.server_of(name) != before
    assert exports.nbdinfo(name)["export-size"] == 2 * MIB


def test_many_exports_in_one_task(image: Path, tmp_path: Path) -> None:
    names = [exports.new_name() for _number in range(5)]
    with exports.cleaned(*names):
        entries = [{"name": each, "image": str(image)} for each in names]
        four_beats(format="qcow2", exports=entries, watch=[tmp_path], unpredictable=["virtual_size"])
        assert {exports.nbdinfo(each)["export-size"] for each in names} == {8 * MIB}
        pids = [exports.server_of(each) for each in names]
        entries[2]["state"] = "absent"
        four_beats(format="qcow2", exports=entries, watch=[tmp_path], unpredictable=["virtual_size"])
        assert [exports.server_of(each) for each in names[:2]] == pids[:2]
        assert not exports.leftovers(names[2])
    assert not [left for each in names for left in exports.leftovers(each)]


# --- clients are not cut off


@pytest.mark.parametrize("state", ["absent", "stopped", "present"])
def test_a_server_with_clients_is_not_ended(name: str, image: Path, state: str) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True}
    prepared("nbd_export", **options)
    with exports.client(name) as using:
        settled(**options)
        wanted = dict(options, state=state, **({"shared": 3} if state == "present" else {}))
        result = refused("export_busy", **wanted)
        assert result["evidence"]["clients"] == [{"pid": using.pid, "comm": "qemu-io"}]
        assert str(using.pid) in result["msg"]
        assert ("options would change (shared from 16 to 3); 1 client uses it" in result["msg"]) == (state == "present")
        assert result["evidence"].get("changes") == ({"shared": {"old": 16, "new": 3}} if state == "present" else None)
        exports.tell(using, "read -P 0x5a 0 1M")
        told = four_beats(**wanted, allow_disconnect=True, unpredictable=["virtual_size"])["actions"][0]
        assert str(using.pid) in told and "nothing can be lost" in told


def test_who_would_be_cut_off_is_told_for_what_and_nothing_is_when_that_is_taken_back(
    name: str, image: Path, tmp_path: Path
) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True, "description": "as it was"}
    options["throttle"] = {"bps": 1 << 30}
    prepared("nbd_export", **options)
    with exports.client(name):
        other = {
            **options,
            "socket": str(tmp_path / "s"),
            "description": None,
            "throttle": {"iops": 9},
            "read_only": False,
        }
        told = refused("export_busy", **other)
        changes = told["evidence"]["changes"]
        assert sorted(changes) == ["description", "read_only", "socket", "throttle"]
        assert (changes["throttle"]["new"], changes["description"]) == ({"iops": 9}, {"old": "as it was", "new": None})
        assert "options would change (" in told["msg"] and f"/{name}.sock to {tmp_path}/s" in told["msg"]
        assert 'throttle from {"bps": 1073741824} to {"iops": 9}' in told["msg"]
        assert "description from as it was to none" in told["msg"] and "read_only from true to false" in told["msg"]
        settled(**options)
    four_beats(**other, unpredictable=["virtual_size"])


def test_a_client_that_has_gone_does_not_count_though_the_server_has_not_noticed(name: str, image: Path) -> None:
    prepared("nbd_export", name=name, image=str(image), format="qcow2", read_only=True)
    with exports.client(name) as using:
        exports.tell(using, "read 0 512")
        stand_still(exports.server_of(name))
        using.kill()
        using.wait()
    result = call("nbd_export", name=name, state="absent", stop_timeout=1)
    assert result["changed"] and not result.get("failed"), result


def test_a_client_from_another_network_namespace_counts(name: str, image: Path) -> None:
    prepared("nbd_export", name=name, image=str(image), format="qcow2")
    with running("unshare", "--net", "qemu-io", "-r", "-f", "raw", exports.uri(name)) as using:
        exports.tell(using, "read 0 512")
        refused("export_busy", name=name, state="absent")


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_what_was_acknowledged_is_kept_when_the_server_is_asked_to_end(name: str, tmp_path: Path, format: str) -> None:
    """As the message and the guide say; a server that is killed would lose it."""
    image = create(tmp_path / f"disk.{format}", format, "8M")
    prepared("nbd_export", name=name, image=str(image), format=format, read_only=False)
    with exports.client(name) as using:
        exports.tell(using, "write -P 0x33 3M 1M")
        result = refused("export_busy", name=name, state="absent")
        assert "acknowledged ones are written out first" in result["msg"]
        assert call("nbd_export", name=name, state="absent", allow_disconnect=True)["changed"]
    shows(image, format, [(0x33, 3 * MIB, MIB)])


def test_who_talks_nonsense_keeps_nobody_out(name: str, image: Path) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True}
    prepared("nbd_export", **options)
    for number in range(200):
        with socket.socket(socket.AF_UNIX) as nonsense:
            nonsense.connect(socket_of(name))
            nonsense.sendall(bytes([number]) * 512)
    with contextlib.ExitStack() as half_open:
        for _number in range(8):
            half_open.enter_context(socket.socket(socket.AF_UNIX)).connect(socket_of(name))
        exports.io(name, "read -P 0x5a 0 1M")
        settled(**options)


# --- supervision


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_killed_server_is_started_again_with_what_was_flushed(name: str, tmp_path: Path, format: str) -> None:
    image = create(tmp_path / f"disk.{format}", format, "8M")
    options = {"name": name, "image": str(image), "format": format, "read_only": False}
    prepared("nbd_export", **options)
    with exports.client(name) as using:
        exports.tell(using, "write -P 0x77 1M 1M")
        exports.tell(using, "flush")
        exports.kill_server(name)
    exports.io(name, "read -P 0x77 1M 1M")
    settled(**options)


@pytest.mark.parametrize(
    ("format", "cache", "kept"),
    [("raw", "writeback", True), ("qcow2", "writeback", False), ("qcow2", "writethrough", True)],
)
def test_what_a_killed_server_takes_along_of_writes_that_nobody_flushed(
    name: str, tmp_path: Path, format: str, cache: str, kept: bool
) -> None:
    """The table of the guide: where an image has tables, they are in the server's memory until a flush."""
    image = create(tmp_path / f"disk.{format}", format, "8M")
    prepared("nbd_export", name=name, image=str(image), format=format, read_only=False, cache=cache)
    with exports.client(name) as using:
        exports.tell(using, "write -P 0x77 1M 1M")
        exports.kill_server(name)
    exports.io(name, f"read -P {'0x77' if kept else '0'} 1M 1M")


def test_a_socket_that_is_not_free_at_once_is_waited_for(name: str, image: Path) -> None:
    """The kernel may close the sockets of a killed program after it has told its parent of the end."""
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True}
    prepared("nbd_export", **options)
    supervisor = exports.supervisor_of(name)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(exports.server_of(name), signal.SIGKILL)
        os.unlink(socket_of(name))
        with socket.socket(socket.AF_UNIX) as late:
            late.bind(socket_of(name))
            late.listen()
            os.kill(supervisor, signal.SIGCONT)
            late.settimeout(DEADLINE)
            late.accept()[0].close()
    finally:
        os.kill(supervisor, signal.SIGCONT)
    wait_until(lambda: exports.gets_in(exports.uri(name)), "it is served again")
    settled(**options)


def test_a_server_that_has_lost_its_supervisor_gets_another(name: str, image: Path) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True}
    prepared("nbd_export", **options)
    server = exports.server_of(name)
    os.kill(exports.supervisor_of(name), signal.SIGKILL)
    wait_until(lambda: exports.processes_of(name) == [server], "the supervisor has gone")
    with exports.client(name) as using:
        result = four_beats(**options, unpredictable=["virtual_size"])
        assert result["actions"] == [f"Supervise the running server of export {name} again."]
        exports.tell(using, "read -P 0x5a 0 1M")
    assert exports.server_of(name) == server
    exports.kill_server(name)
    settled(**options)


def _may_lower_oom_score() -> bool:
    done = subprocess.run(["sh", "-c", "echo -900 > /proc/self/oom_score_adj"], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def test_a_server_leaves_the_play_behind(name: str, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PLAY", "x")
    with open(image, "rb") as ours:
        os.set_inheritable(ours.fileno(), True)
        prepared("nbd_export", name=name, image=str(image), format="qcow2")
    for pid in (exports.server_of(name), exports.supervisor_of(name)):
        assert b"SECRET_OF_THE_PLAY" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert os.getsid(pid) != os.getsid(0)
        assert Path(f"/proc/{pid}/cwd").resolve() == Path("/")
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == ("-900\n" if _may_lower_oom_score() else "0\n")
        held = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
        assert held.count(str(image)) == (pid == exports.server_of(name))
        assert not [path for path in held if "images.lock" in path]


def test_it_outlives_the_process_that_ran_the_module(name: str, image: Path) -> None:
    with process("nbd_export", name=name, image=str(image), format="qcow2") as module:
        result = json.loads(module.communicate()[0].splitlines()[-1])
    assert result["changed"], result
    exports.io(name, "read -P 0x5a 0 1M")


def test_a_module_that_is_killed_leaves_no_listener_after_absent(name: str, image: Path) -> None:
    """At moments around the start of the server, in which it can lose a request to end."""
    for milliseconds in range(150, 600, 50):
        module = process("nbd_export", name=name, image=str(image), format="qcow2")
        try:
            module.wait(milliseconds / 1000)
        except subprocess.TimeoutExpired:
            module.kill()
        module.communicate()
        result = call("nbd_export", name=name, state="absent")
        assert not result.get("failed"), result
        assert not exports.connects(socket_of(name))
        assert not exports.leftovers(name)


def test_a_stop_right_after_a_start_leaves_no_listener(name: str, image: Path) -> None:
    """At moments from before the server is there until it serves."""
    prepared("nbd_export", name=name, image=str(image), format="qcow2")
    assert call("nbd_export", name=name, state="stopped")["changed"]
    supervisor = by_process.ByProcess(Runner())
    for milliseconds in (0, 5, 10, 20, 40, 80, 160, 320, 600):
        supervisor.start(ExportSpec(name, socket_of(name)))
        time.sleep(milliseconds / 1000)
        result = call("nbd_export", name=name, state="stopped")
        assert result["changed"] and not result.get("failed"), (milliseconds, result)
        assert not exports.connects(socket_of(name)) and not exports.processes_of(name), milliseconds


def test_a_server_that_cannot_start_tells_why(
    name: str, image: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "qemu-nbd"
    program.write_text("#!/bin/sh\necho 'qemu-nbd: the moon is wrong' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    result = call("nbd_export", name=name, image=str(image), format="qcow2")
    assert result["reason"] == "server_failed"
    assert "the moon is wrong" in result["msg"] and result["msg"].startswith("failed at: Start")
    assert result["changed"] is True and not exports.processes_of(name)


def test_a_stopped_server_is_no_success_and_can_be_ended(
    name: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.platter.qemu.plugins.module_utils._export import observe

    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True}
    prepared("nbd_export", **options)
    monkeypatch.setattr(observe, "PROBE_SECONDS", 0.3)
    stand_still(exports.server_of(name))
    refused("export_unresponsive", **options)
    result = call("nbd_export", name=name, state="absent", stop_timeout=1)
    assert result["changed"] and not result.get("failed"), result
    assert not exports.leftovers(name)


def test_a_writable_server_that_does_not_end_is_not_killed(name: str, image: Path) -> None:
    prepared("nbd_export", name=name, image=str(image), format="qcow2", read_only=False)
    server = exports.server_of(name)
    stand_still(server)
    result = call("nbd_export", name=name, state="absent", stop_timeout=1)
    assert (result["failed"], result["reason"], result["evidence"]["pids"]) == (True, "stop_timeout", [server])
    assert exports.processes_of(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_full_file_system_ends_no_server(name: str, image: Path, tmp_path: Path) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2"}
    prepared("nbd_export", **options)
    directory = Path(places.export_directory(name))
    shutil.copytree(directory, tmp_path / "declared")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k,mode=700", "none", directory], check=True)
    try:
        shutil.copytree(tmp_path / "declared", directory, dirs_exist_ok=True)
        with contextlib.suppress(OSError), open(directory / "full", "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        result = call("nbd_export", **options, shared=3)
        assert result["failed"] and not result["changed"] and "No space left" in result["msg"], result
        exports.io(name, "read -P 0x5a 0 1M")
    finally:
        subprocess.run(["umount", directory], check=True)
    assert call("nbd_export", **options, shared=3)["changed"]


# --- what is refused


def test_an_image_in_use_is_not_exported(name: str, image: Path, tmp_path: Path) -> None:
    with exported(image, "qcow2", tmp_path / "other.sock"):
        for read_only in (True, False):
            result = refused("image_in_use", name=name, image=str(image), format="qcow2", read_only=read_only)
            assert result["evidence"]["in_use_by"][0]["name"] == "qemu-nbd"


def test_two_readers_are_fine_and_a_writer_beside_them_is_not(name: str, image: Path) -> None:
    second = exports.new_name()
    with exports.cleaned(second):
        prepared("nbd_export", name=name, image=str(image), format="qcow2")
        assert call("nbd_export", name=second, image=str(image), format="qcow2")["changed"]
        refused("image_in_use", name=second, image=str(image), format="qcow2", read_only=False)
        entries = [{"name": second, "read_only": False}, {"name": name}]
        refused("image_in_use", image=str(image), format="qcow2", exports=entries)


def test_a_base_is_exported_read_only(name: str, image: Path) -> None:
    overlay = image.with_name("overlay.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", image, "-F", "qcow2", overlay)
    result = refused("has_overlays", name=name, image=str(image), format="qcow2", read_only=False)
    assert result["evidence"]["overlays"] == [str(overlay)]
    four_beats(name=name, image=str(image), format="qcow2", read_only=True, unpredictable=["virtual_size"])


def test_a_base_of_a_vm_that_does_not_run_is_not_exported_to_be_written_to(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_registry(tmp_path, monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    overlay = create(tmp_path / "elsewhere" / "overlay.qcow2", "qcow2", "", "", "-b", image, "-F", "qcow2")
    vm = define(tmp_path, overlay)
    options = {"name": name, "image": str(image), "format": "qcow2"}
    assert refused("has_overlays", **options, read_only=False)["evidence"]["overlays"] == [str(overlay)]
    assert call("nbd_export", **options)["changed"]
    give_up(vm)
    assert call("nbd_export", **options, read_only=False)["changed"]


def test_a_base_that_only_a_definition_names_is_not_exported_to_be_written_to(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_registry(tmp_path, monkeypatch)
    vm, overlay = define_on(tmp_path, image)
    options = {"name": name, "image": str(image), "format": "qcow2", "unpredictable": ["virtual_size"]}
    writing = {"name": name, "image": str(image), "format": "qcow2", "read_only": False}
    refusal = refused("image_claimed", **writing)
    is_based(refusal, vm, image, overlay)
    assert "or set read_only: true" in refusal["msg"]
    four_beats(read_only=True, **options)
    refused("image_claimed", **writing)
    give_up(vm)
    four_beats(read_only=False, **options)


def test_a_socket_of_others_is_not_taken(name: str, image: Path, tmp_path: Path) -> None:
    other = create(tmp_path / "other.raw", "raw", "1M")
    path = tmp_path / "theirs.sock"
    options = {"name": name, "image": str(image), "format": "qcow2", "socket": str(path)}
    with exported(other, "raw", path):
        refused("socket_in_use", **options)
        assert exports.connects(path)
    path.write_text("precious")
    refused("socket_in_use", **options)
    assert path.read_text() == "precious"


def test_what_others_have_declared_is_not_believed(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no directory of the user's own in /run, others can be first in /tmp."""
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "platter").symlink_to(tmp_path / "mine")
    os.chown(tmp_path / "platter", 1234, -1, follow_symlinks=False)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(own_places, "socket_directory", lambda: str(tmp_path / "platter"))
        for options in ({"image": str(image), "format": "qcow2"}, {"state": "absent"}):
            result = call("nbd_export", name=name, **options)
            assert (result["reason"], result["changed"]) == ("unsafe_directory", False), result
    assert not list((tmp_path / "mine").iterdir())


def test_a_directory_that_others_write_to_holds_no_socket(name: str, image: Path, tmp_path: Path) -> None:
    socket = tmp_path / "open" / "below" / "s"
    socket.parent.mkdir(parents=True)
    for directory, mode in ((socket.parent, 0o777), (socket.parent, 0o1777), (socket.parent.parent, 0o777)):
        directory.chmod(mode)
        refused("unsafe_directory", name=name, image=str(image), format="qcow2", socket=str(socket))
        directory.chmod(0o755)
    (tmp_path / "link").symlink_to(socket.parent)
    os.chown(tmp_path / "link", 1234, -1, follow_symlinks=False)
    refused("unsafe_directory", name=name, image=str(image), format="qcow2", socket=str(tmp_path / "link" / "s"))
    refused("directory_missing", name=name, image=str(image), format="qcow2", socket=str(tmp_path / "none" / "s"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"image": "{d}/missing"}, "image_missing"),
        ({"format": "vmdk"}, "format_mismatch"),
        ({"snapshot": "missing"}, "snapshot_missing"),
        ({"bitmaps": ["missing"]}, "bitmap_missing"),
        ({"offset": "8M"}, "bad_size"),
        ({"offset": "100"}, "bad_size"),
        ({"shared": 0}, "bad_option"),
        ({"discard": True}, "bad_option"),
        ({"image": "web1.qcow2"}, "bad_path"),
        ({"name": "a/b"}, "bad_name"),
        ({"name": "-x"}, "bad_name"),
        ({"socket": "/" + "x" * 108}, "bad_option"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_served_is_refused(name: str, image: Path, more: dict[str, Any], reason: str) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True, **more}
    options = {key: v.format(d=image.parent) if isinstance(v, str) else v for key, v in options.items()}
    refused(reason, watch=[image.parent], **options)


def test_systemd_is_not_used_where_it_does_not_run(name: str, image: Path) -> None:
    options = {"name": name, "image": str(image), "format": "qcow2", "read_only": True, "supervisor": "systemd"}
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("it runs, and is left alone")
    refused("supervisor_missing", **options)


def test_one_name_or_socket_twice_is_refused(name: str, image: Path, tmp_path: Path) -> None:
    twice = [{"name": name}, {"name": name, "socket": str(tmp_path / "s")}]
    refused("duplicate_item", image=str(image), format="qcow2", exports=twice)
    shared = [{"name": name}, {"name": exports.new_name()}]
    refused("duplicate_item", image=str(image), format="qcow2", socket=str(tmp_path / "s"), exports=shared)
