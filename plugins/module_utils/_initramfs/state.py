# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: the file (InitramfsState), and what it would be made of (InitramfsReading)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class InitramfsState:
    """C(sha256): of its bytes, empty where there is no file. C(length): in bytes."""

    path: str
    sha256: str = ""
    length: int = 0

    @property
    def present(self) -> bool:
        """Whether it is there."""
        return bool(self.sha256)

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it."""
        if not self.present:
            return {"path": self.path, "state": "absent"}
        return {"path": self.path, "state": "present", "sha256": self.sha256, "size": self.length}


@dataclass(frozen=True)
class InitramfsReading:
    """C(problem): (reason, fact, way out) of what it cannot be made for.
    C(content): what the file is to hold. C(modules), C(programs): what went into it.
    """

    problem: t.Optional[t.Tuple[str, str, str]] = None
    evidence: t.Mapping[str, t.Any] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    sha256: str = ""
    modules: t.Tuple[str, ...] = ()
    programs: t.Tuple[str, ...] = ()
