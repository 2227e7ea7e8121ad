# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The exports of an NBD server as C(qemu-nbd --list) sees them: TLS with pre-shared keys for a Python without it."""

from __future__ import annotations

import os
import re
import tempfile
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_protocol, nbd_uri
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, tls

Found = t.Tuple[nbd_protocol.Export, t.Tuple[str, ...]]

_EXPORT = re.compile(r" export: '(.*)'$")
_NUMBER = re.compile(r"  (size|flags|min block|opt block|max block): +(0x[0-9a-f]{1,8}|[0-9]{1,20})\b")
_DESCRIPTION = re.compile(r"  description: (.*)$")
_CONTEXT = re.compile(r"   (\S.*)$")
#: what it says (7.2) -> reason, way out
_FAILURES = (
    (
        "(starttls)",
        "tls_unsupported",
        "Switch TLS on there; or write nbd:// if anyone may see and change what is sent.",
    ),
    ("Failed to connect", "place_unreachable", "Start the server, or correct the address."),
    ("TLS", "tls_failed", "Check the key of both sides."),
)


def exports(
    run_command: process.RunCommand, address: nbd_uri.Address, credentials: tls.Credentials, seconds: float
) -> t.List[Found]:
    """(export, metadata contexts) of each in the server's order. The key reaches the program as a file only.

    Raises SpecError for the file of keys, NbdError for the server.
    """
    user = tls.psk_identity(credentials)[0]
    with tempfile.TemporaryDirectory(prefix="platter-psk-") as directory:
        # QEMU takes a directory, and a file of this name in it
        os.symlink(os.path.abspath(credentials.psk_file), os.path.join(directory, "keys.psk"))
        creds = "tls-creds-psk,id=tls,endpoint=client,dir=%s,username=%s" % (_escaped(directory), _escaped(user))
        where = ["-k", address.socket] if address.socket else ["-b", address.host, "-p", str(address.port)]
        argv = ["qemu-nbd", "--list", *where, "--object", creds, "--tls-creds", "tls"]
        try:
            stdout = process.run(run_command, argv, timeout=seconds, limits=process.INSPECTION)[1]
        except errors.ToolTimeoutError as exc:
            fact, way_out = "no answer within %.3g s" % seconds, "Look at the server; or raise timeout."
            raise _failed(address, fact, "export_unresponsive", way_out) from exc
        except errors.ToolError as exc:
            raise _explained(address, exc) from exc
    return parse(stdout)


def parse(text: str) -> t.List[Found]:
    """What C(qemu-nbd --list) prints (C(qemu-nbd.c) of QEMU 7.2 to 11.1); lines that are not known do not count."""
    found: t.List[t.Tuple[str, t.Dict[str, t.Any], t.List[str]]] = []
    for line in text.split("\n"):
        begins = _EXPORT.match(line)
        if begins:
            found.append((begins.group(1), {}, []))
        elif found:
            _take(line, found[-1][1], found[-1][2])
    return [(_export(name, facts), tuple(sorted(contexts))) for name, facts, contexts in found]


def _take(line: str, facts: t.Dict[str, t.Any], contexts: t.List[str]) -> None:
    number, context, description = _NUMBER.match(line), _CONTEXT.match(line), _DESCRIPTION.match(line)
    if number:
        facts[number.group(1)] = int(number.group(2), 0)
    elif description:
        facts["description"] = description.group(1)
    elif context:
        contexts.append(context.group(1))


def _export(name: str, facts: t.Mapping[str, t.Any]) -> nbd_protocol.Export:
    if "size" not in facts or "flags" not in facts:
        raise errors.ToolOutputError("qemu-nbd --list says nothing of the size of an export")
    export = nbd_protocol.Export(name, facts["size"], facts["flags"], description=facts.get("description", ""))
    if "min block" not in facts:
        return export
    sizes = (facts.get(key, 0) for key in ("min block", "opt block", "max block"))
    return replace(export, block_size=nbd_protocol.BlockSize(*sizes))


def _explained(address: nbd_uri.Address, exc: errors.ToolError) -> errors.NbdError:
    said = exc.stderr.strip().replace("\n", "; ")
    for words, reason, way_out in _FAILURES:
        if words in said:
            return _failed(address, said, reason, way_out)
    return _failed(address, said, "nbd_refused", "Look at the server's configuration.")


def _failed(address: nbd_uri.Address, fact: str, reason: str, way_out: str) -> errors.NbdError:
    return errors.NbdError(address.server, fact, reason=reason, way_out=way_out)


def _escaped(value: str) -> str:
    return value.replace(",", ",,")
