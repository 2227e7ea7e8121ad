# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so of the image, the place and the keys that a task names. Read-only."""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._export import state
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image
from ansible_collections.platter.qemu.plugins.module_utils._inspect.target import resolve_target
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_places, tcp_sockets, unix_sockets


def about_place(
    spec: ExportSpec,
    reading: state.ExportReading,
    own: t.FrozenSet[int],
    sockets: unix_sockets.Table,
    tcp: tcp_sockets.Table,
) -> state.ExportReading:
    """Whether the place is free, or the export's: C(own) are the sockets of its server."""
    if spec.bind is not None:
        foreign = bool(tcp_sockets.listeners_at(spec.bind, spec.port, tcp) - own)
        reading = replace(reading, certificates=certificates(spec.tls))
        return replace(reading, socket_problem=_about_address(spec, spec.bind), foreign_listener=foreign)
    return _about_socket(str(spec.socket), reading, own, sockets)


def _about_address(spec: ExportSpec, address: str) -> t.Optional[t.Tuple[str, str, str]]:
    problem = tcp_sockets.unbindable(address)
    if problem:
        return "address_missing", "%s is no address of this host (%s)" % (address, problem), "Correct bind."
    return key_problem(spec.tls) if spec.tls else None


def _about_socket(
    path: str, reading: state.ExportReading, own: t.FrozenSet[int], sockets: unix_sockets.Table
) -> state.ExportReading:
    directory, default = os.path.dirname(path), own_places.socket_directory()
    problem = None
    if directory != default or os.path.lexists(default):
        problem = own_places.shared_problem(directory)
    if os.path.lexists(path) and not unix_sockets.is_socket(path):
        problem = "socket_in_use", "there is something else than a socket at %s" % path, "Set socket otherwise."
    listener = unix_sockets.listener_at(path, sockets)
    foreign = listener not in own if listener else unix_sockets.answers(path)
    return replace(reading, socket_problem=problem, foreign_listener=foreign)


_LONGEST = 1 << 20
_X509_FILES = ("ca-cert.pem", "server-cert.pem", "server-key.pem")


def key_problem(tls: TlsSpec) -> t.Optional[t.Tuple[str, str, str]]:
    """What is wrong with the files of keys, as (reason, fact, way out). A key that others can read is no secret, and a CA
    that they can put there lets them in.
    """
    files = [os.path.join(tls.x509_dir, name) for name in _X509_FILES] if tls.x509_dir else [str(tls.psk_file)]
    # servers may read keys of TLS as members of a group
    found = (file_problem(path, 0o022 if path.endswith("-cert.pem") else 0o037) for path in files)
    problem = next(filter(None, found), None)
    return problem or own_places.shared_problem(tls.x509_dir or os.path.dirname(str(tls.psk_file)))


def certificates(tls: t.Optional[TlsSpec]) -> str:
    """A digest of those that a server reads when it starts; empty where there are none. Shared keys it reads for each client."""
    if tls is None or not tls.x509_dir:
        return ""
    digest = hashlib.sha256()
    for name in _X509_FILES[:2]:
        try:
            with open(os.path.join(tls.x509_dir, name), "rb") as stream:
                digest.update(stream.read(_LONGEST))
        except OSError:  # key_problem tells of it
            return ""
    return digest.hexdigest()[:16]


def file_problem(path: str, closed: int) -> t.Optional[t.Tuple[str, str, str]]:
    """What is wrong with a file of keys. C(closed): the permissions that nobody may have."""
    try:
        info = os.stat(path)
    except OSError as exc:
        return "secret_missing", "%s cannot be read (%s)" % (path, exc.strerror), "Put it there."
    mode = stat.S_IMODE(info.st_mode)
    if info.st_uid in (0, os.geteuid()) and not mode & closed:
        return None
    fact = "%s belongs to user %d and has the mode %04o" % (path, info.st_uid, mode)
    return "key_permissions", fact, "Give it to the user who runs the task, with the mode 0600."


def about_image(spec: ExportSpec, reading: state.ExportReading) -> state.ExportReading:
    """What lies there, and whether it is what it is declared to be."""
    target = resolve_target(str(spec.image))
    seen = image.look_at(target, spec.format, follow=False)
    return replace(
        reading,
        target=target,
        kind=seen.facts.kind,
        header=seen.header,
        length=seen.facts.length,
        detected=seen.detected,
        secret_problem=file_problem(spec.encryption.secret_file, 0o077) if spec.encryption else None,
        chain_problem=chain.chain_problem(target, seen.header, image.chain_header),
    )
