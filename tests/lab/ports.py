"""Ports of this machine's loopback for the servers of tests, which run side by side."""

from __future__ import annotations

import secrets
import socket

_FIRST = 16384
#: held until this process ends, so that tests of others are not given the same
_claims: list[socket.socket] = []


def free_port() -> int:
    """That nobody has. It is none of those that the kernel gives to whoever asks for any, so that a server which is killed finds
    it free when it comes again, and no client of it ends up with itself.
    """
    while True:
        port = _FIRST + secrets.randbelow(_first_of_the_kernel() - _FIRST)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0platter.qemu-tests-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return port


def _first_of_the_kernel() -> int:
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as told:
        return max(int(told.read().split()[0]), 2 * _FIRST)
