"""A guest with NBD and md that plays reach over ssh, by a port of this machine's loopback."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Iterator

from ansible_collections.platter.qemu.tests.lab.array_guest import NETWORK, ArrayGuest, archive_of
from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.initramfs import add_program, add_python, interpreter
from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.vm import CLOCK

SERVER = "/usr/sbin/sshd"
#: StrictModes: the root directory itself is one that all can write to there
CONFIG = """
HostKey /etc/ssh/key
AuthorizedKeysFile /etc/ssh/client
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PasswordAuthentication no
UseDNS no
PidFile none
LogLevel ERROR
PrintMotd no
"""
#: Python's own, which Ansible imports on a host beside those that modules name
LIBRARY = """
import __future__, argparse, ast, atexit, base64, codecs, collections.abc, concurrent.futures.thread, contextlib
import copy, copyreg, ctypes.util, dataclasses, datetime, decimal, difflib, encodings.ascii, encodings.cp437
import encodings.idna, encodings.latin_1, encodings.utf_8_sig, enum, errno, fcntl, fnmatch, functools, gettext, glob
import grp, hashlib, hmac, importlib.metadata, importlib.util, inspect, io, itertools, json, linecache, locale
import logging, logging.handlers, math, mmap, multiprocessing, numbers, operator, os, pathlib, pickle, pkgutil
import platform, pprint, pwd, queue, random, re, reprlib, runpy, secrets, select, selectors, shlex, shutil, signal
import site, socket, ssl, stat, string, struct, subprocess, sys, syslog, tempfile, textwrap, threading, time
import tokenize, traceback, types, typing, unicodedata, urllib.parse, uuid, warnings, weakref, zipfile, zipimport
import zlib
print(*filter(None, (getattr(module, "__file__", None) for module in list(sys.modules.values()))), sep="\\n")
"""


class SshGuest(ArrayGuest):
    """C(port): of this machine's loopback. C(key): a file with what lets one in."""

    port: int
    key: Path

    def variables(self) -> dict[str, object]:
        """What an inventory of Ansible says of it."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            "ansible_ssh_pipelining": True,
            "ansible_python_interpreter": str(interpreter()),
        }


def add_ssh(archive: Archive, directory: Path) -> None:
    """A server that lets root in with the key C(client), which is written to the directory, as is C(host.pub)."""
    add_program(archive, "sshd", SERVER)
    add_python(archive, LIBRARY)
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    archive.file("/etc/ssh/key", (directory / "host").read_bytes(), 0o600)
    archive.file("/etc/ssh/client", (directory / "client.pub").read_bytes(), 0o600)
    archive.file("/etc/ssh/sshd_config", CONFIG.encode(), 0o600)
    # what it becomes until it knows who is there
    archive.file("/etc/passwd", b"root:x:0:0::/root:/bin/sh\nsshd:x:100:100::/run/sshd:/bin/false\n", 0o644)
    archive.directory("/root")


@contextlib.contextmanager
def running_ssh(directory: Path) -> Iterator[SshGuest]:
    """A guest that has come up and lets in who has the key."""
    archive = archive_of()
    add_ssh(archive, directory)
    port = free_port()
    nic = ("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22")
    guest = SshGuest(directory, (), False, ("-m", "768", *nic), archive.content(), CLOCK)
    guest.port, guest.key = port, directory / "client"
    try:
        guest.boot()
        guest.run(f"{NETWORK}; mkdir -p /run/sshd; {SERVER} -E /run/sshd.log")
        yield guest
    finally:
        guest.end()
