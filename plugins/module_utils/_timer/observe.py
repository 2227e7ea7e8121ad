# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of a timer: its files, whether it waits, and what its last run did. Read-only."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import unit_text
from ansible_collections.platter.qemu.plugins.module_utils._service.state import Parts, ServiceState
from ansible_collections.platter.qemu.plugins.module_utils._timer import places, read_spec, unit
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import TimerSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import (
    own_places,
    own_programs,
    own_zipapp,
    process,
    systemd,
)


def wanted(spec: TimerSpec, built: bytes) -> Parts:
    """What it is to consist of. C(built): its program."""
    argv = [*own_programs.words(places.program_file(spec.name)), places.settings_file(spec.name)]
    service = unit.render_service(spec.name, argv)
    return Parts(spec.settings, own_zipapp.digest_of(built), (service, unit.render_timer(spec)))


def refuse_others(spec: TimerSpec) -> None:
    """Units of these names that somebody else has written, or does not want to run. Raises RefusedError."""
    for each in (unit.service_name(spec.name), unit.timer_name(spec.name)):
        path = unit_text.unit_file(each)
        if os.path.realpath(path) == os.devnull:
            fact = "its unit %s is masked: somebody does not want it to run" % each
            way_out = "Unmask it (systemctl unmask %s)." % each
            raise read_spec.refused_state(spec, "unit_masked", fact, way_out)
        ours = unit_text.head("snapshot_timer", each).encode()
        if os.path.lexists(path) and not own_places.read_bytes(path).startswith(ours):
            fact = "%s is a unit that this module has not written" % path
            raise read_spec.refused_state(spec, "unit_foreign", fact, "Choose another name, or move that unit away.")


def observe(name: str, run: process.RunCommand) -> ServiceState:
    """The state of one timer."""
    timer, service = unit.timer_name(name), unit.service_name(name)
    declared = [unit_text.unit_file(each) for each in (service, timer)]
    enabled = os.path.lexists(unit_text.wants_link(timer))
    if not any(map(os.path.lexists, [*declared, places.directory(name)])):
        return ServiceState(name, enabled=enabled)
    texts = [own_places.read_bytes(path).decode("utf-8", "replace") for path in (places.settings_file(name), *declared)]
    program = own_zipapp.digest_of(own_places.read_bytes(places.program_file(name)))
    told = systemd.show(run, [timer, service]) if systemd.runs() else {timer: {}}
    active = told[timer].get("ActiveState") == "active"
    unread = any(each.get("NeedDaemonReload") == "yes" for each in told.values())
    parts = Parts(texts[0], program, tuple(texts[1:]))
    return ServiceState(name, "systemd", parts, enabled, active, active and unread)


def run_failed(name: str, run: process.RunCommand) -> bool:
    """Whether systemd calls its last run failed: also one that could not begin, which has said nothing of itself."""
    service = unit.service_name(name)
    return systemd.show(run, [service])[service].get("ActiveState") == "failed"


def last_run(name: str) -> t.Optional[t.Dict[str, t.Any]]:
    """What it says of itself; None before the first."""
    with contextlib.suppress(ValueError):
        return (
            dict(json.loads(own_places.read_bytes(places.status_beside(places.settings_file(name))) or b"null") or {})
            or None
        )
    return None
