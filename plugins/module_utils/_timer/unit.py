# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The units of systemd of a timer: what waits, and what it starts. Pure.

Facts: systemd.timer(5). A missed time is made up for at the next boot (Persistent).
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import TimerSpec

_SERVICE = """\
[Unit]
Description=Snapshots %(name)s (platter.qemu)
# a run that was missed begins at boot: not before VMs that are started then have their images
After=local-fs.target remote-fs.target multi-user.target

[Service]
Type=oneshot
ExecStart=%(command)s
# a merge takes as long as it takes
TimeoutStartSec=infinity
# as of a task: what is remembered beside an image (where it has no attributes) is for those who can read the image
UMask=0022
Environment=LC_ALL=C
"""
_TIMER = """\
[Unit]
Description=Time for snapshots %(name)s (platter.qemu)

[Timer]
OnCalendar=%(when)s
RandomizedDelaySec=%(delay)d
AccuracySec=1s
Persistent=true

[Install]
WantedBy=%(wanted)s
"""


def service_name(name: str) -> str:
    """Of what is run; the letters of such names all stand for themselves."""
    return "platter-snapshots-%s.service" % name


def timer_name(name: str) -> str:
    """Of what waits for its time; it starts the service of the same name."""
    return "platter-snapshots-%s.timer" % name


def render_service(name: str, argv: t.Sequence[str]) -> str:
    """The text of the service."""
    told = {"name": name, "command": unit_text.command(argv)}
    return unit_text.head("snapshot_timer", service_name(name)) + _SERVICE % told


def render_timer(spec: TimerSpec) -> str:
    """The text of the timer."""
    own = timer_name(spec.name)
    told = {"name": spec.name, "when": spec.on_calendar, "delay": spec.randomized_delay}
    return unit_text.head("snapshot_timer", own) + _TIMER % dict(told, wanted=unit_text.wanted_by(own))
