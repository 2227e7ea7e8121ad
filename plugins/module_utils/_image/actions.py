# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that lead from one state of an image to another, as values. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import plan
from ansible_collections.platter.qemu.plugins.module_utils._core.size import human
from ansible_collections.platter.qemu.plugins.module_utils._core.words import counted, shown
from ansible_collections.platter.qemu.plugins.module_utils._image import spec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import Backing, ImageState, Pairs


class ImageAction(plan.Action[ImageState]):
    """A step on one image. C(writes_content): needs an image that nobody uses and nobody builds on.

    C(opens_image): a program opens, by their names, the image that is there and what it is built on.
    """

    writes_content = True
    opens_image = True
    #: puts another file in the image's place
    replaces_file = False

    def reads_below(self, cluster_size: t.Optional[int]) -> bool:
        """Whether QEMU copies into the image what its backing chain holds. C(cluster_size): in bytes, None if unknown."""
        return False


@dataclass(frozen=True)
class _Making(ImageAction):
    """What every action that makes a whole image knows of it."""

    path: str
    format: str
    virtual_size: t.Optional[int]
    options: Pairs
    backing: t.Optional[Backing]
    attributes: Pairs
    keyslots: t.Optional[t.Tuple[int, ...]]

    replaces_file = True
    compressed = False

    @property
    def kind(self) -> str:
        """The format, and whether the data is encrypted and compressed in it."""
        words = ["encrypted"] if dict(self.options).get("encrypt_format") else []
        return " ".join([*words, *(["compressed"] if self.compressed else []), self.format])

    def apply(self, state: ImageState) -> ImageState:
        return replace(
            state,
            format=self.format,
            virtual_size=self.virtual_size,
            options=self.options,
            backing=self.backing,
            attributes=self.attributes,
            keyslots=self.keyslots,
            leaks=0,
            corruptions=0,
            base_unchanged=True,
        )


@dataclass(frozen=True)
class CreateImage(_Making):
    """Make an empty image or an overlay."""

    opens_image = False

    def __str__(self) -> str:
        size = "" if self.virtual_size is None else " of %s" % human(self.virtual_size)
        base = " on %s (%s)" % (self.backing.path, self.backing.format) if self.backing else ""
        return "Create %s as %s%s%s." % (self.path, self.kind, size, base)


@dataclass(frozen=True)
class ImportImage(_Making):
    """Make an image from a source, verified. C(replaces) says why an image that is there is replaced."""

    source: spec.SourceSpec
    digest: t.Optional[str]
    compressed: bool = False
    replaces: str = ""

    opens_image = False

    def apply(self, state: ImageState) -> ImageState:
        return replace(super().apply(state), source=self.digest)

    def __str__(self) -> str:
        size = "" if self.virtual_size is None else ", %s" % human(self.virtual_size)
        size += ", only if its %s is as given" % self.digest.split(":")[0] if self.digest else ""
        why = ", replacing the image there: %s" % self.replaces if self.replaces else ""
        packed = self.source.compression not in ("auto", "none")
        return "Import %s (%s%s) to %s as %s%s%s." % (
            self.source.text,
            self.source.format,
            ", packed by %s" % self.source.compression if packed else "",
            self.path,
            self.kind,
            size,
            why,
        )


@dataclass(frozen=True)
class RewriteImage(_Making):
    """Copy the image into a new file that has what cannot be changed in place, then take its name."""

    old_format: str
    differences: t.Tuple[str, ...]
    compressed: bool = False

    def reads_below(self, cluster_size: t.Optional[int]) -> bool:
        """Also where the base is kept: what a new cluster of another size lacks comes from it."""
        return True

    def __str__(self) -> str:
        return "Rewrite %s as %s because of %s." % (self.path, self.kind, "; ".join(self.differences))


@dataclass(frozen=True)
class ResizeImage(ImageAction):
    """Change the virtual size in place."""

    path: str
    format: str
    old_size: int
    virtual_size: int

    @property
    def shrink(self) -> bool:
        """Whether bytes are cut off."""
        return self.virtual_size < self.old_size

    def reads_below(self, cluster_size: t.Optional[int]) -> bool:
        """QEMU 7.2 fills up the last cluster when it grows, from the base as far as the image went."""
        return not self.shrink and not (cluster_size and self.old_size % cluster_size == 0)

    def apply(self, state: ImageState) -> ImageState:
        return replace(state, virtual_size=self.virtual_size)

    def __str__(self) -> str:
        verb = "Shrink" if self.shrink else "Grow"
        return "%s %s from %s to %s." % (verb, self.path, human(self.old_size), human(self.virtual_size))


@dataclass(frozen=True)
class AmendImage(ImageAction):
    """Change options in place; the data is not rewritten."""

    path: str
    format: str
    changes: Pairs
    old: Pairs
    #: options that are on and go off with it
    drops: t.Tuple[str, ...] = ()

    def apply(self, state: ImageState) -> ImageState:
        return replace(state, options=tuple(sorted({**dict(state.options), **dict(self.changes)}.items())))

    def __str__(self) -> str:
        old = dict(self.old)
        changes = ["%s from %s to %s" % (name, shown(old.get(name)), shown(value)) for name, value in self.changes]
        also = ", which turns off %s" % ", ".join(self.drops) if self.drops else ""
        return "Amend %s: %s%s." % (self.path, ", ".join(changes), also)


@dataclass(frozen=True)
class RebaseImage(ImageAction):
    """Give an overlay another backing file, or none. C(why) is the proof where no data is compared."""

    path: str
    format: str
    backing: t.Optional[Backing]
    safe: bool
    why: str = ""

    def reads_below(self, cluster_size: t.Optional[int]) -> bool:
        return self.safe

    def apply(self, state: ImageState) -> ImageState:
        return replace(state, backing=self.backing, base_unchanged=True)

    def __str__(self) -> str:
        if self.backing is None:
            return "Flatten %s: copy what it takes from its backing file, then drop the reference." % self.path
        how = "keeping what the guest sees" if self.safe else "changing the reference only: %s" % self.why
        return "Rebase %s onto %s (%s), %s." % (self.path, self.backing.path, self.backing.format, how)


@dataclass(frozen=True)
class ChangeKeyslots(ImageAction):
    """Add and remove LUKS key slots; new ones first, so that the image is never without a key."""

    path: str
    format: str
    changes: t.Tuple[spec.Keyslot, ...]

    def apply(self, state: ImageState) -> ImageState:
        active = set(state.keyslots or ())
        for slot in self.changes:
            active = active | {slot.slot} if slot.active else active - {slot.slot}
        return replace(state, keyslots=tuple(sorted(active)))

    def __str__(self) -> str:
        words = ["%s slot %d" % ("set" if slot.active else "erase", slot.slot) for slot in self.changes]
        return "Change the key slots of %s: %s." % (self.path, ", ".join(words))


@dataclass(frozen=True)
class RepairImage(ImageAction):
    """Repair what check found. C(repair): leaks or all. C(attributes): of the copy, which gets them as any new file."""

    path: str
    format: str
    repair: str
    leaks: int
    corruptions: int
    attributes: Pairs = ()

    @property
    def replaces_file(self) -> bool:  # type: ignore[override]
        """All but mere leaks are repaired in a copy: what a damaged table leads to counts as leaked, too."""
        return self.repair == "all" or self.corruptions > 0

    def apply(self, state: ImageState) -> ImageState:
        if not self.replaces_file:
            return replace(state, leaks=0)
        left = 0 if self.repair == "all" else self.corruptions
        return replace(state, leaks=0, corruptions=left, attributes=self.attributes)

    def __str__(self) -> str:
        found = counted(self.leaks, "leaked cluster"), counted(self.corruptions, "corruption")
        return "Repair %s (%s): %s and %s." % (self.path, self.repair, *found)


@dataclass(frozen=True)
class RemoveImage(ImageAction):
    """Remove the image with all its member files."""

    path: str
    members: t.Tuple[str, ...] = ()

    opens_image = False

    def apply(self, state: ImageState) -> ImageState:
        return ImageState(path=state.path)

    def __str__(self) -> str:
        also = " and its %s" % counted(len(self.members), "member file") if self.members else ""
        return "Remove %s%s." % (self.path, also)


@dataclass(frozen=True)
class SetAttributes(ImageAction):
    """Set owner, group, mode, SELinux context or file attributes, on every member file and our data file."""

    path: str
    attributes: Pairs
    old: Pairs

    writes_content = False
    opens_image = False

    def apply(self, state: ImageState) -> ImageState:
        return replace(state, attributes=self.attributes)

    def __str__(self) -> str:
        old = dict(self.old)
        changes = [
            "%s from %s to %s" % (name, shown(old.get(name)), value)
            for name, value in self.attributes
            if old.get(name) != value
        ]
        return "Set %s of %s." % (", ".join(changes), self.path)


@dataclass(frozen=True)
class AcceptBase(ImageAction):
    """Remember the backing file as it is now, because the task accepts its change."""

    path: str
    base: str

    writes_content = False

    def apply(self, state: ImageState) -> ImageState:
        return replace(state, base_unchanged=True)

    def __str__(self) -> str:
        return "Accept that %s, the backing file of %s, has changed." % (self.base, self.path)
