# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Looks, before a server is started, at who uses its image and who builds on it. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._export import actions, certificates, difference, refuse
from ansible_collections.platter.qemu.plugins.module_utils._inspect import (
    holders,
    leading,
    luks_secret,
    vm_images,
    waiting,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, walk


def guard(items: t.Sequence[Item], run: process.RunCommand) -> None:
    """Turn plans that would start a server on an image in use, or with a wrong secret, into refusals."""
    starting = [item for item in items if any(isinstance(action, actions.StartServer) for action in item.plan)]
    if not starting:
        return
    _guard_daemons(starting)
    _guard_each_other(items, starting)
    _guard_led(starting)
    _guard_opened_again(starting)
    _guard_certificates(run, starting)
    _guard_users(items, starting)
    _guard_bases([item for item in starting if item.spec.writes and not item.refusal])
    _guard_secrets(run, [item for item in starting if item.spec.encryption and not item.refusal])


def _guard_users(items: t.Sequence[Item], starting: t.Sequence[Item]) -> None:
    stopping = {pid for item in items for pid in _stopped_by(item)}

    def look() -> waiting.Held:
        found = holders.find_holders(sorted({item.reading.target for item in starting}))
        return {i.name: [u for u in found[i.reading.target] if _disturbs(i, u, stopping)] for i in starting}

    found = waiting.lasting(look)
    for item in starting:
        if found[item.name] and not item.refusal:
            item.refusal = _in_use(item, found[item.name])


def _guard_daemons(starting: t.Sequence[Item]) -> None:
    """A storage daemon that is started anew ends the connections to all of its exports: all of them have to agree."""
    ending: t.Dict[str, t.List[Item]] = {}
    for item in starting:
        wanted = item.after.definition.host if item.after.definition else None
        if item.reading.host.clients and item.reading.host.is_another(wanted):
            ending.setdefault(str(item.spec.daemon), []).append(item)
    for daemon, items in ending.items():
        if not all(item.spec.allow_disconnect for item in items):
            for item in items:
                changes = difference.changes(item.before.definition, item.after.definition)
                item.refusal = refuse.daemon_busy(item.spec, daemon, item.reading.host.clients, changes)


def _guard_certificates(run: process.RunCommand, items: t.Sequence[Item]) -> None:
    """A server that is started anew does not start with certificates that have ended since."""
    directories = {item.spec.tls.x509_dir for item in items if item.spec.tls and not item.refusal}
    problems = {each: certificates.problem(run, each) for each in directories if each}
    for item in items:
        problem = problems.get(item.spec.tls.x509_dir) if item.spec.tls and not item.refusal else None
        if problem:
            reason, fact, way_out = problem
            item.refusal = refuse.refused(item.spec, reason, fact, way_out, {"directory": item.spec.tls.x509_dir})


def _guard_secrets(run: process.RunCommand, items: t.Sequence[Item]) -> None:
    """A server that is given a wrong one would not start, after what served it before has ended."""
    for item in items:
        file = {"driver": "host_device" if item.reading.kind == "block" else "file", "filename": item.reading.target}
        secrets = [("sec0", item.spec.encryption.secret_file)]
        try:
            problem = luks_secret.secret_problem(run, item.reading.header, file, secrets)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)
            continue
        if problem:
            item.refusal = refuse.refused(item.spec, *problem)


def _guard_led(items: t.Sequence[Item]) -> None:
    """Who can write to an image chooses what root's server reads with it, and shows its clients: only what that user
    could open too.
    """
    if os.geteuid() != 0:  # an ordinary user's server can do no more than that user
        return
    for item in (item for item in items if item.reading.header is not None and not item.refusal):
        try:
            item.refusal = _refusal_of_leading(item)
        except errors.EngineError as exc:
            item.refusal = not_begun(exc)


def _guard_opened_again(items: t.Sequence[Item]) -> None:
    """nbdkit opens the image by its name for each client: nobody may put another file there meanwhile."""
    for item in items:
        mover = walk.unsafe_mover(os.path.dirname(item.reading.target)) if _server(item) == "nbdkit" else None
        if mover and not item.refusal:
            fact = "nbdkit opens %s anew for each client, and others can put another file there (%s, mode %04o)"
            item.refusal = refuse.refused(
                item.spec,
                "unsafe_directory",
                fact % (item.spec.image, mover.directory, mover.mode),
                "Set server: qemu_nbd, which opens it once; or keep it where only root can move files.",
                {"directory": mover.directory, "owner": mover.owner},
            )


def _server(item: Item) -> str:
    return str(item.after.definition.options.get("server", "")) if item.after.definition else ""


def _refusal_of_leading(item: Item) -> t.Optional[errors.RefusedError]:
    target = item.reading.target
    closed = leading.first_closed(target, item.reading.header, writes=item.spec.writes)
    if not closed:
        return None
    fact = closed.fact(target, item.spec.image)
    return refuse.refused(item.spec, "image_references_file", fact, closed.way_out, closed.evidence)


def _stopped_by(item: Item) -> t.Iterable[int]:
    """The processes that will have gone when servers are started."""
    stops = any(isinstance(action, actions.StopServer) for action in item.plan)
    return (*item.reading.pids, *item.reading.supervisors) if stops and not item.refusal else ()


def _disturbs(item: Item, holder: holders.Holder, stopping: t.AbstractSet[int]) -> bool:
    """Readers do not disturb a reader. QEMU's lock alone, with no process that has it, is somebody out of sight."""
    if holder.pid in stopping or (holder.kind == "qemu_lock" and stopping):
        return False
    return item.spec.writes or holder.writes is not False


def _guard_each_other(items: t.Sequence[Item], starting: t.Sequence[Item]) -> None:
    """Two exports of one image, one of which is written to, would not know of each other's writes."""
    users: t.Dict[str, t.List[Item]] = {}
    for item in items:
        if item.spec.state == "present" and not item.refusal:
            users.setdefault(item.reading.target, []).append(item)
    for item in starting:
        others = [each for each in users.get(item.reading.target, ()) if each is not item]
        clash = next((each for each in others if each.spec.writes or item.spec.writes), None)
        if clash:
            fact = "%s is exported read-write, and there is export %s of it too" % (item.spec.image, clash.name)
            item.refusal = refuse.refused(item.spec, "image_in_use", fact, "Export it once, or read-only.")


def _in_use(item: Item, using: t.Sequence[holders.Holder]) -> errors.EngineError:
    text = ", ".join(str(holder) for holder in using[:5])
    return refuse.refused(
        item.spec,
        "image_in_use",
        "%s is in use by %s" % (item.spec.image, text),
        "Stop what uses it." if not item.spec.writes else "Stop what uses it, or set read_only: true.",
        {"in_use_by": [holder.to_facts() for holder in using]},
    )


def _guard_bases(items: t.Sequence[Item]) -> None:
    """What is written into a base would damage what is built on it."""
    found, claims = vm_images.built_on(items)
    for item in (each for each in items if not each.refusal):
        overlays, below = found[item.reading.target], claims.below(item.reading.target, ())
        if overlays:
            item.refusal = _has_overlays(item, overlays)
        elif below:
            based = vm_images.based(item.spec.image, below, "; or set read_only: true")
            item.refusal = refuse.refused(item.spec, *based)


def _has_overlays(item: Item, overlays: t.Sequence[str]) -> errors.RefusedError:
    named = ", ".join(overlays[:5])
    return refuse.refused(
        item.spec,
        "has_overlays",
        "%d other images have %s as their backing file: %s" % (len(overlays), item.spec.image, named),
        "Export an overlay instead, or set read_only: true.",
        {"overlays": overlays},
    )
