# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What is asked about an NBD server: which one, which of its exports, how to prove oneself. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, nbd_uri

_TLS_OPTIONS = ("tls_certificates", "tls_psk_file", "tls_hostname", "tls_username")


@dataclass(frozen=True)
class InfoSpec:
    """A question about a server, or about one export when the address names one. C(seconds): for all of it."""

    address: nbd_uri.Address
    identity: bool = False
    seconds: float = 5.0
    certificates: str = ""
    psk_file: str = ""
    hostname: str = ""
    username: str = ""

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> InfoSpec:
        """The question of a task. Raises SpecError for what is no NBD URI, and for options that contradict it."""
        uri = str(params["uri"])
        try:
            address = nbd_uri.parse(uri)
        except ValueError as exc:
            way_out = "Write nbd://host/export, nbd+unix:///export?socket=/path, or the same with nbds for TLS."
            raise _bad(str(exc), way_out) from exc
        given = [name for name in _TLS_OPTIONS if params.get(name)]
        if given and not address.tls:
            raise _bad("%s: %s is set, and the URI asks for no TLS" % (uri, given[0]), "Write nbds:// in uri.")
        if address.user and not address.tls:
            raise _bad("%s: a user counts with TLS only" % uri, "Write nbds:// in uri, or leave the user out.")
        if params["timeout"] <= 0:
            raise _bad("%s: a timeout of %g seconds" % (uri, params["timeout"]), "Set timeout to a positive number.")
        return cls(
            address=address,
            identity=bool(params.get("identity")),
            seconds=float(params["timeout"]),
            certificates=params.get("tls_certificates") or "",
            psk_file=params.get("tls_psk_file") or "",
            hostname=params.get("tls_hostname") or "",
            username=params.get("tls_username") or address.user,
        )


def _bad(fact: str, way_out: str) -> errors.SpecError:
    return errors.SpecError("this task", "", fact, reason="bad_option", way_out=way_out, joined="")
