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

Needed = t.Tuple[str, str]


def needed(wanted: DrivesSpec, words: t.Sequence[str]) -> t.List[Needed]:
    """(what, why) that differs from the command line that it was started with; nothing where that is not known."""
    try:
        started = parse_arguments.parse(words).spec
    except (ValueError, errors.EngineError):
        return []
    return list(_differences(wanted, started)) if words else []


def _differences(wanted: DrivesSpec, started: DrivesSpec) -> t.Iterator[Needed]:
    before, after = ({each.tag: each for each in spec.shares} for spec in (started, wanted))
    for tag in {**before, **after}:
        if before.get(tag) != after.get(tag):
            yield "share " + tag, _why(before.get(tag), after.get(tag))
    for name, show in (("boot", _boot), ("shared_memory", _shared_memory)):
        was, now = ("with " + show(spec) if show(spec) else "without" for spec in (started, wanted))
        if was != now:
            yield name, "it was started %s, and is defined %s" % (was, now)


def _why(was: t.Optional[Share], now: t.Optional[Share]) -> str:
    if was is not None and now is not None:
        return "it is shared otherwise than it is defined"
    return "the VM was started without it" if was is None else "the VM was started with it, and it is not defined"


def _boot(spec: DrivesSpec) -> str:
    told = boot.to_facts(spec.boot) if spec.boot is not None else {}
    return " ".join("%s=%s" % pair for pair in told.items())


def _shared_memory(spec: DrivesSpec) -> str:
    return str(spec.shared_memory or "")
