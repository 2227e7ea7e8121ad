# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Which key slot of a LUKS header a secret opens. QEMU tries one after the other, and does not say."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import luks, qcow2
from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_secret
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process

#: behind the header: QEMU opens no LUKS image that has no sector of data
_SECTOR = 512
#: bytes of a header with its key material: QEMU makes 2 MiB, cryptsetup(8) at most 16
_LARGEST = 64 << 20


def opened_slot(
    run_command: process.RunCommand, path: str, header: Header, secrets: luks_secret.Secrets, slots: t.Iterable[int]
) -> t.Optional[int]:
    """The first of C(slots) that the secret opens; None for none of them. Raises ToolError.

    It is tried on a copy of the header in memory, in which the slot is the only one.
    """
    data = _luks_header(path, header)
    copy = header._replace(format="luks", backing_file=None)
    for slot in slots:
        descriptor = os.memfd_create("luks")
        try:
            os.write(descriptor, luks.with_one_key(data, slot) + bytes(_SECTOR))
            file = {"driver": "file", "filename": "/proc/%d/fd/%d" % (os.getpid(), descriptor)}
            if luks_secret.secret_problem(run_command, copy._replace(virtual_size=_SECTOR), file, secrets) is None:
                return slot
        finally:
            os.close(descriptor)
    return None


def _luks_header(path: str, header: Header) -> bytes:
    """The header with its key material."""
    with files.FileReader(path) as source:
        at = qcow2.luks_at(source) if header.format == "qcow2" else 0
        length = luks.read_header(source, at).payload_offset
    if length > _LARGEST:
        raise errors.HeaderError("%s: its LUKS header has %d bytes" % (path, length), path=path)
    with files.FileReader(path, budget=length) as source:
        return source.read(at, length)
