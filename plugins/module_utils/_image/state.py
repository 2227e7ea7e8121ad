# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the part of an image that is managed (ImageState), and what was read beside it to decide
(ImageReading).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header, SplitExtent

Pairs = t.Tuple[t.Tuple[str, t.Any], ...]


@dataclass(frozen=True)
class Backing:
    """A backing file as recorded in an overlay. C(path) is resolved and absolute; C(name) is the text in the image."""

    path: str
    format: t.Optional[str]
    name: str


@dataclass(frozen=True)
class ImageState:
    """What the module manages, no more: measurements (allocated bytes, holders) are readings.

    C(format) None means: no image there. C(options), C(attributes) hold only what the task names. C(virtual_size) in
    bytes, None when it cannot be known before a download.
    """

    path: str
    format: t.Optional[str] = None
    virtual_size: t.Optional[int] = None
    options: Pairs = ()
    backing: t.Optional[Backing] = None
    keyslots: t.Optional[t.Tuple[int, ...]] = None
    source: t.Optional[str] = None
    leaks: int = 0
    corruptions: int = 0
    #: the backing file is as it was when this overlay was made (as far as that was remembered)
    base_unchanged: bool = True
    attributes: Pairs = ()

    @property
    def exists(self) -> bool:
        """Whether there is an image."""
        return self.format is not None

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as the diff shows it: only what applies, in a fixed order."""
        if not self.exists:
            return {"path": self.path, "state": "absent"}
        facts: t.Dict[str, t.Any] = {"path": self.path, "state": "present", "format": self.format}
        facts["virtual_size"] = self.virtual_size
        if self.options:
            facts["options"] = dict(self.options)
        facts["backing"] = {"path": self.backing.path, "format": self.backing.format} if self.backing else None
        facts.update({name: getattr(self, name) for name in _OPTIONAL if getattr(self, name)})
        if not self.base_unchanged:
            facts["base_unchanged"] = False
        facts.update(dict(self.attributes))
        return facts


_OPTIONAL = ("keyslots", "source", "leaks", "corruptions")


@dataclass(frozen=True)
class BaseReading:
    """The file that is asked to be the backing file. C(detected): formats that its first bytes look like."""

    path: str
    exists: bool
    detected: t.Tuple[str, ...] = ()
    virtual_size: t.Optional[int] = None
    fingerprint: t.Optional[t.Mapping[str, t.Any]] = None
    chain_problem: t.Optional[t.Tuple[str, str]] = None  # (reason, sentence)
    #: as C(chain_problem), of what only matters when QEMU opens it
    opening_problem: t.Optional[t.Tuple[str, str]] = None
    in_chain_of: t.Tuple[str, ...] = ()  # every path of its backing chain


@dataclass(frozen=True)
class SourceReading:
    """The source as far as it can be read before it is fetched. C(changed): None when nothing says so."""

    virtual_size: t.Optional[int] = None
    digest: t.Optional[str] = None
    changed: t.Optional[bool] = None
    why: str = ""
    #: bytes that the server of a URL says it would send
    length: t.Optional[int] = None
    #: every path of the backing chain of a trusted one
    chain: t.Tuple[str, ...] = ()


class Live(t.NamedTuple):
    """The QEMU that has an image open. C(node): the image in it. C(pids): of it, and of who else holds its monitor."""

    node: str
    pids: t.FrozenSet[int]


@dataclass(frozen=True)
class ImageReading:
    """Facts that decide but are not managed."""

    kind: str = "absent"  # absent, file, block, export
    length: int = 0
    nlink: int = 1
    #: how many of its names are backups that a killed run of ours has made of it
    backups: int = 0
    identity: t.Tuple[int, int] = (0, 0)
    header: t.Optional[Header] = None
    detected: t.Tuple[str, ...] = ()
    record: t.Mapping[str, t.Any] = field(default_factory=dict)
    #: (reason, sentence) when the backing chain of the image cannot be followed to its end
    chain_problem: t.Optional[t.Tuple[str, str]] = None
    #: as C(chain_problem), of the files that hold the content of the image itself
    lacking: t.Optional[t.Tuple[str, str]] = None
    #: None: blank or a file; else what a block device carries
    signature: t.Optional[str] = None
    #: the note of a run of ours that began to fill the block device, and did not end
    unfinished: str = ""
    #: the member files of a split image, without its descriptor
    members: t.Tuple[str, ...] = ()
    #: the data file that we made for it; else empty
    own_data_file: str = ""
    #: it is no image by itself, but a part of a split one
    extent_of: t.Optional[SplitExtent] = None
    #: files that its descriptor names and that are no members
    foreign_extents: t.Tuple[str, ...] = ()
    #: files that are no members, but have the names that members of a new split image would get
    squatters: t.Tuple[str, ...] = ()
    base: t.Optional[BaseReading] = None
    #: the recorded backing file is there
    current_base_exists: bool = True
    #: the recorded backing file is the asked one, by inode
    current_base_is_asked: bool = False
    #: virtual size of the recorded backing file, in bytes; None where there is none, or it cannot be read
    current_base_size: t.Optional[int] = None
    #: fingerprint of the recorded backing file as it is now
    current_base_fingerprint: t.Optional[t.Mapping[str, t.Any]] = None
    #: and those that the image remembers of it
    remembered_bases: t.Tuple[t.Mapping[str, t.Any], ...] = ()
    #: every path of its backing chain, as far as it could be followed
    chain: t.Tuple[str, ...] = ()
    #: names of the external snapshots that it is an overlay of; C(backing) is then what lies below those
    points: t.Tuple[str, ...] = ()
    source: t.Optional[SourceReading] = None
    #: for a shrink: (byte where data ends, what it is)
    data_end: t.Optional[t.Tuple[int, str]] = None
    desired_attributes: Pairs = ()
    #: the report of qemu-img check, where the task asks for repairs
    check: t.Mapping[str, t.Any] = field(default_factory=dict)
    #: what qemu-img said when it could not check, because a program has the image; else empty
    locked: str = ""
    #: the QEMU that has it, and does what is to be done
    live: t.Optional[Live] = None

    @property
    def other_files(self) -> t.Tuple[str, ...]:
        """The files that belong to the image besides that at its path."""
        return self.members + ((self.own_data_file,) if self.own_data_file else ())

    @property
    def fixed(self) -> bool:
        """Whether its size is not ours to change, and it cannot be removed."""
        return self.kind in ("block", "export")

    @property
    def other_names(self) -> int:
        """How many further names of the file others rely on."""
        return self.nlink - 1 - self.backups

    @property
    def thing(self) -> str:
        """What sentences call it when it is no file."""
        return "export" if self.kind == "export" else "device"
