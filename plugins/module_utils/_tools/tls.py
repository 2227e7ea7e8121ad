# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""TLS as QEMU's NBD speaks it: certificates in a directory with QEMU's file names, or pre-shared keys in a file.

The server is always proved: by its certificate and the name in it, or by the key. Before TLS 1.2 nothing is spoken.
"""

from __future__ import annotations

import os
import ssl
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, key_file

_CA, _CERTIFICATE, _KEY = "ca-cert.pem", "client-cert.pem", "client-key.pem"
_MOST = 1 << 20
#: with these alone, in TLS 1.2, only who knows the key can answer (in 1.3 a server may choose a certificate instead, which
#: nobody would look at); all of them keep what was said secret when the key is lost later
_PSK_CIPHERS = ":".join(
    (
        "ECDHE-PSK-CHACHA20-POLY1305",
        "DHE-PSK-AES256-GCM-SHA384",
        "DHE-PSK-CHACHA20-POLY1305",
        "DHE-PSK-AES128-GCM-SHA256",
        "ECDHE-PSK-AES256-CBC-SHA384",
        "ECDHE-PSK-AES128-CBC-SHA256",
    )
)


@dataclass(frozen=True)
class Credentials:
    """What we prove ourselves and a server by. Without any: the CAs of this host, and no certificate of ours.

    C(directory): C(ca-cert.pem), and C(client-cert.pem) with C(client-key.pem), as QEMU names them. C(psk_file): lines
    of C(user:key), the key in hexadecimal. C(user): whose line. C(hostname): the name in the server's certificate.
    """

    directory: str = ""
    psk_file: str = ""
    user: str = ""
    hostname: str = ""

    @property
    def kind(self) -> str:
        """C(psk) or C(x509)."""
        return "psk" if self.psk_file else "x509"


def can_use_psk() -> bool:
    """Python speaks TLS with pre-shared keys since 3.13."""
    return hasattr(ssl.SSLContext, "set_psk_client_callback") and bool(getattr(ssl, "HAS_PSK", False))


def context(credentials: Credentials) -> ssl.SSLContext:
    """What to wrap a socket with. Raises SpecError (tls_files, key_permissions, psk_unsupported)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if credentials.psk_file:
        _use_psk(made, credentials)
    else:
        _use_certificates(made, credentials.directory)
    return made


def describe(exc: OSError) -> str:
    """What went wrong in a handshake, as text for a message."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "the server's certificate is not valid (%s)" % exc.verify_message.rstrip(".")
    reason = (exc.reason or "") if isinstance(exc, ssl.SSLError) else ""
    return "TLS failed (%s)" % (reason.lower().replace("_", " ") or "the server has hung up")


# --- certificates


def _use_certificates(made: ssl.SSLContext, directory: str) -> None:
    if not directory:
        made.load_default_certs()
        return
    ca, certificate, key = (os.path.join(directory, name) for name in (_CA, _CERTIFICATE, _KEY))
    try:
        made.load_verify_locations(ca)
    except OSError as exc:
        raise _bad_file(ca, exc) from exc
    if os.path.exists(certificate) or os.path.exists(key):
        _read_key(key, directory)
        try:
            made.load_cert_chain(certificate, key, password=_no_password)
        except OSError as exc:
            raise _bad_file(certificate if os.path.exists(key) else key, exc) from exc


def _no_password() -> str:
    """Without this OpenSSL asks at the terminal for the password of an encrypted key, and waits."""
    return ""


def _bad_file(path: str, exc: OSError) -> errors.SpecError:
    fact = (exc.reason or "it holds none") if isinstance(exc, ssl.SSLError) else exc.strerror
    return errors.SpecError(
        "use of the TLS file",
        path,
        "it cannot be read (%s)" % fact,
        reason="tls_files",
        way_out="Put ca-cert.pem there, and client-cert.pem with client-key.pem if the server asks for a certificate.",
        joined="",
    )


# --- pre-shared keys


def _use_psk(made: ssl.SSLContext, credentials: Credentials) -> None:
    if not can_use_psk():
        raise errors.SpecError(
            "TLS with the pre-shared keys in",
            credentials.psk_file,
            "Python has it since 3.13, and qemu-nbd, which could be asked instead, is missing or cannot do this",
            reason="psk_unsupported",
            way_out="Use certificates, or a newer Python on this host; or install qemu-nbd, and leave identity out.",
            joined="",
        )
    identity = psk_identity(credentials)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(_PSK_CIPHERS)
    t.cast(t.Any, made).set_psk_client_callback(lambda _hint: identity)


def psk_identity(credentials: Credentials) -> t.Tuple[str, bytes]:
    """(user, key) of the file's line for the user, or of its only line. Raises SpecError."""
    lines = _read_key(credentials.psk_file, credentials.psk_file).decode("utf-8", "replace").splitlines()
    keys = dict(line.partition(":")[::2] for line in lines if line and not line.startswith("#"))
    user = credentials.user or (next(iter(keys)) if len(keys) == 1 else "")
    try:
        key = bytes.fromhex(keys[user])
    except KeyError:
        fact = "it has no key for the user %r" % user if user else "it has not just one line, and no user is named"
        raise _bad_psk(credentials.psk_file, fact) from None
    except ValueError:
        raise _bad_psk(credentials.psk_file, "the key of %r is not hexadecimal" % user) from None
    return user, key


def _bad_psk(path: str, fact: str) -> errors.SpecError:
    way_out = "Write user:key in it, the key in hexadecimal, and name the user: nbds://user@host/."
    return key_file.bad_key(path, "", fact, "tls_files", way_out)


def _read_key(path: str, subject: str) -> bytes:
    """A file with a key, which others must not be able to read."""
    try:
        with open(path, "rb") as stream:
            key_file.refuse_shared(stat.S_IMODE(os.fstat(stream.fileno()).st_mode), path, subject)
            return stream.read(_MOST)
    except OSError as exc:
        raise key_file.bad_key(
            path, subject, "it cannot be read (%s)" % exc.strerror, "tls_files", "Put it there, or correct its name."
        ) from exc
