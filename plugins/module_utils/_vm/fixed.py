# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a VM has from its start to its end: shares, the kernel that it was started with, shared memory. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import boot, parse_arguments
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec, Share

Needed = t.Dict[str, t.Any]


def needs_restart(wanted: DrivesSpec, words: t.Sequence[str]) -> t.List[Needed]:
    """What differs from the command line that it was started with; nothing where that is not known."""
    try:
        started = parse_arguments.parse(words).spec
    except (ValueError, errors.EngineError):
        return []
    return _differences(wanted, started) if words else []


def _differences(wanted: DrivesSpec, started: DrivesSpec) -> t.List[Needed]:
    before, after = ({each.tag: each for each in spec.shares} for spec in (started, wanted))
    found = [_share(tag, before.get(tag), after.get(tag)) for tag in {**before, **after}]
    shown = [(_boot(spec), spec.shared_memory or None) for spec in (started, wanted)]
    names = ("boot", "shared_memory")
    found += [_needed(name, was, now) for name, was, now in zip(names, *shown) if was != now]
    return [each for each in found if each is not None]


def _share(tag: str, was: t.Optional[Share], now: t.Optional[Share]) -> t.Optional[Needed]:
    if was == now:
        return None
    if was is not None and now is not None:
        return {"drive": None, "what": "share " + tag, "why": "it is shared otherwise than it is defined"}
    why = "the VM was started without it" if was is None else "the VM was started with it, and it is not defined"
    return {"drive": None, "what": "share " + tag, "why": why}


def _boot(spec: DrivesSpec) -> t.Optional[str]:
    told = boot.to_facts(spec.boot) if spec.boot is not None else {}
    return " ".join("%s=%s" % pair for pair in told.items()) or None


def _needed(name: str, was: t.Any, now: t.Any) -> Needed:
    shown = ["without" if each is None else "with %s" % each for each in (was, now)]
    return {"drive": None, "what": name, "why": "it was started %s, and is defined %s" % (shown[0], shown[1])}
