# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""C(nbdkit) with its file plugin: a process for each export of a raw image, and filters between it and its clients. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec

NAME, PROGRAM = "nbdkit", "nbdkit"


def cannot(spec: ExportSpec) -> str:
    """The first of the things asked that it cannot do."""
    return next((text for is_so, text in _lacks(spec) if is_so), "")


def _lacks(spec: ExportSpec) -> t.Iterator[t.Tuple[t.Any, str]]:
    yield spec.daemon is not None, "is a process of its own for each export"
    yield spec.format != "raw", "serves raw images only"
    yield spec.allocation_depth, "does not tell allocation depths"
    yield spec.cache in ("none", "directsync"), "does not pass by the memory of the host"
    yield spec.tls and spec.tls.authorized, "does not look at the names in certificates"
    yield spec.throttle and spec.throttle.iops, "limits bytes, not requests"


def scratch(options: t.Mapping[str, t.Any]) -> t.Sequence[str]:
    """What clients have written is in a file without a name."""
    return ("/var/tmp",) if options.get("cow") else ()


def launcher(spec: ExportSpec, ground: Ground) -> t.List[str]:
    """It takes no lock of QEMU's: so it is started with one."""
    return [*ground.holder, "write" if spec.writes else "read", ground.target]


def command(spec: ExportSpec, ground: Ground) -> t.List[str]:
    """In the foreground. It serves this name only, and its filters are told from the client's side."""
    filters = list(_filters(spec))
    return [
        ground.program,
        "--foreground",
        "--export-name=" + spec.name,
        *_place_words(spec),
        *(_tls_words(spec.tls) if spec.tls else ["--tls=off"]),
        *(["--readonly"] if spec.read_only else []),
        *("--filter=" + name for name, _words in filters),
        "file",
        "file=" + ground.target,
        *(word for _name, words in filters for word in words),
    ]


def _place_words(spec: ExportSpec) -> t.List[str]:
    if spec.bind is None:
        return ["--unix=%s" % spec.socket]
    return ["--ipaddr=" + spec.bind, "--port=%d" % spec.port]


def _tls_words(tls: TlsSpec) -> t.List[str]:
    """Clients have to prove who they are, in each case."""
    if tls.psk_file:
        return ["--tls=require", "--tls-psk=" + tls.psk_file]
    return ["--tls=require", "--tls-certificates=%s" % tls.x509_dir, "--tls-verify-peer"]


def _filters(spec: ExportSpec) -> t.Iterator[t.Tuple[str, t.List[str]]]:
    """(filter, its parameters), from the client to the file."""
    if spec.allow_from:
        yield "ip", ["allow=" + ",".join(spec.allow_from), "deny=all"]
    yield "limit", ["limit=%d" % spec.shared]
    described = [] if spec.description is None else ["exportdesc=fixed:" + spec.description]
    yield "exportname", ["exportname=" + spec.name, "exportname-strict=true", *described]
    if spec.throttle and spec.throttle.bps:
        yield "rate", ["rate=%d" % (8 * spec.throttle.bps)]
    if spec.delay:
        yield "delay", ["rdelay=%dms" % spec.delay.read_ms, "wdelay=%dms" % spec.delay.write_ms]
    if spec.cache == "writethrough" and spec.writes:
        yield "fua", ["fuamode=force"]
    if spec.cow:
        yield "cow", []
    if spec.partition is not None:
        yield "partition", ["partition=%d" % spec.partition]
    if spec.windowed:
        length = [] if spec.size is None else ["range=%d" % spec.size]
        yield "offset", ["offset=%d" % spec.offset, *length]
