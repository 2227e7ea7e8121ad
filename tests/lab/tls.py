"""Certificates and pre-shared keys for tests, in directories with the names that QEMU gives such files."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.programs import wait_until

USER, KEY, OTHER_KEY = "alice", "0f" * 32, "f0" * 32
_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True)
class Certificates:
    """C(server): for the server. C(client): the right ones for us. C(no_certificate): the CA only.

    C(foreign): the right CA, but our own certificate is from another one. C(other_ca): nothing but that other CA.
    C(other_name): from the right CA, for another name. C(as_server): the server's own certificate, for ourselves. C(ended): the
    right ones, but they hold no more.
    """

    server: Path
    client: Path
    no_certificate: Path
    foreign: Path
    other_ca: Path
    other_name: Path
    as_server: Path
    ended: Path


def certificates(directory: Path) -> Certificates:
    """Two CAs and what they sign; the server is C(localhost) and 127.0.0.1."""
    made = Certificates(*(directory / name for name in Certificates.__dataclass_fields__))
    cas = [_authority(directory / name) for name in ("ca", "other")]
    for each, ca in (
        (made.server, 0),
        (made.client, 0),
        (made.no_certificate, 0),
        (made.foreign, 0),
        (made.other_ca, 1),
        (made.other_name, 0),
        (made.as_server, 0),
        (made.ended, 0),
    ):
        each.mkdir()
        shutil.copy(cas[ca] / "ca-cert.pem", each)
    _signed(cas[0], made.ended, "client", "extendedKeyUsage=clientAuth", days=0)
    # also as that of a server
    _signed(cas[0], made.ended, "server", _NAMES, "extendedKeyUsage=serverAuth", days=0)
    ends = int(time.time())
    _ready_parameters(made.server)
    _signed(cas[0], made.server, "server", _NAMES, "extendedKeyUsage=serverAuth")
    _signed(cas[0], made.client, "client", "extendedKeyUsage=clientAuth")
    _signed(cas[1], made.foreign, "client", "extendedKeyUsage=clientAuth")
    _signed(cas[0], made.other_name, "client", "extendedKeyUsage=clientAuth", subject="other")
    for kind in ("cert", "key"):
        shutil.copy(made.server / f"server-{kind}.pem", made.as_server / f"client-{kind}.pem")
    wait_until(lambda: int(time.time()) > ends, "the second is over up to whose end the ended ones hold")
    return made


def psk_file(directory: Path, key: str = KEY, user: str = USER) -> Path:
    """A file of keys as QEMU and nbdkit read it; QEMU wants it to be called C(keys.psk)."""
    directory.mkdir()
    path = directory / "keys.psk"
    path.touch(0o600)
    path.write_text(f"{user}:{key}\n")
    _ready_parameters(directory)
    return path


def _ready_parameters(directory: Path) -> None:
    """Without these QEMU takes seconds to find some when it starts."""
    group = ("-algorithm", "DH", "-pkeyopt", "group:ffdhe2048")
    _openssl("genpkey", "-genparam", *group, "-out", directory / "dh-params.pem")


def _authority(directory: Path) -> Path:
    directory.mkdir()
    key, cert = directory / "ca-key.pem", directory / "ca-cert.pem"
    extensions = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=A CA", *extensions)
    return directory


def _signed(ca: Path, directory: Path, name: str, *extensions: str, subject: str = "", days: int = 2) -> None:
    key, cert, request = directory / f"{name}-key.pem", directory / f"{name}-cert.pem", directory / "request"
    _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={subject or name}")
    request_extensions = directory / "extensions"
    request_extensions.write_text("\n".join(("keyUsage=critical,digitalSignature", *extensions)) + "\n")
    signer = ("-CA", ca / "ca-cert.pem", "-CAkey", ca / "ca-key.pem", "-CAcreateserial")
    _openssl("x509", "-req", "-in", request, "-out", cert, "-days", days, *signer, "-extfile", request_extensions)
    request.unlink()
    request_extensions.unlink()


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
