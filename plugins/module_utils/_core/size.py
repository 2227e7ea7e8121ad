# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Sizes: text of a task to bytes, bytes to text, and the grid that QEMU rounds to."""

from __future__ import annotations

import re
import typing as t

SECTOR = 512
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_SIZE = re.compile(r"^([0-9]+)(?:\.([0-9]+))? ?([KMGTPE]?)(?:iB|B)?\Z", re.IGNORECASE)
#: QEMU 7.2 answers "Image size cannot be negative" from 2^63 on.
LARGEST = 2**63 - SECTOR


def parse_size(value: t.Union[str, int]) -> int:
    """Bytes meant by C(value): a number, or a number and a unit.

    C(K M G T P E) are powers of 1024, with or without C(iB) or C(B), as in QEMU and in Ansible's C(human_to_bytes).
    Raises C(ValueError) with a sentence for anything else.
    """
    match = _SIZE.match(str(value).strip())
    if not match and _SIZE.match(str(value).strip().lstrip("+-").strip()):
        raise ValueError(
            "%r is relative, and sizes are absolute; write the whole size that is to be, for example 20G" % (value,)
        )
    if not match:
        raise ValueError(
            "%r is not a size; write bytes, or a number with K, M, G, T, P or E, for example 20G" % (value,)
        )
    whole, fraction, unit = match.groups()
    factor: int = 1024 ** _UNITS[unit.upper()]
    if fraction and factor == 1:
        raise ValueError("%r is not a whole number of bytes" % (value,))
    size = int(whole) * factor
    if fraction:
        size += int(fraction) * factor // 10 ** len(fraction)
    if size > LARGEST:
        raise ValueError("%r is more than the largest image, 8 EiB" % (value,))
    return size


def round_up(size: int, grid: int) -> int:
    """The smallest multiple of C(grid) bytes that holds C(size) bytes."""
    return -(-size // grid) * grid


def human(size: int) -> str:
    """C(size) bytes for a sentence: exact (C(20 GiB)) where it is, else to two digits (C(1.25 GiB))."""
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return "%s %s" % (("%.2f" % value).rstrip("0").rstrip("."), units[0])
