"""What becomes of a connection that is handed to the kernel, as far as that can be seen without its NBD client."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import nbd_commands, nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._tools import connection, nbd_client, nbd_kernel, process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.programs import exported, wait_until

no_nbd = pytest.mark.skipif(
    os.path.isdir("/sys/module/nbd"), reason="this kernel has NBD: see test_devices_kernel_nbd.py"
)


def test_a_connection_that_is_handed_over_goes_on_without_us(tmp_path: Path) -> None:
    image = create(tmp_path / "image.qcow2", "qcow2", "1M")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 0x5a 0 64k", image], check=True)
    with exported(image, "qcow2", tmp_path / "socket", "--export-name=web1"):
        client = nbd_client.NbdClient(nbd_uri.Address("web1", socket=str(tmp_path / "socket")), simple=True)
        export, handed = client.hand_over("web1")
        kept = socket.socket(fileno=os.dup(handed.fileno()))
        client.leave()
        assert (export.size, kept.gettimeout()) == (1 << 20, None)
        kept.sendall(nbd_commands.request(nbd_commands.CMD_READ, 7, 0, 512))
        magic, error, handle = struct.unpack(">IIQ", kept.recv(16, socket.MSG_WAITALL))
        assert (magic, error, handle) == (0x67446698, 0, 7)
        assert kept.recv(512, socket.MSG_WAITALL) == b"\x5a" * 512
        number = os.fstat(kept.fileno()).st_ino
        assert connection.is_open(number)
    wait_until(lambda: not connection.is_open(number), "its other end has gone")
    kept.close()


def test_a_tcp_connection_whose_other_end_has_gone_is_noticed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _address = server.accept()
        number = os.fstat(near.fileno()).st_ino
        assert connection.is_open(number)
        assert not connection.is_open(os.fstat(server.fileno()).st_ino)
        far.close()
        wait_until(lambda: not connection.is_open(number), "its other end has gone")
        near.close()


@no_nbd
def test_a_kernel_without_it_says_so() -> None:
    assert nbd_kernel.marks() == {}
    assert not nbd_kernel.is_there(process.Runner())
    with pytest.raises(OSError, match="No such file") as caught:
        nbd_kernel.connect(0, size=512, block=512, flags=1, timeout=0, device="", mark="x", deadline=time.monotonic())
    assert caught.value.errno == errno.ENOENT
