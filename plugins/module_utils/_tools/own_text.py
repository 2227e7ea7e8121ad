# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The text of a file of ours, which may be in the archive that Ansible has sent, and is gone when the play is over."""

from __future__ import annotations

from types import ModuleType


def of(module: ModuleType) -> str:
    """For programs that outlive the play."""
    loader = module.__spec__.loader if module.__spec__ else None
    return str(loader.get_source(module.__name__))  # type: ignore[union-attr]
