# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What the images of VMs mean for those who change images: nobody has the image of a stopped VM open. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._inspect import (
    block_use,
    dependents,
    named_files,
    opening,
    vm_definitions,
)

Named = vm_definitions.Named


def named_for(items: t.Sequence[Item]) -> t.Sequence[Named]:
    """What all VMs are defined with, read once for C(items), whose images are to be changed. Where a definition cannot be
    read, each of these is refused.
    """
    try:
        return vm_definitions.named_files() if items else ()
    except errors.EngineError as exc:
        for item in items:
            item.refusal = not_begun(exc)
        return ()


def images_of(named: t.Iterable[Named]) -> t.List[str]:
    """The images that VMs are defined with, and those below them: each of these can be built on what is to be changed. What a
    VM has as raw is not: QEMU takes none of its bytes for a header, which its guest could have written.
    """
    found: t.Dict[str, None] = {}
    for each in named:
        if each.format != "raw":
            found[each.path] = None
        if each.format and opening.names_others(each.format):
            found.update((below.path, None) for below in opening.opened_with(each.path, each.format, below=True))
    return list(found)


def built_on(items: t.Sequence[Item]) -> t.Tuple[t.Dict[str, t.List[str]], Claims]:
    """C(overlays_of) what is about to be written to for C(items), C(reading.target), with the images of all VMs; and what
    these have it as. Where a definition cannot be read, each of C(items) is refused.
    """
    named = named_for(items)
    return overlays_of(items, lambda item: str(item.reading.target), images_of(named)), Claims(named)


def overlays_of(
    items: t.Sequence[Item], path_of: t.Callable[[Item], str], images: t.Collection[str]
) -> t.Dict[str, t.List[str]]:
    """By the path that each of C(items) is about: what is built on it, in its directory, in C(overlay_directories), and of
    C(images), those of VMs.
    """
    paths = sorted({path_of(item) for item in items})
    directories = {os.path.dirname(path) for path in paths}
    directories.update(name for item in items for name in item.spec.overlay_directories)
    return dependents.find_dependents(paths, sorted(directories), named_files.recorded_base, also=images)


def on_these(named: t.Iterable[Named], paths: t.Iterable[str]) -> t.List[Named]:
    """Those of C(named) that are one of the images C(paths), or are built on one."""
    wanted = {block_use.identity_of(path) for path in paths}
    wanted.discard(None)
    return [each for each in named if not wanted.isdisjoint(map(block_use.identity_of, images_of([each])))]


class Claims:
    """Which VMs are defined with a file, by whatever name."""

    def __init__(self, named: t.Iterable[Named]) -> None:
        self._known: t.Dict[t.Any, t.List[Named]] = {}
        for each in named:
            self._known.setdefault(block_use.identity_of(each.path), []).append(each)
        self._known.pop(None, None)

    def on(self, path: str, *, names: int) -> t.Iterator[Named]:
        """Those that find nothing when C(path) goes: of several C(names) of a file only the last takes the content along."""
        for each in self._known.get(block_use.identity_of(path), ()):
            if names == 1 or os.path.realpath(each.path) == os.path.realpath(path):
                yield each

    def below(self, path: str, own: t.Iterable[str]) -> t.Optional[Named]:
        """The first that has an image on C(path), by the definition, which is none of the disk's C(own) files: it would
        show other data when that is written to.
        """
        based = [each for each in self._known.get(block_use.identity_of(path), ()) if each.over is not None]
        spared = {block_use.identity_of(each) for each in own} - {None} if based else set()
        return next((each for each in based if block_use.identity_of(str(each.over)) not in spared), None)


#: what is wrong when a file goes, and how it can go
NOT_FOUND = "which would not find it when it starts"
GIVE_UP = (
    "Have that VM give up the drive first (qemu_drive with that config and state: absent, for the drive or for the VM)"
)
#: how all of the VMs that have disks on an image, and need not run, can go
REMOVE_VMS = (
    "Remove these VMs first: for each, qemu_vm with state: absent, which ends it, and then qemu_drive with that config and"
    " state: absent; the role vm_storage does both with vm_storage_state: absent, and removes its images"
)


def claimed(what: str, named: Named, then: str) -> str:
    """That a VM is defined with C(what), in a sentence. C(then): what would come of it."""
    return "%s is drive %s of VM %s (defined in %s), %s" % (what, named.drive, named.vm, named.config, then)


def based(what: str, named: Named, or_else: str = "") -> t.Tuple[str, str, str, t.Dict[str, str]]:
    """Of what C(Claims.below) has found: reason, fact, way out and evidence of a refusal to write to C(what)."""
    on_it = named.over or "an image"
    fact = "%s is below drive %s of VM %s (defined in %s), which has %s on it"
    fact %= (what, named.drive, named.vm, named.config, on_it)
    return "image_claimed", fact, GIVE_UP + or_else + ".", dict(evidence(named), overlay=str(named.over))


def having_disks(named: t.Sequence[Named]) -> str:
    """That these VMs have disks on something, each with where it is defined; of many, the first."""
    vms = list(dict.fromkeys("VM %s (defined in %s)" % (each.vm, each.config) for each in named))
    more = " and %d more" % (len(vms) - 5) if len(vms) > 5 else ""
    return "%s%s %s disks on it" % (", ".join(vms[:5]), more, "has" if len(vms) == 1 else "have")


def evidence(named: Named) -> t.Dict[str, str]:
    """The same for programs."""
    return {"vm": named.vm, "config": named.config, "drive": named.drive, "place": named.path}
