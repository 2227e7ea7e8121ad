# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The directory of an image: whether others can put something else there. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image import actions
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import image
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk


def refuse_unsafe_directory(spec: ImageSpec) -> None:
    """The directory must exist (unless the image is to be absent), and others must not be able to replace files in
    it.
    """
    path = spec.path
    directory = os.path.dirname(path)
    try:
        mode = os.stat(directory).st_mode
    except FileNotFoundError:
        if spec.state == "absent":
            return
        raise _no_directory(path, "its directory") from None
    data_file = spec.option("data_file")
    if data_file and spec.state == "present" and not os.path.isdir(os.path.dirname(data_file)):
        raise _no_directory(path, "the directory of its data file %s" % data_file)
    if mode & 0o002 and not mode & 0o1000:
        raise errors.RefusedError(
            "the path",
            path,
            "anyone can replace files in its directory (mode %04o)" % (mode & 0o7777),
            reason="unsafe_directory",
            way_out="Take write permission from others, or set the sticky bit.",
            evidence={"mode": "%04o" % (mode & 0o7777)},
            joined="",
        )


def _no_directory(path: str, what: str) -> errors.RefusedError:
    return errors.RefusedError(
        "the path",
        path,
        "%s does not exist" % what,
        reason="directory_missing",
        way_out="Make the directory first (ansible.builtin.file). In check mode an earlier task has not made it.",
        joined="",
    )


def refuse_foreign_owner(spec: ImageSpec, seen: image.Seen) -> None:
    """Where anyone can make files, their owner can put another in the place of one that was looked at."""
    if seen.facts.kind == "absent" or not os.stat(os.path.dirname(spec.path)).st_mode & 0o002:
        return
    if seen.facts.owner not in (0, os.geteuid()):
        raise errors.RefusedError(
            "the path",
            spec.path,
            "it belongs to user %d, who can replace it at any time in this directory" % seen.facts.owner,
            reason="unsafe_directory",
            way_out="Keep images in a directory of their own.",
            evidence={"owner": seen.facts.owner},
            joined="",
        )


def refuse_opening(spec: ImageSpec) -> None:
    """For QEMU that is to open the image before there is a plan: as C(refusal_of_owned_directory)."""
    refusal = refusal_of_owned_name(spec, "the image", spec.path)
    if refusal:
        raise refusal


def refusal_of_owned_directory(
    spec: ImageSpec, plan: t.Sequence[t.Any], data_file: str = ""
) -> t.Optional[errors.RefusedError]:
    """Why root does not carry out C(plan) in a directory of an ordinary user; None when there is no such reason.

    Whole images are made and removed there through descriptors. But QEMU opens an image that is there, its bases and
    its data file by their names, and chattr(1) its file: those names their user can give to any other file.
    """
    what = _by_name(spec, plan, data_file)
    return refusal_of_owned_name(spec, *what) if what else None


def refusal_of_owned_name(spec: ImageSpec, what: str, name: str) -> t.Optional[errors.RefusedError]:
    """Why root does not have C(name), which is C(what) of the image, opened by its name; None where that is safe."""
    owned = walk.owned_name(name)
    if owned is None:
        return None
    return errors.RefusedError(
        "the path",
        spec.path,
        "%s is opened by its name, %s" % (what, owned.fact),
        reason="unsafe_directory",
        way_out=owned.way_out(what.split(",")[0]),
        evidence=owned.evidence,
        joined="",
    )


def _by_name(spec: ImageSpec, plan: t.Sequence[t.Any], data_file: str) -> t.Optional[t.Tuple[str, str]]:
    """(what is opened by its name, its path)."""
    if any(action.opens_image for action in plan):
        return ("the image", spec.path)
    making = any(action.replaces_file for action in plan)
    if making and spec.option("data_file"):
        return ("the data file", str(spec.option("data_file")))
    if data_file and any(isinstance(action, actions.SetAttributes) for action in plan):
        return ("the data file", data_file)
    flags = any(name == "attributes" for action in plan for name, _value in getattr(action, "attributes", ()))
    return ("the image, for its attributes,", spec.path) if flags else None
