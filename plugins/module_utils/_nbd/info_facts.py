# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The facts of NBD exports as users read them. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_protocol, nbd_uri, words

Facts = t.Dict[str, t.Any]


def export_facts(address: nbd_uri.Address, export: nbd_protocol.Export, contexts: t.Sequence[str]) -> Facts:
    """One export. C(uri) leads to it even where its name is shown with escapes."""
    return {
        "name": words.printable(export.name),
        "uri": str(replace(address, export=export.name)),
        "description": words.printable(export.description),
        "canonical_name": words.printable(export.canonical_name),
        "size": export.size,
        "flags": nbd_protocol.flag_facts(export.flags),
        "block_size": asdict(export.block_size) if export.block_size else None,
        "contexts": [words.printable(name) for name in contexts],
    }


def failed_facts(address: nbd_uri.Address, listed: nbd_protocol.Listed, error: errors.NbdError) -> Facts:
    """An export that is listed, and of which the server says no more."""
    return {
        "name": words.printable(listed.name),
        "uri": str(replace(address, export=listed.name)),
        "description": words.printable(listed.description),
        "error": error.message,
        "reason": error.reason,
    }


def tls_facts(established: t.Optional[t.Tuple[str, str]], kind: str) -> Facts:
    """Whether and how the conversation was encrypted. C(kind): C(x509) or C(psk)."""
    version, cipher = established or (None, None)
    return {
        "used": established is not None,
        "version": version,
        "cipher": cipher,
        "authentication": kind if established else None,
    }
