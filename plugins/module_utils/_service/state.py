# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so of a program of ours that stays on its host: its files, and whether it runs (ServiceState)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


class Parts(t.NamedTuple):
    """What it consists of: texts of files, C(definitions) of what declares it to its supervisor. C(program) as its digest."""

    settings: str
    program: str
    definitions: t.Tuple[str, ...]


@dataclass(frozen=True)
class ServiceState:
    """The managed part. C(supervisor): what runs it, empty for none; C(parts): its files, None where there are none.

    C(enabled): it is started at boot (systemd). C(running): it runs, or waits for its time. C(outdated): what runs, or
    waits, is what was written before.
    """

    name: str
    supervisor: str = ""
    parts: t.Optional[Parts] = None
    enabled: bool = False
    running: bool = False
    outdated: bool = False
