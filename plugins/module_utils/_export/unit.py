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

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._export import definition, servers
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

#: directories that ProtectSystem=full has read-only
_SYSTEM = ("/usr/", "/boot/", "/efi/", "/etc/")
#: again and again, as a server that is just starting can lose a SIGTERM
_ASK_TO_END = 'while kill -TERM "$MAINPID" 2>/dev/null; do sleep 0.1 || sleep 1; done'


def unit_name(name: str) -> str:
    """Of the export C(name), or the storage daemon (C(places.host_name)); their letters (read_spec) all stand for
    themselves in names of units.
    """
    return "platter-storage-%s.service" % name[1:] if name.startswith(":") else "platter-nbd-%s.service" % name


def name_in(service: str) -> str:
    """Whose unit that is, as C(unit_name) takes it; empty where it is nobody's of ours."""
    found = re.match(r"platter-(storage|nbd)-(.+)\.service\Z", service)
    return (":" if found.group(1) == "storage" else "") + found.group(2) if found else ""


def unit_file(name: str) -> str:
    """Where the unit lies."""
    return unit_text.unit_file(unit_name(name))


def wants_link(name: str) -> str:
    """The link that has it started at boot, as C(systemctl enable) makes it."""
    return unit_text.wants_link(unit_name(name))


def as_unit(name: str, made: Definition, target: str) -> Definition:
    """The same definition, written down as a unit. C(target): the file or device behind the name of the image."""
    return replace(made, text=render(name, made, target))


def render(name: str, made: Definition, target: str) -> str:
    """The text of the unit. The definition itself is in it, in a section that systemd ignores."""
    lines = [
        *_unit_lines(name, made.options, target),
        *_service_lines(made),
        *_sandbox_lines(made, target),
        *unit_text.last_lines(definition.to_line(made)),
    ]
    return unit_text.head("nbd_export", unit_name(name)) + "\n".join(lines) + "\n"


def parse(text: str) -> t.Optional[Definition]:
    """What a unit says; None where it was not written by us."""
    found = definition.parse(unit_text.definition_in(text))
    return replace(found, text=text) if found else None


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
    return sorted({unit_text.plain(path) for path in directories if path})


def _service_lines(made: Definition) -> t.Iterator[str]:
    socket = made.options.get("socket")
    yield ""
    yield "[Service]"
    yield "Type=exec"
    if socket:
        yield "ExecStartPre=" + unit_text.command([unit_text.SHELL, "-c", unit_text.FREE_SOCKET, "sh", socket])
    yield "ExecStart=" + unit_text.command([*made.launcher, *made.argv])
    if made.loader:
        yield "ExecStartPost=" + unit_text.command(made.loader)
    yield "ExecStop=" + unit_text.command([unit_text.SHELL, "-c", _ASK_TO_END])
    yield "Restart=on-failure"
    yield "RestartSec=500ms"
    yield "KillMode=mixed"
    yield "TimeoutStopSec=%d" % servers.patience(made.options, made.options.get("stop_timeout", 60))
    if not servers.loses_nothing(made):
        # killed, it could lose what it has not written out
        yield "SendSIGKILL=no"
    yield "OOMScoreAdjust=-900"
    # the socket is for its owner
    yield "UMask=0177"
    yield "Environment=LC_ALL=C"
    if _in_runtime_directory(socket) or made.loader:
        yield "RuntimeDirectory=" + posixpath.basename(unit_text.RUNTIME_DIRECTORY)
        yield "RuntimeDirectoryMode=0711"
        # it is that of all exports
        yield "RuntimeDirectoryPreserve=yes"


def _in_runtime_directory(socket: t.Optional[str]) -> bool:
    return bool(socket) and posixpath.dirname(str(socket)) == unit_text.RUNTIME_DIRECTORY


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
        yield "ReadWritePaths=-" + unit_text.plain(directory)
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
