# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Cylinders, heads and sectors: the sizes that a VHD for Virtual PC can have.

The rule is the appendix of Microsoft's "Virtual Hard Disk Image Format Specification", with 255 sectors as QEMU allows.
"""

from __future__ import annotations

from ansible_collections.platter.qemu.plugins.module_utils._core.size import SECTOR

CYLINDERS, HEADS, SECTORS = 65535, 16, 255
#: A geometry that is full says no size: the size is then the one in the footer.
FULL_GEOMETRY = CYLINDERS * HEADS * SECTORS
_ATA_LIMIT = 65535 * 16 * 63


def vpc_size(size: int) -> int:
    """The smallest size of a CHS geometry that holds C(size) bytes, or C(size) beyond the largest geometry."""
    wanted = min(size // SECTOR, FULL_GEOMETRY)
    cylinders = heads = sectors = 0
    more = 0
    while wanted > cylinders * heads * sectors:
        cylinders, heads, sectors = geometry(wanted + more)
        more += 1
    capacity = cylinders * heads * sectors
    return size if capacity == FULL_GEOMETRY else capacity * SECTOR


def geometry(total: int) -> tuple[int, int, int]:
    """(cylinders, heads, sectors per track) for that many sectors, rounded down."""
    total = min(total, FULL_GEOMETRY)
    if total >= _ATA_LIMIT:
        return total // SECTORS // HEADS, HEADS, SECTORS
    sectors, heads = 17, max(4, -(-(total // 17) // 1024))
    if total // 17 >= heads * 1024 or heads > 16:
        sectors, heads = 31, 16
    if total // sectors >= heads * 1024 and sectors == 31:
        sectors = 63
    return total // sectors // heads, heads, sectors
