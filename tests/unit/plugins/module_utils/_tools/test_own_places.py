"""Files of ours that outlive a task."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._export import places as export_places
from ansible_collections.platter.qemu.plugins.module_utils._power import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode_whatever_the_umask_is(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "platter.service"
    before = os.umask(0o077)
    try:
        own_places.write(str(path), "[Unit]\n", mode)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert path.read_text() == "[Unit]\n"
    assert os.listdir(tmp_path) == [path.name]


def test_what_is_made_above_a_file_is_nobody_elses_to_write_to(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        own_places.write_private(str(tmp_path / "top" / "snapshots" / "web1" / "program"), b"")
    finally:
        os.umask(before)
    made = ("top", "top/snapshots", "top/snapshots/web1")
    assert [(tmp_path / each).stat().st_mode & 0o777 for each in made] == [0o711, 0o711, 0o700]


def test_no_room_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "status").mkdir()
    with pytest.raises(OSError, match="status"):
        own_places.write_private(str(tmp_path / "status"), b"")
    assert os.listdir(tmp_path) == ["status"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives directories away")
@pytest.mark.parametrize(
    ("owner", "mode", "is_unsafe"), [(0, 0o755, False), (65534, 0o755, True), (0, 0o775, True), (0, 0o777, True)]
)
@pytest.mark.parametrize("below", ["", "snapshots"])
def test_who_could_exchange_what_root_runs_is_told(
    tmp_path: Path, owner: int, mode: int, is_unsafe: bool, below: str
) -> None:
    top = tmp_path / "top"
    (top / below).mkdir(parents=True)
    os.chown(top, owner, -1)
    top.chmod(mode)
    wanted = str(top / "snapshots" / "web1")
    if not is_unsafe:
        own_places.refuse_unsafe_way(wanted, "what a timer runs")
        return
    with pytest.raises(errors.RefusedError, match="others can put something into %s " % top) as refused:
        own_places.refuse_unsafe_way(wanted, "what a timer runs")
    assert refused.value.reason == "unsafe_directory"


def test_a_vm_and_a_storage_daemon_of_one_name_have_two_monitors() -> None:
    params = {"vm": "web1", "start_timeout": 60, "stop_timeout": 60}
    vm = read_spec.read_spec(params, own_places.socket_directory())
    assert export_places.monitor("web1") != vm.qmp_socket
    assert os.path.dirname(export_places.monitor("web1")) == os.path.dirname(vm.qmp_socket)


def test_a_look_for_room_that_is_killed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: seen.append(os.listdir(tmp_path)))
    own_places.find_room(str(tmp_path / "platter.service"), b"[Unit]\n")
    assert seen == [[]]
