# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a VM opens by name besides its images: secrets, directories that it shares, a kernel. Pure."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.plugins.module_utils._vm import proof

#: of an object of that kind, files in its directory that are keys, if they are there
_KEYS = {"tls-creds-x509": ("client-key.pem", "server-key.pem"), "tls-creds-psk": ("keys.psk",)}


class Key(t.NamedTuple):
    """A file with a secret. C(of): the object that has it. C(shared): its group may read it, and it need not be there."""

    of: str
    path: str
    shared: bool


def keys(spec: DrivesSpec) -> t.Iterator[Key]:
    """All that objects name."""
    for each in spec.objects:
        if each.kind == "secret" and each.property("file"):
            yield Key(each.id, str(each.property("file")), False)
        for name in _KEYS.get(each.kind, ()):
            yield Key(each.id, posixpath.join(str(each.property("dir") or ""), name), True)


def paths(spec: DrivesSpec) -> t.Iterator[t.Tuple[str, str]]:
    """(what it is, path)."""
    for name, path, is_share in proof.paths(spec):
        yield ("share " if is_share else "the ") + name, path
