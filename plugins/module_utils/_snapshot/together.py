# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Failures of what is done to several images of one VM at once: each image tells because of which of them."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item

Failure = t.Union[errors.EngineError, OSError]


class TogetherError(errors.EngineError):
    """C(error): what has failed. C(culprit): the image for which it has; empty where that cannot be told."""

    def __init__(self, error: Failure, culprit: str) -> None:
        self.error = error
        self.culprit = culprit
        super().__init__(_said(error), **getattr(error, "facts", {}))

    def told_of(self, item: Item, others: t.Sequence[str]) -> Failure:
        """What the item is told. C(others): the images that it was to be done to at once with this one."""
        if not others or item.name == self.culprit:
            return self.error
        also = " and failed because of %s" % self.culprit if self.culprit else " %s too, and failed" % ", ".join(others)
        said = "It was one step for all images of the VM,%s: %s" % (also, self.message)
        return errors.EngineError(said, **self.facts)


def _said(error: Failure) -> str:
    if isinstance(error, errors.EngineError):
        return error.message
    return "%s: %s" % (error.filename, error.strerror) if error.filename else str(error.strerror)


@contextlib.contextmanager
def because_of(item: Item) -> t.Iterator[None]:
    """What fails in the block fails for this item."""
    try:
        yield
    except (errors.EngineError, OSError) as exc:
        raise TogetherError(exc, item.name) from exc


def refused_by_qemu(error: errors.EngineError, names: t.Mapping[str, t.Collection[str]]) -> TogetherError:
    """What QEMU says of a step of several images. C(names): what it may call each of them, by image."""
    about = [image for image, known in names.items() if any("'%s'" % name in error.message for name in known)]
    return TogetherError(error, about[0] if len(about) == 1 else "")
