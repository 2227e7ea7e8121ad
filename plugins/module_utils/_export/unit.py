# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The systemd unit of an export, written and read back. Pure.

Facts: systemd.syntax(7), systemd.unit(5), systemd.service(5) "COMMAND LINES", systemd.exec(5), systemd.kill(5).
"""

from __future__ import annotations

import posixpath
import re
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._export import definition, servers
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

#: where the administrator's units lie: there they are again after a reboot
DIRECTORY = "/etc/systemd/system"
WANTED_BY = "multi-user.target"
#: runs what gets a server ready, and what ends it
SHELL = "/bin/sh"
#: systemd makes it at boot; sockets lie in it that no task names
RUNTIME_DIRECTORY = "/run/platter"

_SECTION, _KEY = "[X-Platter]", "Definition="
_HEAD = """\
# Made by platter.qemu.nbd_export, which writes it anew when it is changed.
# What is to be otherwise belongs in a file of your own: systemctl edit %s
"""
_BARE = re.compile(r"[A-Za-z0-9_@+=:,./-]+\Z")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_@+=:,./~-]*\Z")
#: directories that ProtectSystem=full has read-only
_SYSTEM = ("/usr/", "/boot/", "/efi/", "/etc/")
#: qemu-nbd takes over a socket that another program listens on, and nbdkit starts at none that is left over. The
#: kernel's table shows who listens (00010000)
_FREE_SOCKET = (
    "while read -r a b c flags d e f path; do"
    ' if [ "$flags $path" = "00010000 $1" ]; then echo "another program listens on $1" >&2; exit 1; fi;'
    " done </proc/net/unix;"
    ' if [ -S "$1" ]; then rm -f -- "$1"; fi'
)
#: again and again, as a server that is just starting can lose a SIGTERM
_ASK_TO_END = 'while kill -TERM "$MAINPID" 2>/dev/null; do sleep 0.1 || sleep 1; done'


def unit_name(name: str) -> str:
    """Of the export C(name), or the storage daemon (C(places.host_name)); their letters (read_spec) all stand for
    themselves in names of units.
    """
    return "platter-storage-%s.service" % name[1:] if name.startswith(":") else "platter-nbd-%s.service" % name


def unit_file(name: str) -> str:
    """Where the unit lies."""
    return posixpath.join(DIRECTORY, unit_name(name))


def wants_link(name: str) -> str:
    """The link that has it started at boot, as C(systemctl enable) makes it."""
    return posixpath.join(DIRECTORY, WANTED_BY + ".wants", unit_name(name))


def as_unit(name: str, made: Definition, target: str) -> Definition:
    """The same definition, written down as a unit. C(target): the file or device behind the name of the image."""
    return replace(made, text=render(name, made, target))


def render(name: str, made: Definition, target: str) -> str:
    """The text of the unit. The definition itself is in it, in a section that systemd ignores."""
    lines = [
        *_unit_lines(name, made.options, target),
        *_service_lines(made),
        *_sandbox_lines(made, target),
        *("", "[Install]", "WantedBy=" + WANTED_BY),
        *("", _SECTION, _KEY + definition.to_line(made)),
    ]
    return _HEAD % unit_name(name) + "\n".join(lines) + "\n"


def parse(text: str) -> t.Optional[Definition]:
    """What a unit says; None where it was not written by us."""
    inside = text.partition("\n%s\n" % _SECTION)[2]
    line = next((line for line in inside.splitlines() if line.startswith(_KEY)), "")
    found = definition.parse(line[len(_KEY) :])
    return replace(found, text=text) if found else None


def command(words: t.Iterable[str]) -> str:
    """A command line in which systemd finds exactly these words."""
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """C(word) with nothing left in it that systemd would read as more: C(%) is its own, C($) a variable."""
    if _BARE.match(word):
        return word
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return '"%s"' % "".join(_visible(letter) for letter in text)


def _visible(letter: str) -> str:
    """Control characters by number. Of a name that is no UTF-8 each byte too, as units are UTF-8."""
    if "\udc80" <= letter <= "\udcff":
        return "\\x%02x" % (ord(letter) - 0xDC00)
    return letter if letter.isprintable() else "".join("\\x%02x" % byte for byte in letter.encode())


def _unit_lines(name: str, options: t.Mapping[str, t.Any], target: str) -> t.Iterator[str]:
    yield "[Unit]"
    daemon = name.startswith(":")
    yield "Description=NBD %s %s (platter.qemu)" % ("storage daemon" if daemon else "export", name.lstrip(":"))
    if daemon:
        # images of its exports can lie anywhere
        yield "After=local-fs.target remote-fs.target"
    yield "RequiresMountsFor=" + " ".join(_needed(options, target))
    if "bind" in options and not options["bind"].startswith(("127.", "::1")):
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    # a server that fails at once is tried for ten seconds
    yield "StartLimitIntervalSec=60"
    yield "StartLimitBurst=20"


def _needed(options: t.Mapping[str, t.Any], target: str) -> t.List[str]:
    """The directories whose file systems the server needs."""
    tls = options.get("tls") or {}
    secret = (options.get("encryption") or {}).get("secret_file")
    paths = [target, options.get("image"), options.get("socket"), tls.get("psk_file"), secret]
    directories = [posixpath.dirname(path) for path in paths if path] + [tls.get("x509_dir")]
    return sorted({_plain(path) for path in directories if path})


def _plain(path: str) -> str:
    """C(path) or the nearest above it that can be written in a list of paths, which knows no escapes."""
    while not _PLAIN_PATH.match(path):
        path = posixpath.dirname(path)
    return path


def _service_lines(made: Definition) -> t.Iterator[str]:
    socket = made.options.get("socket")
    yield ""
    yield "[Service]"
    yield "Type=exec"
    if socket:
        yield "ExecStartPre=" + command([SHELL, "-c", _FREE_SOCKET, "sh", socket])
    yield "ExecStart=" + command([*made.launcher, *made.argv])
    if made.loader:
        yield "ExecStartPost=" + command(made.loader)
    yield "ExecStop=" + command([SHELL, "-c", _ASK_TO_END])
    yield "Restart=on-failure"
    yield "RestartSec=500ms"
    yield "KillMode=mixed"
    yield "TimeoutStopSec=%g" % servers.patience(made.options, made.options.get("stop_timeout", 60))
    if not servers.loses_nothing(made):
        # killed, it could lose what it has not written out
        yield "SendSIGKILL=no"
    yield "OOMScoreAdjust=-900"
    # the socket is for its owner
    yield "UMask=0177"
    yield "Environment=LC_ALL=C"
    if _in_runtime_directory(socket) or made.loader:
        yield "RuntimeDirectory=" + posixpath.basename(RUNTIME_DIRECTORY)
        yield "RuntimeDirectoryMode=0711"
        # it is that of all exports
        yield "RuntimeDirectoryPreserve=yes"


def _in_runtime_directory(socket: t.Optional[str]) -> bool:
    return bool(socket) and posixpath.dirname(str(socket)) == RUNTIME_DIRECTORY


def _sandbox_lines(made: Definition, target: str) -> t.Iterator[str]:
    """What a server that a hostile image has taken over cannot do. Images, their bases and keys can lie anywhere,
    so nothing is hidden from it (no ProtectHome, PrivateTmp, PrivateDevices); and sockets of another network namespace
    would not be seen by the next run.
    """
    options, socket, writes = made.options, made.options.get("socket"), made.writes
    if not writes:
        yield "ProtectSystem=strict"
    elif not target.startswith(_SYSTEM):
        yield "ProtectSystem=full"
    written = [posixpath.dirname(socket)] if socket and not _in_runtime_directory(socket) else []
    for directory in (*written, *servers.of(options["server"]).scratch(options)):
        yield "ReadWritePaths=-" + _plain(directory)
    yield "DevicePolicy=closed"
    yield "DeviceAllow=block-* " + ("rw" if writes else "r")
    # as root it opens the files of others; CAP_SYS_RESOURCE: writes go on in the last blocks of a full file system
    capabilities = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", *(["CAP_SYS_RESOURCE"] if writes else [])]
    yield "CapabilityBoundingSet=" + " ".join(capabilities + _for_port(options.get("port")))
    # AF_NETLINK: the resolver asks which addresses there are
    yield "RestrictAddressFamilies=" + ("AF_UNIX" if socket else "AF_UNIX AF_INET AF_INET6 AF_NETLINK")
    yield from _ALWAYS


def _for_port(port: t.Optional[int]) -> t.List[str]:
    return ["CAP_NET_BIND_SERVICE"] if port and port < 1024 else []


_ALWAYS = (
    "NoNewPrivileges=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectControlGroups=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)
