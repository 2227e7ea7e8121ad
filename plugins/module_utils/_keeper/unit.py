# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The systemd unit of a keeper. Pure."""

from __future__ import annotations

import typing as t

DIRECTORY = "/etc/systemd/system"
WANTED_BY = "multi-user.target"

_UNIT = """\
# Made by platter.qemu.md_keeper, which writes it anew when it is changed.
# What is to be otherwise belongs in a file of your own: systemctl edit %(unit)s
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


def unit_file(name: str) -> str:
    """Where the unit lies."""
    return "%s/%s" % (DIRECTORY, unit_name(name))


def wants_link(name: str) -> str:
    """What has it started at boot."""
    return "%s/%s.wants/%s" % (DIRECTORY, WANTED_BY, unit_name(name))


def render(name: str, argv: t.Sequence[str]) -> str:
    """The text of the unit. C(argv) has no letters that systemd would read as more."""
    return _UNIT % {"unit": unit_name(name), "name": name, "command": " ".join(argv), "wanted": WANTED_BY}
