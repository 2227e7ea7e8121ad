# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Limits of throughput: their names in every spelling that QEMU has had. Pure."""

from __future__ import annotations

import typing as t

_KINDS = ("total", "read", "write")
#: QAPI's names (C(ThrottleLimits)), as in C(limits.iops-total)
LIMITS: t.Tuple[str, ...] = (
    *(
        "%s-%s%s" % (what, kind, end)
        for what in ("bps", "iops")
        for kind in _KINDS
        for end in ("", "-max", "-max-length")
    ),
    "iops-size",
)
#: C(-drive iops_rd=) and the like, from before QEMU 1.7; still accepted
_OLD = {
    "%s%s%s" % (what, short, end): "%s-%s%s" % (what, kind, new)
    for what in ("bps", "iops")
    for short, kind in (("", "total"), ("_rd", "read"), ("_wr", "write"))
    for end, new in (("", ""), ("_max", "-max"), ("_max_length", "-max-length"))
}
_OLD["iops_size"] = "iops-size"


def limit_of_drive(key: str) -> str:
    """The limit that an option of C(-drive) sets; empty for other options."""
    if key.startswith("throttling."):
        name = key[len("throttling.") :]
        return name if name in LIMITS else ""
    return _OLD.get(key, "")


def limit_of_group(key: str) -> str:
    """The limit that a property of C(-object throttle-group) sets, in its new and its old spelling; else empty."""
    name = key[len("limits.") :] if key.startswith("limits.") else key[2:] if key.startswith("x-") else ""
    return name if name in LIMITS else ""
