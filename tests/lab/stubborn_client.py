"""Tries to connect to an NBD server until one listens, says so, and stays: stubborn_client.py SOCKET EXPORT."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys

#: doc/proto.md of NBD: a client's flags, the option that begins the transmission, and how long the server's part of it is
FIXED_NEWSTYLE, OPT_EXPORT_NAME = 1, 1
GREETING_AND_EXPORT = 18 + 8 + 2 + 124


def main() -> None:
    """Until it is ended."""
    where, name = sys.argv[1], sys.argv[2].encode()
    os.write(1, b"tries\n")
    while True:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.connect(where)
            connection.sendall(struct.pack(">I8sII", FIXED_NEWSTYLE, b"IHAVEOPT", OPT_EXPORT_NAME, len(name)) + name)
            if len(connection.recv(GREETING_AND_EXPORT, socket.MSG_WAITALL)) == GREETING_AND_EXPORT:
                os.write(1, b"served\n")
                signal.pause()


main()
