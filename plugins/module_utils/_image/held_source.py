# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Holds a local source still from the gate's verdict to the end of its conversion, or tells that it did not stay so.

The owner of a file can put another in its place, or write to it, at any time: also between our look at its header and
QEMU's. So an untrusted source is opened once and read through that descriptor; if nobody is known to be able to write
to it meanwhile (a lease, or nobody else may), that is enough, and else it is copied first.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.renaming import renaming
from ansible_collections.platter.qemu.plugins.module_utils._image import space
from ansible_collections.platter.qemu.plugins.module_utils._image.source import refuse_strangers, source_refused
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec, SourceSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import named_files
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory, copy, files
from ansible_collections.platter.qemu.plugins.module_utils._tools.still import StillFile, changed


class HeldSource(t.NamedTuple):
    """C(path): where the source is read, empty for what comes from elsewhere; C(facts): the source's own."""

    path: str
    facts: files.FileFacts
    #: raises RefusedError when the source is not what it was
    refuse_disturbed: t.Callable[[], None]


@contextlib.contextmanager
def held_source(
    spec: ImageSpec, source: SourceSpec, staging: t.Optional[build_directory.BuildDirectory]
) -> t.Iterator[HeldSource]:
    """The source of one import while the block runs; C(staging): for a private copy, where there has to be one.

    Without C(staging) (an export has no directory) a source that would have to be copied first is refused.
    """
    path = source.place.path if source.place and not source.url else None
    if path is None:
        yield HeldSource("", files.FileFacts("", "absent"), lambda: None)
    elif source.trusted:
        yield _watched(spec, path, source.format)
    else:
        with StillFile(path) as still, renaming(still.path, path):
            yield _held(spec, source, still, staging)


def _watched(spec: ImageSpec, path: str, format_name: str) -> HeldSource:
    """A trusted source may name other files, by paths that are relative to its own: it is only watched."""
    before = {name: files.file_facts(name) for name in named_files.files_of_chain(path, format_name)}

    def verify() -> None:
        for name, facts in before.items():
            if changed(facts, files.file_facts(name)):
                raise _disturbed(spec, facts, files.file_facts(name), name)

    return HeldSource(path, before[path], verify)


def _held(
    spec: ImageSpec, source: SourceSpec, still: StillFile, staging: t.Optional[build_directory.BuildDirectory]
) -> HeldSource:
    refuse_strangers(spec, still)
    if still.facts.kind not in ("file", "block"):
        raise source_refused(
            spec, "source_missing", "it is a %s" % still.facts.kind, "Name a file or block device in source.path."
        )
    path = still.path
    if _may_deceive(source, still):
        if staging is None:
            raise _restless(spec, still)
        path = staging.spare("copy")
        space.require_space(spec, still.facts.most_allocated)
        copy.copy_file(still.path, path, find_zeros=still.facts.kind == "block")

    def verify() -> None:
        if still.disturbed:
            raise _disturbed(spec, still.facts, files.file_facts(still.path), still.name)

    return HeldSource(path, still.facts, verify)


def _may_deceive(source: SourceSpec, still: StillFile) -> bool:
    """Raw bytes mean the same to everybody; but a checksum is only worth something for bytes that stay."""
    meaning = source.format != "raw" or bool(source.checksum)
    return meaning and still.facts.kind == "file" and still.others_write and not still.leased


def _restless(spec: ImageSpec, still: StillFile) -> errors.EngineError:
    return source_refused(
        spec,
        "source_writable",
        "others may write to it while it is read (owner %d, mode %04o), and what goes to an export is not copied first"
        % (still.facts.owner, still.facts.mode & 0o7777),
        "Import it into a file of this host first, and that file to the export; or set source.trusted to true.",
        owner=still.facts.owner,
        mode="%04o" % (still.facts.mode & 0o7777),
    )


def _disturbed(spec: ImageSpec, before: files.FileFacts, now: files.FileFacts, name: str) -> errors.EngineError:
    return source_refused(
        spec,
        "source_changed",
        "%s was changed, replaced or opened for writing while it was read" % name,
        "Import when nobody writes to the source.",
        before=_shown(before),
        now=_shown(now),
    )


def _shown(facts: files.FileFacts) -> t.Dict[str, int]:
    return {
        "dev": facts.dev,
        "ino": facts.ino,
        "size": facts.length,
        "mtime_ns": facts.mtime_ns,
        "ctime_ns": facts.ctime_ns,
    }
