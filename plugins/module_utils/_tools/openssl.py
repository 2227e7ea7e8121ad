# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""openssl(1): keys, certificates, and what is in them."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import ssl
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import process

_PATIENCE = 30.0
_REQUEST = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = %s\n[more]\n%s\n"
_AUTHORITY = (
    "basicConstraints = critical, CA:true\nkeyUsage = critical, keyCertSign, cRLSign\nsubjectKeyIdentifier = hash"
)
_SIGNED = "basicConstraints = critical, CA:false\nkeyUsage = critical, digitalSignature\nsubjectKeyIdentifier = hash\n"


class Certificate(t.NamedTuple):
    """C(subject): its DN, as RFC 2253 writes it. C(hosts): names and addresses of the host it is for, sorted. C(ends): in
    seconds since 1970.
    """

    subject: str
    hosts: t.Tuple[str, ...]
    ends: int


class Signer(t.NamedTuple):
    """The files of a CA."""

    certificate: str
    key: str


class Openssl:
    """One method per use. C(program): its path."""

    def __init__(self, run: process.RunCommand, program: str) -> None:
        self._run = run
        self._program = program

    def _tell(self, *words: str) -> str:
        return process.run(self._run, [self._program, *words], timeout=_PATIENCE)[1]

    def make_key(self, path: str) -> None:
        """For an elliptic curve, which every TLS library of ten years knows. It is its owner's only."""
        self._tell("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
        os.chmod(path, 0o600)

    def sign_itself(self, key: str, path: str, name: str, days: int) -> None:
        """The certificate of a CA."""
        asked = _write(path + ".asked", _REQUEST % (name, _AUTHORITY))
        words = ("-config", asked, "-extensions", "more", "-days", str(days))
        self._tell("req", "-x509", "-new", "-key", key, "-out", path, *words)
        os.unlink(asked)

    def sign(self, key: str, path: str, name: str, days: int, *, by: Signer, hosts: t.Sequence[str] = ()) -> None:
        """A certificate of that CA: of a server for C(hosts), and without them of a client."""
        asked = _write(path + ".asked", _REQUEST % (name, _SIGNED + _usage(hosts)))
        self._tell("req", "-new", "-key", key, "-out", path + ".request", "-config", asked)
        ca = ("-CA", by.certificate, "-CAkey", by.key, "-set_serial", str(secrets.randbits(120) + 1))
        more = ("-days", str(days), "-extfile", asked, "-extensions", "more")
        self._tell("x509", "-req", "-in", path + ".request", "-out", path, *ca, *more)
        for each in (asked, path + ".request"):
            os.unlink(each)

    def read(self, path: str) -> Certificate:
        """What is in a certificate. Raises ToolError, ToolOutputError."""
        words = ("-noout", "-subject", "-nameopt", "RFC2253", "-enddate", "-ext", "subjectAltName")
        told = self._tell("x509", "-in", path, *words)
        subject = re.search(r"^subject= *(.*)$", told, re.MULTILINE)
        ends = re.search(r"^notAfter=(.*)$", told, re.MULTILINE)
        if not (subject and ends):
            raise errors.ToolOutputError("openssl says of %s: %s" % (path, told))
        # not strptime: its months are those of the locale
        return Certificate(subject.group(1), _hosts(told), int(ssl.cert_time_to_seconds(ends.group(1))))

    def signed_by(self, ca: str, paths: t.Sequence[str]) -> t.Set[str]:
        """Which of these certificates that CA has signed, be it that one of them holds no more."""
        words = ["verify", "-no_check_time", "-CAfile", ca, "--", *paths]
        told = process.run(self._run, [self._program, *words], ok=(0, 1, 2), timeout=_PATIENCE)[1].splitlines()
        return {path for path in paths if path + ": OK" in told}

    def why_invalid(self, path: str, ca: str) -> str:
        """Why a certificate (with others between it and the CA, if they are in its file) is not valid now; empty when it is."""
        words = ["verify", "-partial_chain", "-CAfile", ca, "-untrusted", path, "--", path]
        status, _stdout, stderr = self._run([self._program, *words], timeout=_PATIENCE)
        found = re.search(r"error [0-9]+ at [0-9]+ depth lookup: *(.*)", stderr)
        return "" if status == 0 else found.group(1) if found else "openssl cannot read them"


def belong_together(certificate: str, key: str) -> bool:
    """Whether it is the certificate of that private key, which has no password."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        return False
    return True


def _write(path: str, text: str) -> str:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path


def _usage(hosts: t.Sequence[str]) -> str:
    if not hosts:
        return "extendedKeyUsage = clientAuth"
    return "extendedKeyUsage = serverAuth\nsubjectAltName = " + ", ".join(map(_alternative, hosts))


def _alternative(host: str) -> str:
    try:
        return "IP:%s" % ipaddress.ip_address(host)
    except ValueError:
        return "DNS:" + host


def _hosts(told: str) -> t.Tuple[str, ...]:
    names = re.findall(r"DNS:([^,\s]+)", told)
    return tuple(
        sorted([*names, *(str(ipaddress.ip_address(each)) for each in re.findall(r"Address:([^,\s]+)", told))])
    )
