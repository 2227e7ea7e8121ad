# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The external data file of a qcow2 image: claimed before QEMU writes it, as QEMU would empty whatever is there."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, pinned, records


def is_of(data_file: str, owner: str) -> bool:
    """Whether we made the file for that image."""
    return os.path.lexists(data_file) and records.read_record(data_file).get("data_of") == owner


def own_data_file(image_path: str, name: str, header: t.Optional[Header]) -> str:
    """The data file that we made for the image C(name), which lies at C(image_path); empty without such a one."""
    named = header.data_file if header else None
    if not named or not named.startswith("/") or not is_of(named, name):
        return ""
    return named if os.path.realpath(named) != image_path else ""


def data_file_is_taken(data_file: str, owner: str) -> bool:
    """Whether a file is there that is not just what a killed run has left: ours, and still empty.

    Ours with data in it belongs to an image that was given another name.
    """
    return os.path.lexists(data_file) and not (is_of(data_file, owner) and os.lstat(data_file).st_blocks == 0)


@contextlib.contextmanager
def claimed(spec: ImageSpec) -> t.Iterator[None]:
    """An empty data file of our own while the image is built over it; gone again when that fails, unless the image has its
    name already.
    """
    data_file = spec.option("data_file")
    if not data_file:
        yield
        return
    if os.path.lexists(data_file) and not data_file_is_taken(data_file, spec.name):
        os.unlink(data_file)  # of a run that was killed before the image had its name
    _claim(data_file, spec.name)
    try:
        yield
    except BaseException:
        if not _is_named_by(spec.path, data_file):
            os.unlink(data_file)
        raise


def _is_named_by(image_path: str, data_file: str) -> bool:
    try:
        header = image.look_at(image_path, "qcow2").header
    except (errors.EngineError, OSError):  # what cannot be told may be so
        return True
    return header is not None and header.data_file == data_file


def _claim(data_file: str, owner: str) -> None:
    mode = os.stat(os.path.dirname(data_file)).st_mode if os.path.isdir(os.path.dirname(data_file)) else 0
    if mode & 0o002 and not mode & 0o1000:
        raise errors.RefusedError(
            "a data file",
            owner,
            "anyone can replace files in the directory of %s (mode %04o)" % (data_file, mode & 0o7777),
            reason="unsafe_directory",
            way_out="Take write permission from others, or set the sticky bit.",
        )
    try:
        os.close(os.open(data_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as exc:
        raise errors.EngineError("the data file %s cannot be made: %s" % (data_file, exc.strerror)) from exc
    records.write_record(data_file, {"data_of": owner})


def finish_data_file(spec: ImageSpec, attributes: t.Any) -> None:
    """Owner, mode and durability of the data file, before the image gets its name."""
    data_file = spec.option("data_file")
    if data_file:
        attributes.dress(spec, data_file, None)
        files.fsync_path(data_file)
        files.fsync_path(os.path.dirname(data_file))


def remove_data_file(owner: str, data_file: t.Optional[str]) -> None:
    """The data file goes with its image if we made it; one of somebody else's stays."""
    if not data_file or not is_of(data_file, owner):
        return
    directory, name = os.path.split(os.path.realpath(data_file))
    with pinned.PinnedDirectory(directory) as held:
        same = os.path.join(held.path, name)
        if is_of(same, owner):
            os.unlink(same)
            records.remove_record(same)
            files.fsync_path(held.path)
