# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether what the drives open is of the formats that they declare. Read-only.

QEMU takes anything for raw: the guest would have the header of an image as its disk, and write over it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition


def refuse(
    made: definition.VmDefinition, old: t.Optional[definition.VmDefinition], still_to_be_made: bool = False
) -> None:
    """Raises RefusedError (format_mismatch). What was defined so before (C(old)) is not looked at again: its guest can have
    written such bytes meanwhile, and would keep others from changing the VM.

    C(still_to_be_made): nothing opens the images now, so one can be made later. A device is there before that, blank.
    """
    known = {(each.name, each.format) for each in claims.of_spec(old.spec) if each.local} if old is not None else set()
    for claim in claims.of_spec(made.spec):
        if claim.local and claim.format in registry.FORMAT_NAMES and (claim.name, claim.format) not in known:
            _refuse_other(made.vm, claim, still_to_be_made)


def _refuse_other(vm: str, claim: claims.Claim, still_to_be_made: bool) -> None:
    try:
        seen = image.look_at(claim.name, claim.format)
    except (errors.EngineError, OSError):  # what opens the image says what is wrong with it
        return
    if seen.facts.kind not in ("file", "block") or seen.problem:
        return
    if still_to_be_made and seen.facts.kind == "block" and not seen.detected:
        return
    found = _finding(claim, seen)
    if found is not None:
        evidence = {"place": claim.name, "asked": claim.format, "found": list(seen.detected)}
        asked, subject = "drive %s" % claim.drive, "VM " + vm
        raise errors.RefusedError(
            asked, subject, found[0], reason="format_mismatch", way_out=found[1], evidence=evidence, joined="of"
        )


def _finding(claim: claims.Claim, seen: image.Seen) -> t.Optional[t.Tuple[str, str]]:
    """(fact, way out); None where all is well. The rule is that of C(disk_image): what was made raw by it is raw."""
    names, made_raw = ", ".join(seen.detected), seen.record.get("format") == "raw"
    if claim.format == "raw":
        fact = "%s is declared raw, but begins (or ends) as %s does" % (claim.name, names)
        way_out = "Set image.format to %s; or, if a guest wrote that into its raw disk, say so with image.options: {offset: 0}."
        return (fact, way_out % " or ".join(seen.detected)) if seen.detected and not made_raw else None
    if seen.header is not None and seen.header.format == claim.format:
        return None
    if made_raw and claim.format in seen.detected:
        fact = "%s was made raw by disk_image, and looks like %s now, as a guest can make it" % (claim.name, names)
        return fact, "Set image.format to raw; or make an image of %s under another name." % claim.format
    if made_raw or not seen.detected:
        fact = "%s is not of %s, nor of another format that is known" % (claim.name, claim.format)
        return fact, "Correct image.path; or, if that is a disk without a format, set image.format to raw."
    fact = "%s is not of %s, but looks like %s" % (claim.name, claim.format, names)
    return fact, "Set image.format to %s, or correct image.path." % " or ".join(seen.detected)
