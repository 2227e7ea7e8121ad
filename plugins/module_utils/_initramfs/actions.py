# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The steps that a plan for an initramfs is made of."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._initramfs.state import InitramfsState


@dataclass(frozen=True)
class WriteInitramfs(Action[InitramfsState]):
    """The file, whole, at once. C(root): how its root is called in a sentence."""

    path: str
    sha256: str
    length: int
    release: str
    root: str
    new: bool

    def apply(self, state: InitramfsState) -> InitramfsState:
        return InitramfsState(self.path, self.sha256, self.length)

    def __str__(self) -> str:
        verb = "Make" if self.new else "Make anew"
        return "%s %s, for Linux %s with its root on %s." % (verb, self.path, self.release, self.root)


@dataclass(frozen=True)
class RemoveInitramfs(Action[InitramfsState]):
    """The file goes."""

    path: str

    def apply(self, state: InitramfsState) -> InitramfsState:
        return InitramfsState(self.path)

    def __str__(self) -> str:
        return "Remove %s." % self.path
