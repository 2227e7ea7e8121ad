# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Where an image is made, changed or removed, held while that is done: another user can rename the directory at any time."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core.renaming import renaming
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import pinned, walk


@contextlib.contextmanager
def held_place(spec: ImageSpec) -> t.Iterator[ImageSpec]:
    """C(spec), its path leading through a descriptor of its directory where others could move that.

    The name in the directory can still be given to something else: what acts on it must not follow links.
    """
    directory = os.path.dirname(spec.path)
    if spec.place is not None or not walk.movers(directory):
        yield spec
        return
    with pinned.PinnedDirectory(directory) as held, renaming(held.path, directory):
        yield replace(spec, path=os.path.join(held.path, os.path.basename(spec.path)), asked_path=spec.path)
