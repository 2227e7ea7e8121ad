# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Carries out the plan of a directory of keys. What is new is made beside its place and comes there whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, attempt, failed_at
from ansible_collections.platter.qemu.plugins.module_utils._keys import actions, observe
from ansible_collections.platter.qemu.plugins.module_utils._keys import spec as asked
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, openssl

#: of ours, in the directory of the task
_BUILD = ".platter-keys."
#: ffdhe2048 of RFC 7919: without parameters QEMU takes seconds to find some when it starts
_PARAMETERS = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
_PARAMETERS_NAME = "dh-params.pem"


class Executor:
    """Runs the actions of one item. C(look): reads again what is so."""

    def __init__(self, tool: t.Optional[openssl.Openssl], look: t.Callable[[], t.Tuple[t.Any, t.Any]]) -> None:
        self._tool = tool
        self._look = look
        self._methods: t.Dict[t.Any, t.Callable[[asked.KeysSpec, t.Any], None]] = {
            actions.MakeCertificate: self._make,
            actions.RenewCertificate: self._renew,
            actions.ShareKey: self._share,
        }

    def run(self, item: Item) -> None:
        """Carry out its plan."""
        attempt(item, lambda: self._carry_out(item), _failed)

    def _carry_out(self, item: Item) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(item.spec.directory, 0o700)
        _clear(item.spec.directory)
        for action in item.plan:
            self._methods[type(action)](item.spec, action)
            item.done += 1
        found, item.reading = self._look()
        if found != item.after:
            fact = "failed: keys in %s are not as planned after the change" % item.name
            raise errors.FailedError(fact, reason="not_as_planned")

    def _make(self, spec: asked.KeysSpec, action: actions.MakeCertificate) -> None:
        with _built(spec.directory) as built:
            stem = os.path.join(built, observe.role(action.part))
            certificate, key = stem + "-cert.pem", stem + "-key.pem"
            t.cast(openssl.Openssl, self._tool).make_key(key)
            self._certify(spec, action.part, certificate, key, action.days)
            if action.part != asked.CA:
                shutil.copy(_ca(spec).certificate, built)
            if action.part == asked.SERVER:
                _write(os.path.join(built, _PARAMETERS_NAME), _PARAMETERS, 0o644)
            _publish(built, os.path.join(spec.directory, action.part))

    def _renew(self, spec: asked.KeysSpec, action: actions.RenewCertificate) -> None:
        """One file takes the place of another: the key stays, so that both belong together at any time."""
        certificate, key = observe.pair(spec.directory, action.part)
        with _built(spec.directory) as built:
            new, authority = os.path.join(built, "cert.pem"), os.path.join(built, observe.CA_CERTIFICATE)
            self._certify(spec, action.part, new, key, action.days)
            _replace(new, certificate)
            if action.part != asked.CA:
                shutil.copy(_ca(spec).certificate, authority)
                _replace(authority, os.path.join(os.path.dirname(certificate), observe.CA_CERTIFICATE))

    def _certify(self, spec: asked.KeysSpec, part: str, certificate: str, key: str, days: int) -> None:
        tool = t.cast(openssl.Openssl, self._tool)
        if part == asked.CA:
            tool.sign_itself(key, certificate, self._ca_name(spec), days)
        elif part == asked.SERVER:
            tool.sign(key, certificate, spec.server[0][:64], days, by=_ca(spec), hosts=spec.server)
        else:
            tool.sign(key, certificate, part.rpartition("/")[2], days, by=_ca(spec))

    def _ca_name(self, spec: asked.KeysSpec) -> str:
        """Another for each, so that nobody takes one for the other; the same for its new certificates."""
        there = _ca(spec).certificate
        if os.path.exists(there):
            return t.cast(openssl.Openssl, self._tool).read(there).subject.partition("CN=")[2]
        return "CA for NBD %s" % secrets.token_hex(4)

    @staticmethod
    def _share(spec: asked.KeysSpec, action: actions.ShareKey) -> None:
        """The server's file first: what it has is given to the client, if a run was killed in between."""
        shared = os.path.join(spec.directory, observe.PSK_NAME)
        lines = list(observe.psk_lines(shared)) if os.path.exists(shared) else []
        with _built(spec.directory) as built:
            if action.user not in dict(lines):
                lines.append((action.user, secrets.token_hex(32)))
                _write(os.path.join(built, "all"), "".join("%s:%s\n" % line for line in lines), 0o600)
                _replace(os.path.join(built, "all"), shared)
                _write(os.path.join(built, _PARAMETERS_NAME), _PARAMETERS, 0o644)
                _replace(os.path.join(built, _PARAMETERS_NAME), os.path.join(spec.directory, _PARAMETERS_NAME))
            own = os.path.join(spec.directory, asked.client_part(action.user))
            _make_directories(own)
            _write(os.path.join(built, "own"), "%s:%s\n" % (action.user, dict(lines)[action.user]), 0o600)
            _replace(os.path.join(built, "own"), os.path.join(own, observe.PSK_NAME))


def _ca(spec: asked.KeysSpec) -> openssl.Signer:
    return openssl.Signer(*observe.pair(spec.directory, asked.CA))


@contextlib.contextmanager
def _built(directory: str) -> t.Iterator[str]:
    """A directory of our own (0700) beside the parts, gone after it."""
    path = tempfile.mkdtemp(prefix=_BUILD, dir=directory)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _clear(directory: str) -> None:
    """What runs that were killed have left; we have the lock."""
    for name in os.listdir(directory):
        if name.startswith(_BUILD):
            shutil.rmtree(os.path.join(directory, name))


def _write(path: str, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)


def _publish(built: str, directory: str) -> None:
    """All of a part at once. Nothing that lies there is replaced: it has no name of ours, or is not empty."""
    for name in os.listdir(built):
        files.fsync_path(os.path.join(built, name))
    files.fsync_path(built)
    _make_directories(os.path.dirname(directory))
    if os.path.lexists(directory):
        raise errors.FailedError("somebody has made %s meanwhile" % directory, reason="changed_meanwhile", evidence={})
    os.rename(built, directory)
    files.fsync_path(os.path.dirname(directory))


def _make_directories(path: str) -> None:
    """C(path) and the one above it. (os.makedirs gives its mode to the last one only.)"""
    for each in (os.path.dirname(path), path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, 0o700)


def _replace(built: str, path: str) -> None:
    files.fsync_path(built)
    os.rename(built, path)
    files.fsync_path(os.path.dirname(path))


def _failed(item: Item, exc: errors.EngineError) -> errors.EngineError:
    exc.message = failed_at(item, exc.message, "what was done before is there, and whole.")
    return exc
