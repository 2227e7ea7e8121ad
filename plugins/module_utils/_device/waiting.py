# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Waiting for the kernel, with a deadline."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item

_POLL_SECONDS = 0.01


def wait(item: Item, fact: t.Callable[[], bool], trouble: str) -> None:
    """Until it is so. Raises FailedError (C(device_timeout)) when that takes longer than the task allows."""
    deadline = time.monotonic() + item.spec.timeout
    while not fact():
        if time.monotonic() >= deadline:
            text = "%s after %g s" % (trouble, item.spec.timeout)
            raise errors.FailedError(text, reason="device_timeout", evidence={"timeout": item.spec.timeout})
        time.sleep(_POLL_SECONDS)
