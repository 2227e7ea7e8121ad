# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""C(cache) of a drive, as tasks write it: a mode, or its parts. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options, parse_drive

_PARTS = ("direct", "no_flush", "writeback")


def of_node(told: t.Any) -> t.Dict[str, bool]:
    """The options of the node. Raises ValueError (a sentence)."""
    cache = _mapping(told)
    found = {}
    if cache.get("mode") is not None:
        found["cache.direct"], found["cache.no-flush"] = _mode(cache["mode"])[1:]
    for name in ("direct", "no_flush"):
        if cache.get(name) is not None:
            found["cache." + name.replace("_", "-")] = block_options.boolean("cache." + name, cache[name])
    return found


def writeback(told: t.Any) -> t.Optional[bool]:
    """What the device tells the guest; None where nothing is said. Raises ValueError (a sentence)."""
    cache = _mapping(told)
    if cache.get("writeback") is not None:
        return block_options.boolean("cache.writeback", cache["writeback"])
    return False if cache.get("mode") is not None and not _mode(cache["mode"])[0] else None


def unknown(told: t.Any) -> t.List[str]:
    """The names of parts that a cache does not have."""
    return sorted(str(name) for name in _mapping(told) if name not in (*_PARTS, "mode"))


def _mapping(told: t.Any) -> t.Mapping[str, t.Any]:
    if told is None or isinstance(told, t.Mapping):
        return told or {}
    return {"mode": told}


def _mode(mode: t.Any) -> t.Tuple[bool, bool, bool]:
    if not isinstance(mode, str) or mode not in parse_drive.CACHE_MODES:
        raise ValueError("cache is %r, not one of %s" % (mode, ", ".join(parse_drive.CACHE_MODES)))
    return parse_drive.CACHE_MODES[mode]
