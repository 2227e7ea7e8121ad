# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The systemd unit of a keeper. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text

_UNIT = """\
[Unit]
Description=Keeper of array %(name)s (platter.qemu)
Wants=network-online.target
After=network-online.target
Before=remote-fs.target

[Service]
Type=exec
ExecStart=%(command)s
Restart=always
RestartSec=5
# without it the array loses its legs
OOMScoreAdjust=-900
UMask=0077
Environment=LC_ALL=C

[Install]
WantedBy=%(wanted)s
"""


def unit_name(name: str) -> str:
    """Of the keeper of an array; the letters of such names all stand for themselves."""
    return "platter-array-%s.service" % name


def render(name: str, argv: t.Sequence[str]) -> str:
    """The text of the unit."""
    told = {"name": name, "command": unit_text.command(argv), "wanted": unit_text.WANTED_BY}
    return unit_text.head("md_keeper", unit_name(name)) + _UNIT % told
