# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Which images in some directories are built on given bases. QEMU does not lock a base against its overlays' owners."""

from __future__ import annotations

import errno
import os
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use
from ansible_collections.platter.qemu.plugins.module_utils._tools import build_directory

#: What C(read_backing) answers: the resolved path or paths that an image's header names, or None.
Named = t.Union[None, str, t.Sequence[str]]
#: what tells one base from another
_Which = t.Union[None, str, block_use.Identity]


def find_dependents(
    base_paths: t.Sequence[str],
    directories: t.Sequence[str],
    read_backing: t.Callable[[str], Named],
    *,
    also: t.Collection[str] = (),
    with_devices: t.Container[str] = (),
) -> dict[str, list[str]]:
    """The files in C(directories) (not below them), and of C(also), that name one of C(base_paths) as backing or data
    file. In those C(with_devices) block devices count too.

    C(read_backing(path)) reads one header; None (or HeaderError) for what is no image or names nothing.
    Bases are recognised by what they are, through symbolic and hard links; one that is not there by its place. One header
    is read for each file.
    """
    bases = _by_identity(base_paths)
    found: dict[str, list[str]] = {path: [] for path in base_paths}
    known: dict[str, _Which] = {}  # a thousand overlays share few bases
    hints = set(also)
    for path in dict.fromkeys([*_files_in(directories, with_devices), *also]) if bases else ():
        for backing in _named(path, read_backing, path in hints):
            if backing not in known:
                known[backing] = _which(backing)
            _add(found, bases.get(known[backing], ()), path)
    return found


def refuse_wrong_directories(directories: t.Sequence[str]) -> None:
    """Where C(overlay_directories) name none, overlays would be missed. Raises RefusedError: C(bad_path) for what is
    not absolute, C(directory_missing) for what is no directory.
    """
    for directory in directories:
        if not os.path.isabs(directory):
            raise _no_directory(directory, "bad_path", "it is not an absolute path", "Write an absolute path")
        try:
            is_one = stat.S_ISDIR(os.stat(directory).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            raise _no_directory(directory, "directory_missing", "there is no such directory", "Correct it") from None
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise _no_directory(directory, "bad_path", "it cannot be looked at: %s" % why, "Correct it") from exc
        if not is_one:
            raise _no_directory(directory, "directory_missing", "it is no directory", "Name the one that it is in")


def _no_directory(directory: str, reason: str, fact: str, way_out: str) -> errors.RefusedError:
    return errors.RefusedError(
        "a search for overlays",
        directory,
        fact,
        reason=reason,
        way_out=way_out + " in overlay_directories.",
        evidence={"directory": directory},
        joined="in",
    )


def _by_identity(base_paths: t.Sequence[str]) -> dict[_Which, list[str]]:
    bases: dict[_Which, list[str]] = {}
    for path in dict.fromkeys(base_paths):
        which = _which(path)
        if which:
            bases.setdefault(which, []).append(path)
    return bases


def _which(path: str) -> _Which:
    try:
        return block_use.identity_of(path) or os.path.realpath(path)
    except (OSError, ValueError):  # a header can say what is no name of a file
        return None


def _files_in(directories: t.Sequence[str], with_devices: t.Container[str]) -> t.Iterator[str]:
    for directory in dict.fromkeys(directories):
        devices = directory in with_devices
        try:
            with os.scandir(directory) as entries:
                names = sorted(each.name for each in entries if _is_file(each, devices))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            raise errors.EngineError(
                f"{directory} cannot be searched for images: {exc.strerror}", path=directory
            ) from exc
        # Our own half-made files become overlays by a rename, or are removed.
        yield from (os.path.join(directory, name) for name in names if not name.startswith(build_directory.TEMP_PREFIX))


def _is_file(entry: os.DirEntry[str], or_device: bool) -> bool:
    """A symbolic link that leads to itself is no file, and no reason not to read the others."""
    try:
        return entry.is_file() or (or_device and stat.S_ISBLK(entry.stat().st_mode))
    except OSError:
        return False


def _named(path: str, read_backing: t.Callable[[str], Named], is_hint: bool) -> t.Sequence[str]:
    """C(is_hint): somebody has said that it is an image; nothing is known of it where that cannot be seen."""
    try:
        named = read_backing(path)
    except (errors.HeaderError, FileNotFoundError):  # no image, or gone since the directory was read
        return ()
    except errors.EngineError as exc:
        if is_hint or _is_nothing(exc.__cause__) or _is_anothers_link(path):
            return ()
        raise
    return (named,) if isinstance(named, str) else named or ()


def _is_nothing(cause: t.Optional[BaseException]) -> bool:
    """Found when it is opened: it has gone, or it is a drive without a medium."""
    return isinstance(cause, OSError) and cause.errno in (errno.ENOENT, errno.ENOMEDIUM, errno.ENXIO)


def _is_anothers_link(path: str) -> bool:
    """Whoever may make names in a directory can have one lead to what nobody can read: no reason to stop all tasks."""
    try:
        seen = os.lstat(path)
    except OSError:
        return True
    return stat.S_ISLNK(seen.st_mode) and seen.st_uid not in (0, os.geteuid())


def _add(found: dict[str, list[str]], bases: t.Iterable[str], path: str) -> None:
    for base in bases:
        if path not in found[base][-1:] and block_use.identity_of(path) != block_use.identity_of(base):
            found[base].append(path)
