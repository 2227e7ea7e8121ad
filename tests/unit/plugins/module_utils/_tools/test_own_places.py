"""Files of ours that outlive a task."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


def test_a_vm_and_a_storage_daemon_of_one_name_have_two_monitors() -> None:
    params = {"vm": "web1", "start_timeout": 60, "stop_timeout": 60}
    vm = read_spec.read_spec(params, own_places.socket_directory())
    assert export_places.monitor("web1") != vm.qmp_socket
    assert os.path.dirname(export_places.monitor("web1")) == os.path.dirname(vm.qmp_socket)
