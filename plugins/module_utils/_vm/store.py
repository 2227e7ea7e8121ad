# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Definitions as files: old or new, never in between. What is new is a directory, and one link leads to the one that counts."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import vm_definitions
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, own_zipapp, walk
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition, places, start_guard

_MODES = {definition.START: 0o700}
#: bytes that make the name of a link that is half made another one each time
_RANDOM = 4


def read(config: str) -> t.Optional[definition.VmDefinition]:
    """The definition in a directory; None where there is none. Raises RefusedError for one that cannot be read."""
    path = places.current_file(config, definition.DEFINITION)
    text = _text(path)
    if text is None:
        return None
    found = definition.parse(text)
    if found is None:
        fact = "%s is no definition of this collection" % path
        way_out = "Remove the link %s, if it is not needed." % os.path.join(config, places.CURRENT)
        raise _refused(config, "definition_unreadable", fact, way_out, {"path": path})
    return found


def _refused(config: str, reason: str, fact: str, way_out: str, evidence: t.Mapping[str, t.Any]) -> errors.RefusedError:
    asked = "a definition of drives"
    return errors.RefusedError(asked, config, fact, reason=reason, way_out=way_out, evidence=evidence, joined="in")


def is_whole(config: str, made: definition.VmDefinition) -> bool:
    """Whether all files are as they are made of the definition, and it is known to tasks of other VMs."""
    wanted = texts(made)
    if os.path.realpath(places.record(made.vm)) != os.path.realpath(config) or _leftovers(made.vm, config):
        return False
    if any(_link(path) != target for path, target in places.links(config).items()):
        return False
    if not _is_ours(os.path.join(config, places.CURRENT), 0o700):
        return False
    if not _is_ours(places.current_file(config, definition.PROGRAM), 0o600):
        return False
    return all(_is_file(places.current_file(config, name), name, text) for name, text in wanted.items())


def starts_as_defined(config: str, made: definition.VmDefinition) -> bool:
    """Whether the program that starts the VM is as it is made of the definition, and what it asks is there."""
    asks = _is_ours(places.current_file(config, definition.PROGRAM), 0o600)
    return asks and _text(os.path.join(config, definition.START)) == texts(made)[definition.START]


def is_current(config: str) -> bool:
    """Whether C(start) asks what this version would."""
    return vm_definitions.content(places.current_file(config, definition.PROGRAM)) == _program()


def texts(made: definition.VmDefinition) -> t.Dict[str, str]:
    """The content of each file, with what its program asks before it starts QEMU."""
    made_of_it = definition.texts(made)
    return dict(made_of_it, **{definition.START: start_guard.guarded(made_of_it[definition.START], made)})


@functools.lru_cache(maxsize=None)
def _program() -> bytes:
    """What C(start) asks; once for all VMs, and the same with every zlib, or it would be written anew for nothing."""
    from ansible_collections.platter.qemu.plugins.module_utils._vm import before_start

    return own_zipapp.build(before_start, packed=False)


def _is_file(path: str, name: str, text: str) -> bool:
    return _is_ours(path, _MODES.get(name, 0o600)) and _text(path) == text


def _is_ours(path: str, mode: int) -> bool:
    """Another owner could write to it."""
    try:
        seen = os.stat(path)
    except OSError:
        return False
    return stat.S_IMODE(seen.st_mode) == mode and seen.st_uid == os.geteuid()


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: str) -> t.Optional[str]:
    content = vm_definitions.content(path)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def has_any(vm: str, config: str) -> bool:
    """Whether anything of ours is there, be it only what a killed run has left."""
    if os.path.lexists(os.path.join(config, places.CURRENT)) or _link(places.record(vm)) == config:
        return True
    return any(_link(path) == target for path, target in places.links(config).items()) or bool(_leftovers(vm, config))


def _leftovers(vm: str, config: str) -> t.List[str]:
    """Generations that do not count, and links that were to become others."""
    kept = _link(os.path.join(config, places.CURRENT))
    found = [name for name in _names(config) if name.startswith(places.GENERATION) and name != kept]
    found += [name for name in _names(config) if _is_half_made(name, places.CURRENT)]
    others = [os.path.join(places.registry(), name) for name in _names(places.registry()) if _is_half_made(name, vm)]
    return [os.path.join(config, name) for name in found] + others


def _names(directory: str) -> t.List[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_half_made(name: str, wanted: str) -> bool:
    return name.startswith(".%s." % wanted) and len(name) == len(wanted) + 2 + 2 * _RANDOM


def refuse_unsafe(config: str) -> None:
    """What is started from there must be ours: RefusedError where others can put something in its place."""
    existing = _existing(config)
    way_out = "Use a directory that only its owner can write to, and no link of another user's."
    for link in walk.links(config):
        if link.owner not in (0, os.geteuid()):
            fact = "a symbolic link of user %d in %s leads there" % (link.owner, link.directory)
            evidence = {"directory": link.directory, "owner": link.owner}
            raise _refused(config, "unsafe_directory", fact, way_out, evidence)
    for directory in (existing, *(link.directory for link in walk.links(config))):
        mover = next((each for each in walk.movers(directory) if each.owned or each.mode & 0o002), None)
        if mover is not None:
            fact = "others can put something into %s (owner %d, mode %04o)" % (mover.directory, mover.owner, mover.mode)
            raise _refused(config, "unsafe_directory", fact, way_out, mover._asdict())
    for path, target in places.links(config).items():
        if os.path.lexists(path) and _link(path) != target:
            fact = "%s is there, and was not made by this collection" % path
            raise _refused(config, "name_taken", fact, "Move it away, or choose another config.", {"path": path})


def _existing(config: str) -> str:
    """The directory, or the nearest above it that is there; without links. Raises RefusedError where that is none."""
    at = config
    while not os.path.isdir(at):
        if os.path.lexists(at):
            raise _refused(config, "directory_missing", "%s is no directory" % at, "Correct config.", {"path": at})
        at = os.path.dirname(at)
    return os.path.realpath(at)


def write(config: str, made: definition.VmDefinition) -> None:
    """All files of a definition, on stable storage; then one link is changed. Raises OSError, RefusedError."""
    _make_directories(os.path.dirname(config))
    with contextlib.suppress(FileExistsError):
        os.mkdir(config, 0o700)
    refuse_unsafe(config)  # once more: others may have been first, where all may make directories
    files.fsync_path(os.path.dirname(config))
    _record(made.vm, config)
    generation = places.GENERATION + secrets.token_hex(4)
    built = os.path.join(config, generation)
    os.mkdir(built, 0o700)
    for name, text in texts(made).items():
        _write(os.path.join(built, name), text.encode("utf-8", "surrogateescape"), _MODES.get(name, 0o600))
    _write(os.path.join(built, definition.PROGRAM), _program(), 0o600)
    files.fsync_path(built)
    for path, target in places.links(config).items():
        with contextlib.suppress(FileExistsError):
            os.symlink(target, path)
    _put_link(os.path.join(config, places.CURRENT), generation)
    files.fsync_path(config)
    _remove_leftovers(made.vm, config)


def _make_directories(path: str) -> None:
    """Those that are not there, on stable storage, whatever the umask: only their owner can write to them."""
    if os.path.isdir(path):
        return
    _make_directories(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
    files.fsync_path(os.path.dirname(path))


def _write(path: str, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _put_link(path: str, target: str) -> None:
    """No VM has a name like that of a link that is half made."""
    directory, name = os.path.split(path)
    built = os.path.join(directory, ".%s.%s" % (name, secrets.token_hex(_RANDOM)))
    os.symlink(target, built)
    os.rename(built, path)


def _record(vm: str, config: str) -> None:
    _make_directories(places.registry())
    if _link(places.record(vm)) != config:
        _put_link(places.record(vm), config)
        files.fsync_path(places.registry())


def _remove_leftovers(vm: str, config: str) -> None:
    for path in _leftovers(vm, config):
        if os.path.islink(path):
            os.unlink(path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def remove(vm: str, config: str) -> None:
    """All that is ours; the directory too, if nothing else is in it. The link goes first: then there is no definition."""
    current = os.path.join(config, places.CURRENT)
    ours = [path for path, target in places.links(config).items() if _link(path) == target]
    for path in (current, *ours):
        if os.path.islink(path):
            os.unlink(path)
    if os.path.isdir(config):
        files.fsync_path(config)
    _remove_leftovers(vm, config)
    with contextlib.suppress(OSError):
        os.rmdir(config)
    if _link(places.record(vm)) == config:
        os.unlink(places.record(vm))
        files.fsync_path(places.registry())
