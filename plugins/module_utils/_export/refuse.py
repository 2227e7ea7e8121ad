# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals that a plan for an export can come to, each with its evidence and one way out. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, words
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._export import difference, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition, ExportReading, ExportState
from ansible_collections.platter.qemu.plugins.module_utils._formats import soundness

Evidence = t.Optional[t.Mapping[str, t.Any]]
#: on Debian and Ubuntu; on Fedora and RHEL
_PACKAGES = {
    "qemu-nbd": "qemu-utils, or qemu-img",
    "nbdkit": "nbdkit",
    "qemu-storage-daemon": "qemu-system-common, or qemu-img",
}


def refused(spec: ExportSpec, reason: str, fact: str, way_out: str, evidence: Evidence = None) -> errors.RefusedError:
    """A refusal of what C(spec) asks."""
    return errors.refused_state("export", spec.state, spec.name, reason, fact, way_out, evidence)


def busy(
    spec: ExportSpec, state: ExportState, reading: ExportReading, wanted: t.Optional[Definition] = None
) -> errors.RefusedError:
    """Clients are connected, and the server would end; with C(wanted), to be started anew."""
    named = ", ".join(str(client) for client in reading.clients[:5])
    verb = "uses" if len(reading.clients) == 1 else "use"
    fact = "%s %s it and would be cut off: %s; %s"
    fact %= (words.counted(len(reading.clients), "client"), verb, named, may_lose(state))
    evidence: t.Dict[str, t.Any] = {"clients": [client.to_facts() for client in reading.clients]}
    if wanted is not None:
        fact = "%s; %s" % (difference.why_started(state, wanted, spec.where), fact)
        evidence["changes"] = difference.evidence(difference.changes(state.definition, wanted))
    return refused(spec, "export_busy", fact, "Disconnect them first, or set allow_disconnect: true.", evidence)


def may_lose(state: ExportState) -> str:
    """What the end of the server costs its clients. It is asked to end, and writes out what it holds before it does."""
    if state.definition is not None and state.definition.options.get("cow"):
        return "what they have written is not kept"
    if state.definition is not None and not state.definition.writes:
        return "what they are reading fails, and nothing can be lost"
    return "writes that were not acknowledged yet may be lost, acknowledged ones are written out first"


def unresponsive(spec: ExportSpec) -> errors.RefusedError:
    """A server that takes connections and says nothing."""
    return refused(
        spec,
        "export_unresponsive",
        "its server runs, but does not answer on %s" % spec.where,
        "Look at the server (is it stopped, or does its disk hang?); end it with state: absent, or let it go on.",
    )


def refuse_foreign_unit(spec: ExportSpec, state: ExportState) -> None:
    """A unit of that name that somebody else has written."""
    path = unit.unit_file(spec.name)
    if state.definition is not None and state.definition.options.get("unreadable") == path:
        fact = "%s is a unit that this module has not written" % path
        raise refused(spec, "unit_foreign", fact, "Name the export otherwise, or move that unit away.", {"unit": path})


def refuse_bad_unit(spec: ExportSpec, state: ExportState, reading: ExportReading, wanted: Definition) -> None:
    """The unit must be ours to write, and systemd willing to run it."""
    refuse_foreign_unit(spec, state)
    if wanted.options["supervisor"] == "systemd" and reading.unit.load == "masked":
        name = unit.unit_name(":" + wanted.daemon if wanted.daemon else spec.name)
        fact = "its unit %s is masked: somebody does not want it to run" % name
        raise refused(spec, "unit_masked", fact, "Unmask it (systemctl unmask %s)." % name, {"unit": name})


def server_cannot(spec: ExportSpec, problem: str, able: t.Sequence[str]) -> errors.RefusedError:
    """C(able): the servers that can do what is asked."""
    can = "Set server: %s, which can." % " or ".join(able) if able else "Leave out what none of them can do."
    return refused(spec, "server_cannot", problem, can, {"servers": list(able)})


def no_server(spec: ExportSpec, programs: t.Sequence[str]) -> errors.RefusedError:
    """None of C(programs), by which it could be served, is installed."""
    ways = " or ".join("%s: %s" % (name, _PACKAGES[name]) for name in programs)
    verb = "is" if len(programs) == 1 else "are"
    fact = "%s %s not installed" % (" and ".join(programs), verb)
    return refused(spec, "tool_missing", fact, "Install it (%s)." % ways, {"programs": list(programs)})


def refuse_other_daemon(spec: ExportSpec, reading: ExportReading, wanted: Definition) -> None:
    """All exports of a storage daemon are at one place, for the same clients."""
    if reading.host.others and reading.host.is_another(wanted.host):
        raise daemon_differs(spec, wanted.daemon, reading.host.others)


def daemon_busy(
    spec: ExportSpec, daemon: str, clients: t.Sequence[t.Any], changes: difference.Changes
) -> errors.RefusedError:
    """A storage daemon would be started anew, which ends the connections to all of its exports."""
    named = ", ".join(str(client) for client in clients[:5])
    fact = "storage daemon %s would be started anew for it: %s, and %s would be cut off: %s"
    return refused(
        spec,
        "export_busy",
        fact % (daemon, difference.why_anew(changes), words.counted(len(clients), "client"), named),
        "Disconnect them first, or set allow_disconnect: true for all of its exports.",
        {
            "daemon": daemon,
            "clients": [client.to_facts() for client in clients],
            "changes": difference.evidence(changes),
        },
    )


def daemon_differs(spec: ExportSpec, daemon: str, others: t.Sequence[str]) -> errors.RefusedError:
    """C(others): exports that the daemon serves at another place, or for others."""
    named = ", ".join(others[:5])
    return refused(
        spec,
        "daemon_differs",
        "storage daemon %s serves %s otherwise (socket, bind, port, tls, shared and supervisor are those of all)"
        % (daemon, named),
        "Set these as there; or name another daemon; or list these exports too.",
        {"daemon": daemon, "exports": list(others)},
    )


def used_in_daemon(
    spec: ExportSpec, daemon: str, clients: t.Sequence[t.Any], changes: difference.Changes
) -> errors.RefusedError:
    """The daemon says that somebody uses the export, and the kernel who is connected to the daemon."""
    named = ", ".join(str(client) for client in clients[:5]) or "one that is not seen from here"
    fact = "a client of storage daemon %s uses it and would be cut off (connected: %s)" % (daemon, named)
    evidence: t.Dict[str, t.Any] = {"clients": [client.to_facts() for client in clients]}
    if changes:
        fact = "%s; %s" % (difference.why_anew(changes), fact)
        evidence["changes"] = difference.evidence(changes)
    return refused(spec, "export_busy", fact, "Disconnect it first, or set allow_disconnect: true.", evidence)


def silent_daemon(spec: ExportSpec, daemon: str, pids: t.Sequence[int]) -> errors.RefusedError:
    """A storage daemon that does not say what it has."""
    fact = "storage daemon %s (process %s) runs, but does not answer" % (daemon, ", ".join(map(str, pids)))
    way_out = "Look at it (is it stopped, or does a disk hang?); end it, or let it go on."
    return refused(spec, "export_unresponsive", fact, way_out, {"pids": list(pids)})


def no_systemd(spec: ExportSpec, root: bool) -> errors.RefusedError:
    """Asked for, and not there, or not ours to use."""
    fact = "systemd does not run on this host" if root else "units of systemd are root's to write"
    return refused(spec, "supervisor_missing", fact, "Leave supervisor out, or set supervisor: process.")


def refuse_bad_place(spec: ExportSpec, reading: ExportReading) -> None:
    """The socket must be ours to make."""
    if reading.foreign_export:
        raise _taken_by_export(spec, reading.foreign_export)
    if reading.foreign_listener:
        way_out = "Stop it, or set socket to another path." if spec.bind is None else "Stop it, or set another port."
        fact = "another program listens on %s" % spec.where
        raise refused(spec, "socket_in_use", fact, way_out, {"place": spec.where})
    if reading.socket_problem:
        reason, fact, way_out = reading.socket_problem
        raise refused(spec, reason, fact, way_out, {"place": spec.where})


def _taken_by_export(spec: ExportSpec, other: str) -> errors.RefusedError:
    """As where one that has a server of its own moves into a storage daemon: its place is free when that server has ended."""
    whose = "storage daemon %s" % other[1:] if other.startswith(":") else "export %s" % other
    way_out = "Remove %s first (state: absent, in a task before this one), or set another %s."
    what = "its exports" if other.startswith(":") else "that export"
    return refused(
        spec,
        "socket_in_use",
        "%s is served on %s" % (whose, spec.where),
        way_out % (what, "socket" if spec.bind is None else "port"),
        {"place": spec.where, "export": other.lstrip(":")},
    )


def refuse_bad_secret(spec: ExportSpec, reading: ExportReading) -> None:
    """The server reads it when it starts, and nobody else may."""
    if reading.secret_problem:
        reason, fact, way_out = reading.secret_problem
        raise refused(spec, reason, fact, way_out, {"image": spec.image})


def refuse_bad_image(spec: ExportSpec, reading: ExportReading) -> None:
    """The image must be there, be what it is declared to be, be whole, and have what is to be served of it."""
    if reading.kind == "absent":
        raise refused(
            spec,
            "image_missing",
            "its image %s does not exist" % spec.image,
            "Make it first (disk_image), or correct image. What an earlier task of a run in check mode would make is not there.",
            {"image": spec.image},
        )
    if reading.kind not in ("file", "block"):
        raise refused(
            spec, "not_a_file", "%s is a %s" % (spec.image, reading.kind), "Name an image.", {"kind": reading.kind}
        )
    if reading.header is None:
        looks = ", but of %s" % ", ".join(reading.detected) if reading.detected else ""
        raise refused(
            spec,
            "format_mismatch",
            "the bytes of %s are not those of %s%s" % (spec.image, spec.format, looks),
            "Correct format.",
            {"asked": spec.format, "found": list(reading.detected)},
        )
    _refuse_unsound(spec, reading)
    _refuse_missing_parts(spec, reading)


def _refuse_unsound(spec: ExportSpec, reading: ExportReading) -> None:
    if reading.header is None:
        return
    header = reading.header
    _refuse_sealed(spec, header)
    # the server has its secret
    header = header._replace(encrypted=header.encrypted and not header.has_luks)
    trouble = soundness.trouble_of(header, kind=reading.kind, length=reading.length, called=str(spec.image))
    if trouble:
        raise refused(spec, trouble.reason, trouble.fact, trouble.way_out, {"image": spec.image})
    if reading.chain_problem:
        reason, sentence = reading.chain_problem
        raise refused(spec, reason, sentence, "Mend the backing chain first.", {"chain": sentence})


def _refuse_sealed(spec: ExportSpec, header: Header) -> None:
    """An image that takes a secret, and a secret that no image takes."""
    if header.has_luks and spec.encryption is None:
        fact = "its image is encrypted, and no secret is given"
        raise refused(spec, "secret_missing", fact, "Set encryption.secret_file.", {"image": spec.image})
    if spec.encryption and not header.has_luks:
        fact = "a secret is given, and its image is not encrypted with LUKS"
        raise refused(spec, "bad_option", fact, "Leave encryption out.", {"image": spec.image})


def _refuse_missing_parts(spec: ExportSpec, reading: ExportReading) -> None:
    header = reading.header
    if header is None:
        return
    points = [point.name for point in header.snapshots]
    if spec.snapshot is not None and points.count(spec.snapshot) != 1:
        fact = "%s has no snapshot, or more than one, of the name %s" % (spec.image, spec.snapshot)
        raise refused(spec, "snapshot_missing", fact, "Correct snapshot.", {"snapshots": points})
    bitmaps = {bitmap.name: bitmap for bitmap in header.bitmaps}
    missing = [name for name in spec.bitmaps if name not in bitmaps]
    if missing:
        fact = "%s has no bitmap %s" % (spec.image, ", ".join(missing))
        raise refused(spec, "bitmap_missing", fact, "Correct bitmaps.", {"bitmaps": sorted(bitmaps)})
    end = spec.offset + (spec.size or 1)
    if end > header.virtual_size:
        fact = "offset and size reach to byte %d of %s, which has %d" % (end, spec.image, header.virtual_size)
        raise refused(spec, "bad_size", fact, "Correct them.", {"virtual_size": header.virtual_size})
