# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The door to mdadm: what it is asked, and nothing that overrides it (no C(--force), no C(--zero-superblock)).

It knows no C(--) before names, which are absolute paths here.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools import process

_NOT_POSSIBLE = "is not possible"


class Mdadm:
    """C(run): what runs commands; C(program): the path of mdadm; C(timeout): seconds for each command."""

    def __init__(self, run: process.RunCommand, program: str, timeout: float) -> None:
        self._run, self._program, self._timeout = run, program, timeout

    def _tell(self, *words: str) -> str:
        return process.run(self._run, [self._program, *words], timeout=self._timeout)[1]

    def create(self, link: str, uuid: str, name: str, level: str, policy: str, devices: t.Sequence[str]) -> None:
        """Make and start it. C(--run): what there is on the legs was looked at already."""
        how = ["--bitmap=internal"] if policy == "bitmap" else ["--consistency-policy=" + policy]
        self._tell(
            "--create",
            link,
            "--run",
            "--quiet",
            "--metadata=1.2",
            "--homehost=<none>",
            "--name=" + name,
            "--uuid=" + in_colons(uuid),
            "--level=" + level,
            "--raid-devices=%d" % len(devices),
            *how,
            *devices,
        )

    def assemble(self, link: str, uuid: str, devices: t.Sequence[str]) -> None:
        """Start it. C(--run): that no leg is missing which could be newer was looked at already."""
        self._tell("--assemble", link, "--run", "--quiet", "--uuid=" + in_colons(uuid), *devices)

    def stop(self, path: str) -> None:
        """Let it go."""
        self._tell("--stop", "--quiet", path)

    def remove(self, path: str, device: str) -> None:
        """One that has failed. C(device): the kernel's name of it, which need not be in C(/dev) any more."""
        self._tell("--manage", path, "--quiet", "--remove", device)

    def fail(self, path: str, device: str) -> None:
        """Have it count as failed."""
        self._tell("--manage", path, "--quiet", "--fail", device)

    def add_again(self, path: str, device: str) -> str:
        """Have a former leg back: only what was written since is copied, or all of it (C(whole)) where md cannot tell."""
        try:
            self._tell("--manage", path, "--quiet", "--re-add", device)
            return "since"
        except errors.ToolError as exc:
            if _NOT_POSSIBLE not in exc.stderr:
                raise
        self.add(path, device)
        return "whole"

    def add(self, path: str, device: str) -> None:
        """A disk that is filled with what the array holds."""
        self._tell("--manage", path, "--quiet", "--add", device)


def in_colons(uuid: str) -> str:
    """A UUID as mdadm writes it."""
    digits = uuid.replace("-", "")
    return ":".join(digits[at : at + 8] for at in range(0, 32, 8))
