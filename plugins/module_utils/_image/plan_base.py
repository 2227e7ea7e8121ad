# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The step to another base, or to none. Pure."""

from __future__ import annotations

import typing as t
from posixpath import dirname

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, place
from ansible_collections.platter.qemu.plugins.module_utils._image import actions, refuse, refuse_rewrite
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import Backing, ImageReading, ImageState

Plan = t.List[actions.ImageAction]


def plan_base(spec: ImageSpec, state: ImageState, reading: ImageReading, compat: t.Optional[str]) -> Plan:
    """What brings the image onto the asked base. C(compat): of the qcow2 image at that moment. Raises RefusedError."""
    asked = asked_backing(spec)
    if reading.current_base_is_asked and state.backing and asked:
        return _plan_same_base(spec, state, asked)
    if not asked and not (spec.flatten and state.backing):
        return []
    _refuse_fixed_base(spec, state)
    safe, why = _rebase_kind(spec, state, reading) if asked else (True, "")
    if safe:
        refuse_rewrite.refuse_other_content_of_snapshots(spec, reading)
    if safe and asked and not state.backing and compat == "0.10":
        raise _no_zero_clusters(spec)
    return [actions.RebaseImage(spec.path, t.cast(str, state.format), asked, safe=safe, why=why)]


def _no_zero_clusters(spec: ImageSpec) -> errors.RefusedError:
    """Where it shows zeros it has nothing; and qemu-img rebase (7.2) clears by discarding there, which shows the base."""
    return refuse.refused(
        spec,
        "exists_different",
        "it is of compat 0.10, in which nothing tells a cluster of zeros from one that is taken from the base, so that "
        "the guest would see the base where it sees zeros now",
        "Set options.compat to 1.1 in the same task.",
        {"compat": "0.10"},
    )


#: what qemu-img rebase changes (7.2): for the others it copies all of the data, and then says that it cannot
_WITH_CHANGING_BASE = ("qcow2", "qed")


def _refuse_fixed_base(spec: ImageSpec, state: ImageState) -> None:
    if state.format not in _WITH_CHANGING_BASE:
        raise refuse.refused(
            spec,
            "exists_different",
            "QEMU gives a %s image no other base, and takes none away" % state.format,
            "Describe it with the base that it has; or import it (source) to another name, which takes all that it shows.",
            {"format": state.format},
        )


def _plan_same_base(spec: ImageSpec, state: ImageState, asked: Backing) -> Plan:
    """The base is right; its name or recorded format may not be as asked."""
    current = t.cast(Backing, state.backing)
    if current.format not in (None, asked.format) and spec.backing and spec.backing.rebase != "unsafe":
        raise refuse.refused(
            spec,
            "format_mismatch",
            "it is an overlay of %s as %s, and read as %s it would show the guest other data"
            % (asked.path, current.format, asked.format),
            "Set backing.format to the format that is recorded.",
            {"asked": asked.format, "recorded": current.format},
        )
    plan: Plan = []
    if current.format != asked.format or current.name != asked.name:
        _refuse_fixed_base(spec, state)
        why = "it is the same file"
        plan.append(actions.RebaseImage(spec.path, t.cast(str, state.format), asked, safe=False, why=why))
    elif not state.base_unchanged:
        plan.append(actions.AcceptBase(spec.path, asked.path))
    return plan


def _rebase_kind(spec: ImageSpec, state: ImageState, reading: ImageReading) -> t.Tuple[bool, str]:
    """(safe, why not): unsafe only when it is asked for by name, or the new base is proven to be the old one, moved."""
    if spec.backing and spec.backing.rebase == "unsafe":
        return False, "asked for by backing.rebase=unsafe"
    if not state.backing or reading.current_base_exists:
        return True, ""
    if _is_moved(state.backing, reading):
        return False, "it is the same file, moved"
    raise refuse.refused(
        spec,
        "base_missing",
        "its present backing file %s is gone, so that what the guest sees cannot be kept" % state.backing.path,
        "Put that file back, or set backing.rebase to unsafe if the new base has the same content.",
        {"backing_file": state.backing.path},
    )


def _is_moved(backing: Backing, reading: ImageReading) -> bool:
    """The asked base is the very file that the overlay had when it was given the name that it still has for it."""
    asked, remembered = reading.base.fingerprint if reading.base else None, reading.record.get("base")
    return bool(asked) and remembered == {**(asked or {}), "name": backing.name}


def asked_backing(spec: ImageSpec) -> t.Optional[Backing]:
    """The backing file as the task wants it recorded: absolute, or relative to the overlay."""
    if not spec.backing:
        return None
    name = spec.backing.path
    if spec.backing.relative:
        name = place.relative_name(spec.backing.path, dirname(spec.path))
    return Backing(spec.backing.path, spec.backing.format, name)
