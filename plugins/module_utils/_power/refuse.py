# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals that a plan for the process of a VM can come to, each with its evidence and one way out. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, unit_text, words
from ansible_collections.platter.qemu.plugins.module_utils._power import monitor, unit
from ansible_collections.platter.qemu.plugins.module_utils._power.definition import Declared
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.plugins.module_utils._power.state import PowerReading, PowerState

Evidence = t.Optional[t.Mapping[str, t.Any]]


def refused(spec: PowerSpec, reason: str, fact: str, way_out: str, evidence: Evidence = None) -> errors.RefusedError:
    """A refusal of what C(spec) asks."""
    return errors.refused_state("VM", spec.state, spec.vm, reason, fact, way_out, evidence)


def refuse_foreign(spec: PowerSpec, reading: PowerReading) -> None:
    """A VM of that name that somebody else has started."""
    if not reading.foreign:
        return
    fact = "a VM of this name runs (process %s) that this module has not started" % words.listed(reading.foreign, 5)
    sockets = sorted({path for each in reading.foreign_words for path in monitor.sockets(each)})
    asked = " (system_powerdown at %s)" % words.printable(words.listed(sockets, 5)) if sockets else " from within"
    pid = str(reading.foreign[0]) if len(reading.foreign) == 1 else "PID"
    way_out = "Have its guest power down%s, or let QEMU quit (kill %s), which is a cut of power to the guest; %s" % (
        asked,
        pid,
        "then run the task again." if spec.state == "started" else "then it is as asked.",
    )
    lines = [[words.printable(words.without_secrets(word)) for word in each] for each in reading.foreign_words]
    evidence = {"pids": list(reading.foreign), "command_lines": lines, "qmp_sockets": sockets}
    raise refused(spec, "already_running", fact, way_out, evidence)


def refuse_foreign_unit(spec: PowerSpec, state: PowerState) -> None:
    """A unit of that name that somebody else has written."""
    path = unit_text.unit_file(unit.unit_name(spec.vm))
    if state.declared is not None and state.declared.options.get("unreadable") == path:
        fact = "%s is a unit that this module has not written" % path
        raise refused(spec, "unit_foreign", fact, "Name the VM otherwise, or move that unit away.", {"unit": path})


def refuse_undefined(spec: PowerSpec, reading: PowerReading) -> None:
    """What is started is what C(qemu_drive) has defined."""
    if reading.defined_as not in ("", spec.vm):
        fact = "%s has the definition of VM %s" % (spec.config, reading.defined_as)
        raise refused(spec, "name_taken", fact, "Correct vm or config.", {"config": spec.config})
    if reading.defined:
        return
    fact, way_out = "%s has no definition of it" % spec.config, "Define it first (qemu_drive)."
    evidence = {"config": spec.config}
    if reading.elsewhere:
        fact, way_out = "%s; that is in %s" % (fact, reading.elsewhere), "Set config to that directory."
        evidence["elsewhere"] = reading.elsewhere
    raise refused(spec, "definition_missing", fact, way_out, evidence)


def refuse_altered(spec: PowerSpec, reading: PowerReading) -> None:
    """What would be started must be what is defined, and stay with what watches over it."""
    evidence = {"config": spec.config}
    if reading.altered:
        fact = "the program in %s that starts it is not as it was made of its definition" % spec.config
        raise refused(spec, "definition_altered", fact, "Run qemu_drive for it, which writes it anew.", evidence)
    if reading.unfit:
        raise refused(spec, "definition_unfit", reading.unfit, "Take that out of arguments (qemu_drive).", evidence)


def refuse_bad_place(spec: PowerSpec, reading: PowerReading) -> None:
    """The socket must be ours to make."""
    evidence = {"socket": spec.qmp_socket}
    if reading.socket_problem:
        reason, fact, way_out = reading.socket_problem
        raise refused(spec, reason, fact, way_out, evidence)
    if reading.socket_taken:
        fact = "another program listens on %s" % spec.qmp_socket
        raise refused(spec, "socket_in_use", fact, "Stop it, or set qmp_socket to another path.", evidence)


def refuse_masked(spec: PowerSpec, reading: PowerReading, wanted: Declared) -> None:
    """systemd must be willing to run it."""
    if wanted.supervisor == "systemd" and reading.load == "masked":
        name = unit.unit_name(spec.vm)
        fact = "its unit %s is masked: somebody does not want it to run" % name
        raise refused(spec, "unit_masked", fact, "Unmask it (systemctl unmask %s)." % name, {"unit": name})


def no_systemd(spec: PowerSpec, root: bool) -> errors.RefusedError:
    """Asked for, and not there, or not ours to use."""
    fact = "systemd does not run on this host" if root else "units of systemd are root's to write"
    return refused(spec, "supervisor_missing", fact, "Leave supervisor out, or set supervisor: process.")


def twice(spec: PowerSpec, fact: str) -> errors.RefusedError:
    """Two entries that are the same."""
    return refused(spec, "duplicate_item", fact, "List each VM once, each with a socket of its own.")
