# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The kernel's own NBD client (drivers/block/nbd.c), over its netlink: connected sockets become block devices, which need
no process any more.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import block_device, connection, process

_NETLINK_GENERIC, _GENL_ID_CTRL, _CTRL_GETFAMILY, _CTRL_FAMILY_ID, _CTRL_FAMILY_NAME = 16, 0x10, 3, 1, 2
_REQUEST, _ACK, _NLMSG_ERROR = 1, 4, 2
_HEADER, _GENL = struct.Struct("=IHHII"), struct.Struct("=BBH")
_CONNECT, _DISCONNECT = 1, 2
# linux/nbd-netlink.h
_INDEX, _SIZE, _BLOCK_SIZE, _TIMEOUT, _SERVER_FLAGS, _SOCKETS, _BACKEND = 1, 2, 3, 4, 5, 7, 10
_NESTED = 1 << 15
_SECONDS = 10.0
_POLL_SECONDS = 0.02
#: the first Linux that keeps a name for the other end (C(NBD_ATTR_BACKEND_IDENTIFIER))
_SINCE = (5, 14)
_MODULE = "/sys/module/nbd"


def is_there(run: process.RunCommand) -> bool:
    """Whether the kernel has it, or would load it."""
    numbers = tuple(int(digits) for digits in re.findall(r"[0-9]+", os.uname().release)[:2])
    if numbers < _SINCE:
        return False
    if os.path.isdir(_MODULE):
        return True
    try:
        return process.run(run, ["modprobe", "--dry-run", "--quiet", "nbd"], ok=(0, 1), timeout=_SECONDS)[0] == 0
    except errors.EngineError:
        return False


def load(run: process.RunCommand) -> None:
    """Have it there."""
    if not os.path.isdir(_MODULE):
        process.run(run, ["modprobe", "nbd"], timeout=_SECONDS)


def marks() -> t.Dict[str, str]:
    """The paths of all devices that were connected with a mark, and their marks."""
    names = (name for name in sorted(os.listdir("/sys/block")) if name.startswith("nbd"))
    found = {"/dev/" + name: block_device.text(name, "backend") for name in names}
    return {path: mark for path, mark in found.items() if mark}


def is_lost(name: str) -> bool:
    """Whether the connection of a device that we have connected has ended. C(name): the kernel's."""
    told = block_device.text(name, "backend").split(" ")
    number = told[1].partition(":")[0] if len(told) > 1 else ""
    return number.isdigit() and not connection.is_open(int(number))


def connect(
    sock: int, *, size: int, block: int, flags: int, timeout: int, device: str, mark: str, deadline: float
) -> str:
    """The path of the device that the connected socket has become. C(size) in bytes; C(block): bytes of its sectors;
    C(flags): of the transmission; C(timeout): seconds after which a request fails, and all that follow; 0: never.

    C(device): the one to use, or empty for any that is free. Raises OSError: C(EBUSY) when that device has something to
    do, or by the C(deadline) of C(time.monotonic()) none was free.
    """
    sockets = _nested(_SOCKETS, _nested(1, _attribute(1, struct.pack("=I", sock))))
    asked = _attribute(_SIZE, struct.pack("=Q", size)) + _attribute(_BLOCK_SIZE, struct.pack("=Q", block))
    asked += _attribute(_SERVER_FLAGS, struct.pack("=Q", flags)) + sockets
    asked += _attribute(_BACKEND, os.fsencode(mark) + b"\0")
    if timeout:
        asked += _attribute(_TIMEOUT, struct.pack("=Q", timeout))
    if device:
        asked += _attribute(_INDEX, struct.pack("=I", _index(device)))
    while True:
        try:
            answer = _ask(_CONNECT, asked)
            return device or "/dev/nbd%d" % struct.unpack("=I", answer[_INDEX])[0]
        except OSError as exc:
            if exc.errno != errno.EBUSY or device or time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_SECONDS)


def disconnect(device: str) -> None:
    """Say goodbye to the server. Who has the device open can do nothing with it any more."""
    try:
        _ask(_DISCONNECT, _attribute(_INDEX, struct.pack("=I", _index(device))))
    except OSError as exc:
        if exc.errno != errno.EINVAL:  # it has gone meanwhile
            raise


def _index(device: str) -> int:
    return int(device[len("/dev/nbd") :])


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _attributes(data: bytes) -> t.Dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & ~_NESTED] = data[4:length]
        data = data[max(length + 3 & ~3, 4) :]
    return found


def _ask(command: int, asked: bytes) -> t.Dict[int, bytes]:
    """The attributes of the answer. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_GENERIC) as netlink:
        netlink.settimeout(_SECONDS)
        name = _attribute(_CTRL_FAMILY_NAME, b"nbd\0")
        family = struct.unpack("=H", _exchange(netlink, _GENL_ID_CTRL, _CTRL_GETFAMILY, name)[_CTRL_FAMILY_ID])[0]
        return _exchange(netlink, family, command, asked)


def _exchange(netlink: socket.socket, family: int, command: int, asked: bytes) -> t.Dict[int, bytes]:
    body = _GENL.pack(command, 1, 0) + asked
    netlink.send(_HEADER.pack(_HEADER.size + len(body), family, _REQUEST | _ACK, 1, 0) + body)
    answer: t.Dict[int, bytes] = {}
    while True:
        data = netlink.recv(1 << 16)
        while len(data) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(data)[:2]
            payload, data = data[_HEADER.size : length], data[length + 3 & ~3 :]
            if kind != _NLMSG_ERROR:
                answer.update(_attributes(payload[_GENL.size :]))
                continue
            number = -struct.unpack_from("=i", payload)[0]
            if number:
                raise OSError(number, os.strerror(number))
            return answer
