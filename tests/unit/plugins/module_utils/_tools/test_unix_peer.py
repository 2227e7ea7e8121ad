"""Which sockets are safe to connect to."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import RefusedError
from ansible_collections.platter.qemu.plugins.module_utils._tools.unix_peer import (
    connect_safely,
    peer_pids,
    refuse_unsafe_socket,
)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that anybody can pass; pytest's own are private."""
    directory = tempfile.mkdtemp(prefix="platter-")
    os.chmod(directory, 0o755)
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        yield server


def listen(server: socket.socket, path: Path, mode: int = 0o600) -> str:
    server.bind(str(path))
    server.listen()
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_socket_of_our_own_is_safe(listening: socket.socket, open_directory: Path, mode: int) -> None:
    connect_safely(listen(listening, open_directory / "s", mode)).close()


def test_a_socket_that_others_can_write_to_is_refused(listening: socket.socket, open_directory: Path) -> None:
    path = listen(listening, open_directory / "s", 0o666)
    with pytest.raises(RefusedError, match="others can connect") as caught:
        connect_safely(path)
    assert caught.value.reason == "unsafe_qmp_socket"
    assert caught.value.facts["evidence"]["mode"] == "0666"


def test_nobody_passes_a_private_directory(listening: socket.socket, open_directory: Path) -> None:
    private = open_directory / "private"
    private.mkdir(mode=0o700)
    connect_safely(listen(listening, private / "s", 0o777)).close()


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_directory_in_which_others_can_replace_it_is_refused(
    listening: socket.socket, open_directory: Path, mode: int
) -> None:
    inner = open_directory / "vm"
    inner.mkdir()
    path = listen(listening, inner / "s")
    open_directory.chmod(mode)
    with pytest.raises(RefusedError, match="others can replace it") as caught:
        connect_safely(path)
    assert caught.value.facts["evidence"]["directory"] == str(open_directory)


def test_a_sticky_directory_keeps_others_from_replacing_it(listening: socket.socket, open_directory: Path) -> None:
    open_directory.chmod(0o1777)
    connect_safely(listen(listening, open_directory / "s")).close()


def test_the_way_of_a_link_is_looked_at_too(listening: socket.socket, open_directory: Path, tmp_path: Path) -> None:
    path = listen(listening, tmp_path / "s")
    (open_directory / "link").symlink_to(path)
    connect_safely(str(open_directory / "link")).close()
    open_directory.chmod(0o777)
    with pytest.raises(RefusedError, match="others can replace it"):
        connect_safely(str(open_directory / "link"))


def test_a_socket_of_another_user_is_refused(listening: socket.socket, tmp_path: Path) -> None:
    path = listen(listening, tmp_path / "s")
    with pytest.raises(RefusedError, match="belongs to user") as caught:
        refuse_unsafe_socket(path, os.stat(path), {os.geteuid() + 1})
    assert caught.value.reason == "unsafe_qmp_socket"


def test_a_directory_of_another_user_is_refused(listening: socket.socket, tmp_path: Path) -> None:
    path = listen(listening, tmp_path / "s")
    found = os.stat_result((0o140600, 1, 1, 1, 4321, 4321, 0, 0, 0, 0))
    with pytest.raises(RefusedError, match="/ belongs to user 0"):
        refuse_unsafe_socket(path, found, {4321})


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="not a socket"):
        connect_safely(str(tmp_path / "file"))


def test_a_long_name_can_be_connected_to(listening: socket.socket, tmp_path: Path) -> None:
    path = listen(listening, tmp_path / "s")
    deep = tmp_path.joinpath(*["directory-with-a-long-name"] * 8)
    deep.mkdir(parents=True)
    os.rename(path, deep / "s")
    assert len(str(deep)) > 200
    connect_safely(str(deep / "s")).close()


def test_we_are_not_behind_our_own_socket(listening: socket.socket, tmp_path: Path) -> None:
    path = listen(listening, tmp_path / "s")
    with connect_safely(path) as connection:
        assert peer_pids(connection, path) == {os.getpid()}
