# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of a directory of keys. Read-only."""

from __future__ import annotations

import os
import stat
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._keys import spec as asked
from ansible_collections.platter.qemu.plugins.module_utils._keys import state
from ansible_collections.platter.qemu.plugins.module_utils._tools import openssl, walk

#: certificates that end sooner are renewed, if at all
LASTING_SECONDS = 30 * 86400
PSK_NAME = "keys.psk"
CA_CERTIFICATE = "ca-cert.pem"
Problem = t.Tuple[str, str]


def role(part: str) -> str:
    """What the files of a part are called after."""
    return part if part in (asked.CA, asked.SERVER) else "client"


def pair(directory: str, part: str) -> t.Tuple[str, str]:
    """The paths of its certificate and its key."""
    stem = os.path.join(directory, part, role(part))
    return stem + "-cert.pem", stem + "-key.pem"


class Reader:
    """Reads the parts of one directory. C(tool) None: openssl is not there, and nothing of certificates is read."""

    def __init__(self, spec: asked.KeysSpec, tool: t.Optional[openssl.Openssl]) -> None:
        self._spec = spec
        self._tool = tool
        self._problems: t.Dict[str, Problem] = {}
        self._ended: t.Set[str] = set()

    def observe(self) -> t.Tuple[state.KeysState, state.KeysReading]:
        """The state and the reading."""
        spec, problem = self._spec, directory_problem(self._spec.directory)
        parts: t.Dict[str, state.Part] = {}
        if spec.kind == asked.CERTIFICATES and not problem and self._tool:
            parts = self._parts(self._tool)
        users = () if problem else tuple(self._users())
        reading = state.KeysReading(dict(self._problems), problem, frozenset(self._ended))
        return state.KeysState(spec.directory, parts, users), reading

    def _parts(self, tool: openssl.Openssl) -> t.Dict[str, state.Part]:
        """Those that are as this module makes them; what is wrong with the others is noted."""
        there = [part for part in self._spec.parts if os.path.lexists(os.path.join(self._spec.directory, part))]
        for part in there:
            self._note(part, _file_problem(self._spec.directory, part))
        whole = {part: pair(self._spec.directory, part)[0] for part in there if part not in self._problems}
        ca = pair(self._spec.directory, asked.CA)[0]
        signed = tool.signed_by(ca, list(whole.values())) if asked.CA in whole else set()
        for part in [part for part, path in whole.items() if path not in signed]:
            self._note(part, ("keys_foreign", "%s was not signed by the CA in this directory" % whole.pop(part)))
        return {part: self._part(part, tool.read(path), ca) for part, path in whole.items()}

    def _note(self, part: str, problem: t.Optional[Problem]) -> None:
        if problem:
            self._problems[part] = problem

    def _part(self, part: str, found: openssl.Certificate, ca: str) -> state.Part:
        left = found.ends - time.time()
        if left <= 0:
            self._ended.add(part)
        names = {asked.CA: (), asked.SERVER: found.hosts}.get(part, (found.subject,))
        beside = os.path.join(self._spec.directory, part, CA_CERTIFICATE)
        return state.Part(names, left >= LASTING_SECONDS and _bytes(beside) == _bytes(ca))

    def _users(self) -> t.Iterator[str]:
        """The clients that have the key that the server has for them."""
        if self._spec.kind == asked.CERTIFICATES:
            return
        shared = os.path.join(self._spec.directory, PSK_NAME)
        keys = dict(psk_lines(shared)) if os.path.lexists(shared) else {}
        for name in self._spec.clients:
            part = asked.client_part(name)
            own = os.path.join(self._spec.directory, part, PSK_NAME)
            bad = next((_mode_problem(each) for each in (shared, own) if os.path.lexists(each)), None)
            if bad:
                self._problems[part] = bad
            elif os.path.lexists(own):
                if list(psk_lines(own)) == [(name, keys.get(name))]:
                    yield name
                elif name not in keys:
                    self._problems[part] = (
                        "client_shut_out",
                        "%s has a key, and the server's %s has none for it" % (own, shared),
                    )
                else:
                    self._problems[part] = "keys_differ", "%s has another key than the server's %s" % (own, shared)


def psk_lines(path: str) -> t.Iterator[t.Tuple[str, str]]:
    """(user, key) of each line."""
    for line in _bytes(path).decode("utf-8", "surrogateescape").splitlines():
        user, colon, key = line.partition(":")
        if colon:
            yield user, key


def directory_problem(directory: str) -> t.Optional[t.Tuple[str, str, str]]:
    """Why keys do not belong there, as (reason, fact, way out)."""
    there = directory if os.path.lexists(directory) else os.path.dirname(directory)
    if not os.path.isdir(there):
        return "directory_missing", "%s is no directory" % there, "Make it first, or correct directory."
    mover = walk.unsafe_mover(os.path.realpath(there))
    if mover:
        fact = "others can put something else into %s (owner %d, mode %04o)" % mover
        return "unsafe_directory", fact, "Use a directory that only its owner can write to."
    return None


def _file_problem(directory: str, part: str) -> t.Optional[Problem]:
    """What keeps the files of a part from being ours."""
    certificate, key = pair(directory, part)
    for path in (certificate, key, os.path.join(directory, part, CA_CERTIFICATE)):
        if not (os.path.isfile(path) and not os.path.islink(path)):
            return "keys_foreign", "there is %s/%s, and no file %s" % (directory, part, path)
    if not openssl.belong_together(certificate, key):
        return "keys_foreign", "%s is not the certificate of %s" % (certificate, key)
    return _mode_problem(key)


def _mode_problem(path: str) -> t.Optional[Problem]:
    info = os.lstat(path)
    if info.st_uid in (0, os.geteuid()) and not stat.S_IMODE(info.st_mode) & 0o077:
        return None
    return "key_permissions", "%s belongs to user %d and has the mode %04o" % (
        path,
        info.st_uid,
        stat.S_IMODE(info.st_mode),
    )


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(1 << 20)
    except OSError as exc:
        raise errors.EngineError("%s cannot be read: %s" % (path, exc.strerror)) from exc
