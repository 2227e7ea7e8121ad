# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of a directory. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, place


@dataclass(frozen=True)
class DirectorySpec:
    """C(path): absolute, without dots. What owner, group and mode are to be, C(_module/file_attributes.py) reads by it."""

    path: str

    @property
    def name(self) -> str:
        """As items are called."""
        return self.path


def read_spec(params: t.Mapping[str, t.Any]) -> DirectorySpec:
    """The spec of an item's options. Raises SpecError."""
    given = str(params.get("path") or "")
    try:
        return DirectorySpec(str(place.local_place(given).path))
    except ValueError as exc:
        way_out = "Write an absolute path of this host."
        raise errors.SpecError("a directory", given, str(exc), reason="bad_path", way_out=way_out, joined="at") from exc
