# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Why something is not to be opened for a VM, as it is now: whither it leads whoever opens it, and who else decides that.

For tasks that define or start a VM, and for the program that starts it without them. Read-only.
"""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk

if t.TYPE_CHECKING:
    from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import named_files

#: formats of images that can name other files
_NAMING = frozenset(("qcow2", "qcow", "qed", "vmdk", "vhdx"))
_PRIVATE = "Keep it in a directory that only its owner can write to."


class Objection(t.NamedTuple):
    """C(fact) and C(way_out): sentences; C(reason): the code of a refusal."""

    reason: str
    fact: str
    way_out: str
    evidence: t.Mapping[str, t.Any]


def names_others(format: t.Optional[str]) -> bool:
    """Whether an image of C(format) can name other files, or one whose format QEMU guesses (None)."""
    return format is None or format in _NAMING


def opened_with(path: str, format: t.Optional[str], *, below: bool) -> t.Iterator[named_files.Opened]:
    """As C(named_files.opened_with), of what can be read: what opens the image says what is wrong with it."""
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import named_files

    try:
        yield from named_files.opened_with(path, format, below=below)
    except (errors.EngineError, OSError):
        return


def to_name(path: str) -> t.Optional[Objection]:
    """That others decide what C(path) means (unsafe_directory): QEMU opens it by its name, at each start, before it becomes
    another user.
    """
    owned = walk.owned_name(path)
    if owned is not None:
        fact = "%s is opened by its name, %s" % (path, owned.fact)
        return Objection("unsafe_directory", fact, owned.way_out("it"), owned.evidence)
    directory = os.path.dirname(os.path.realpath(path))
    mover = walk.unsafe_mover(directory)
    if mover is not None:
        fact = "anyone can put another file in the place of %s (%s, mode %04o)" % (path, mover.directory, mover.mode)
        return Objection("unsafe_directory", fact, _PRIVATE, mover._asdict())
    return _to_foreign(path, directory)


def _to_foreign(path: str, directory: str) -> t.Optional[Objection]:
    """Where anyone can make files, their owner can put another in the place of one."""
    try:
        owner, mode = os.stat(path).st_uid, os.stat(directory).st_mode
    except OSError:  # what opens it says what is wrong
        return None
    if not mode & 0o002 or owner in (0, os.geteuid()):
        return None
    fact = "%s belongs to user %d, who can replace it at any time in this directory" % (path, owner)
    return Objection("unsafe_directory", fact, _PRIVATE, {"directory": directory, "owner": owner})


def to_image(path: str, format: t.Optional[str], *, writes: bool, below: bool) -> t.Optional[Objection]:
    """Where its header leads to what only QEMU knows, or to what they could not open who can write to it. C(format) None: QEMU
    guesses it; C(below): it opens the chain too. Raises EngineError where that cannot be found out.
    """
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image

    try:
        header = image.chain_header(path, format)
    except (errors.EngineError, OSError):  # what opens the image says what is wrong with it
        return None
    if not header.references and not header.unknown_features:
        return None
    links = chain.walk_chain(path, header.format, image.chain_header).links
    elsewhere = chain.led_elsewhere(links if below else links[:1])
    if elsewhere:
        way_out = "Mend its backing chain; or, if that is meant, say what is below in image.blockdev (backing)."
        return Objection(elsewhere[0], elsewhere[1], way_out, {"chain": elsewhere[1]})
    # an ordinary user's QEMU can do no more than that user
    return _to_closed(path, header, writes, below) if os.geteuid() == 0 else None


def _to_closed(path: str, header: Header, writes: bool, below: bool) -> t.Optional[Objection]:
    """Who can write to an image chooses what root's QEMU opens with it, and shows the guest."""
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import leading

    for step in leading.steps(path, header, below=below):
        closed = step.closed_to(write=writes and step.image == path and step.kind != "backing_file")
        if closed is not None:
            return Objection("image_references_file", closed.fact(path), closed.way_out, closed.evidence)
    return None


def refuse_readable(path: str, *, shared: bool, subject: str) -> None:
    """Raises SpecError (key_permissions) where others can read a secret, or put another one there. C(shared): its group may read
    it, as servers do. C(subject): what it is the key of.
    """
    from ansible_collections.platter.qemu.plugins.module_utils._core import key_file

    try:
        seen = os.stat(path)
    except OSError:  # as above
        return
    mode = stat.S_IMODE(seen.st_mode)
    if shared:
        key_file.refuse_shared(mode, path, subject)
    else:
        key_file.refuse_foreign(mode, seen.st_uid, os.geteuid(), path, subject)
