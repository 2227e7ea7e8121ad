# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whither the drives lead the QEMU that opens them, and who else decides that or can read its secrets. Read-only."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, key_file
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image, leading
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk
from ansible_collections.platter.qemu.plugins.module_utils._vm import claims, definition, held, proof

#: of an object of that kind, files in its directory that are keys
_KEYS = {"tls-creds-x509": ("client-key.pem", "server-key.pem"), "tls-creds-psk": ("keys.psk",)}


def refuse(made: definition.VmDefinition, opened: t.Iterable[held.Held]) -> None:
    """Raises RefusedError where others than root decide what root's QEMU opens (unsafe_directory, image_references_file),
    where an image leads to what only QEMU knows, and where others can read a secret (key_permissions).
    """
    for each in opened:
        if each.claim.local:
            _refuse_moved(made.vm, "drive " + each.claim.drive, each.claim.name)
        if each.claim.local and each.claim.format:
            _refuse_led(made.vm, each.claim)
    for name, path, shared in _secrets(made):
        _refuse_moved(made.vm, "drive " + name, path)
        _refuse_readable(made.vm, path, shared)
    for name, path, is_share in proof.paths(made.spec):
        _refuse_moved(made.vm, ("share " if is_share else "the ") + name, path)


def _refused(
    vm: str, asked: str, fact: str, reason: str, way_out: str, evidence: t.Mapping[str, t.Any]
) -> errors.RefusedError:
    return errors.RefusedError(asked, "VM " + vm, fact, reason=reason, way_out=way_out, evidence=evidence, joined="of")


def _refuse_moved(vm: str, asked: str, path: str) -> None:
    """QEMU opens it by its name, at each start, before it becomes another user."""
    owned = walk.owned_name(path)
    if owned is not None:
        fact, evidence = "%s is opened by its name, %s" % (path, owned.fact), owned.evidence
        raise _refused(vm, asked, fact, "unsafe_directory", owned.way_out("it"), evidence)
    directory = os.path.dirname(os.path.realpath(path))
    mover = walk.unsafe_mover(directory)
    if mover is not None:
        fact = "anyone can put another file in the place of %s (%s, mode %04o)" % (path, mover.directory, mover.mode)
        way_out = "Keep it in a directory that only its owner can write to."
        raise _refused(vm, asked, fact, "unsafe_directory", way_out, mover._asdict())
    _refuse_foreign(vm, asked, path, directory)


def _refuse_foreign(vm: str, asked: str, path: str, directory: str) -> None:
    """Where anyone can make files, their owner can put another in the place of one."""
    try:
        owner, mode = os.stat(path).st_uid, os.stat(directory).st_mode
    except OSError:  # what opens it says what is wrong
        return
    if mode & 0o002 and owner not in (0, os.geteuid()):
        fact = "%s belongs to user %d, who can replace it at any time in this directory" % (path, owner)
        way_out = "Keep it in a directory that only its owner can write to."
        raise _refused(vm, asked, fact, "unsafe_directory", way_out, {"directory": directory, "owner": owner})


def _refuse_led(vm: str, claim: claims.Claim) -> None:
    try:
        header = image.chain_header(claim.name, None if claim.format == claims.GUESSED else claim.format)
    except (errors.EngineError, OSError):  # what opens the image says what is wrong with it
        return
    if not header.references and not header.unknown_features:
        return
    links = chain.walk_chain(claim.name, header.format, image.chain_header).links
    elsewhere = chain.led_elsewhere(links if claim.chain else links[:1])
    if elsewhere:
        way_out = "Mend its backing chain; or, if that is meant, say what is below in image.blockdev (backing)."
        raise _refused(vm, "drive " + claim.drive, elsewhere[1], elsewhere[0], way_out, {"chain": elsewhere[1]})
    if os.geteuid() == 0:  # an ordinary user's QEMU can do no more than that user
        _refuse_closed(vm, claim, header)


def _refuse_closed(vm: str, claim: claims.Claim, header: Header) -> None:
    """Who can write to an image chooses what root's QEMU opens with it, and shows the guest."""
    for step in leading.steps(claim.name, header, below=claim.chain):
        closed = step.closed_to(write=claim.writes and step.image == claim.name and step.kind != "backing_file")
        if closed is not None:
            fact = closed.fact(claim.name)
            raise _refused(vm, "drive " + claim.drive, fact, "image_references_file", closed.way_out, closed.evidence)


def _secrets(made: definition.VmDefinition) -> t.Iterator[t.Tuple[str, str, bool]]:
    """(object, file, whether its group may read it)."""
    for each in made.spec.objects:
        if each.kind == "secret" and each.property("file"):
            yield each.id, str(each.property("file")), False
        for name in _KEYS.get(each.kind, ()):
            path = os.path.join(str(each.property("dir") or ""), name)
            if os.path.exists(path):
                yield each.id, path, True


def _refuse_readable(vm: str, path: str, shared: bool) -> None:
    try:
        seen = os.stat(path)
    except OSError:  # as above
        return
    mode = stat.S_IMODE(seen.st_mode)
    if shared:
        key_file.refuse_shared(mode, path, "VM " + vm)
    else:
        key_file.refuse_foreign(mode, seen.st_uid, os.geteuid(), path, "VM " + vm)
