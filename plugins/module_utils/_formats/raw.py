# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""raw: no header at all; the file is the disk."""

from __future__ import annotations

from ansible_collections.platter.qemu.plugins.module_utils._core import header, size


def read(source: header.ByteSource) -> header.Header:
    return header.Header(format="raw", virtual_size=size.round_up(source.length, size.SECTOR))
