# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Looks, before anything is changed, at who uses the files of an image and who builds on it. Read-only."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item, Patience, not_begun
from ansible_collections.platter.qemu.plugins.module_utils._inspect import (
    block_use,
    holders,
    vm_images,
    waiting,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    claimed,
    clones,
    family,
    layer_actions,
    led,
    places,
    refuse,
    refuse_running,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

Held = t.Dict[str, t.List[holders.Holder]]


def guard(items: t.Sequence[Item], patience: t.Optional[Patience], runner: process.Runner, qemu_img: QemuImg) -> bool:
    """Turn plans that would touch what others use or build on into refusals (or skips). True when it has waited."""
    planned = [item for item in items if item.plan]
    places.guard_places(planned)
    planned = [item for item in planned if not item.refusal]
    named = vm_images.named_for([item for item in planned if harms(item)])
    planned = [item for item in planned if not item.refusal]
    _guard_built_on(planned, named, nearby=True)
    led.guard_headers(planned)
    _guard_memory([item for item in planned if not item.refusal])
    waited = _wait([item for item in planned if not item.refusal], patience)
    for item in planned:
        if not item.refusal and item.plan and item.reading.live is None:
            item.refusal = _secret_refusal(item, runner) or (None if waited else _compared_refusal(item, qemu_img))
    for item in planned:
        if not item.refusal and item.plan and item.reading.to_end is not None:
            item.refusal = refuse_running.guest_running(item.spec, item.before.point(item.spec.name))
    return waited


def _wait(items: t.Sequence[Item], patience: t.Optional[Patience]) -> bool:
    """For others that have the images; not for those of VMs that have to end first, to which nothing is done in this run."""
    waiting.wait_until_free([item for item in items if item.reading.to_end is not None], None, _held, _in_use)
    return waiting.wait_until_free([item for item in items if item.reading.to_end is None], patience, _held, _in_use)


def _compared_refusal(item: Item, qemu_img: QemuImg) -> t.Optional[errors.EngineError]:
    """What is only right if two files show the same, after a run and a VM ended in the middle of a merge."""
    if not any(getattr(action, "compared", False) for action in item.plan):
        return None
    from ansible_collections.platter.qemu.plugins.module_utils._snapshot import compared

    return compared.refusal(item, qemu_img)


def _secret_refusal(item: Item, run_command: process.RunCommand) -> t.Optional[errors.EngineError]:
    """An image that qemu-img is to change must open: no secret, and a wrong one, are told before anything is done."""
    header, path = item.reading.header, item.before.active
    if header is None or not header.has_luks:
        return None
    from ansible_collections.platter.qemu.plugins.module_utils._inspect import luks_secret

    file = files.local_node(files.file_facts(path, follow=False))
    try:
        problem = luks_secret.secret_problem(run_command, header, file, item.spec.secrets)
    except errors.EngineError as exc:
        return not_begun(exc)
    return refuse.refused(item.spec, *problem) if problem else None


def harms(item: Item) -> bool:
    """Whether others could be harmed: an overlay that is put on the disk harms nobody."""
    return not item.spec.external or any(clones.harmed(action) for action in item.plan)


def guard_again(items: t.Sequence[Item], named: t.Sequence[vm_images.Named]) -> None:
    """As VMs may have been defined since. Each step on layers looks itself for what has been put on them nearby."""
    _guard_built_on(items, named, nearby=False)


def _guard_built_on(items: t.Sequence[Item], named: t.Sequence[vm_images.Named], *, nearby: bool) -> None:
    """Refuse what would change or take away what other images are built on, or what VMs are defined with (C(named))."""
    images = vm_images.images_of(named)
    _guard_bases([item for item in items if not item.spec.external], images)
    _guard_layers([item for item in items if item.spec.external], images, nearby=nearby)
    claimed.guard([item for item in items if not item.refusal], named)
    claimed.guard_bases([item for item in items if not item.refusal], named)


def _guard_bases(items: t.Sequence[Item], images: t.Sequence[str]) -> None:
    """An internal snapshot is written into the image: not while others are built on it. Layers know their own."""
    found = _as_far_as_seen(items, lambda some: vm_images.overlays_of(some, _active, images))
    for item in items:
        overlays = found.get(item.before.active)
        if overlays and not item.refusal:
            item.refusal = refuse.refused(
                item.spec,
                "has_overlays",
                "%d other images have it as their backing file: %s" % (len(overlays), ", ".join(overlays[:5])),
                "Take an external snapshot of the overlay instead; or rebase or flatten those first.",
                {"overlays": overlays},
            )


def _active(item: Item) -> str:
    return str(item.before.active)


def _as_far_as_seen(
    items: t.Sequence[Item], find: t.Callable[[t.Sequence[Item]], t.Dict[str, t.List[str]]]
) -> t.Dict[str, t.List[str]]:
    """What C(find) tells of all of them, by path. Directories are looked through once; where one cannot be, only the
    items in it are refused.
    """
    try:
        return find(items)
    except errors.EngineError as exc:
        if len(items) > 1:
            return {path: on for item in items for path, on in _as_far_as_seen([item], find).items()}
        items[0].refusal = not_begun(exc)
        return {}


def _guard_layers(items: t.Sequence[Item], images: t.Sequence[str], *, nearby: bool) -> None:
    """What is built on a layer that is changed or goes, and does not count as a child of it, as it is behind a link."""
    harmed = {item.name: {path for action in item.plan for path in clones.harmed(action)} for item in items}
    items = [item for item in items if harmed[item.name]]

    def find_clones(some: t.Sequence[Item]) -> t.Dict[str, t.List[str]]:
        paths = sorted({path for item in some for path in harmed[item.name]})
        return clones.find_clones(paths, [(item.spec, item.reading) for item in some], images, nearby=nearby)

    found = _as_far_as_seen(items, find_clones)
    for item in items:
        path = next((path for path in sorted(harmed[item.name]) if found.get(path)), None)
        if path and not item.refusal:
            item.refusal = clones.has_overlays(item.spec, path, found[path])


def _guard_memory(items: t.Sequence[Item]) -> None:
    """The memory of a VM fits all of its disks at that moment, or none."""
    machines: t.Dict[str, t.List[Item]] = {}
    for item in items:
        if item.reading.live is not None and any(getattr(action, "memory", False) for action in item.plan):
            machines.setdefault(item.reading.live.socket, []).append(item)
    for group in machines.values():
        refusal = _memory_refusal(group)
        for item in group if refusal else ():
            item.refusal = refusal


def _memory_refusal(group: t.Sequence[Item]) -> t.Optional[errors.EngineError]:
    spec, live = group[0].spec, group[0].reading.live
    listed = {block_use.identity_of(item.reading.live.active) for item in group}
    missing = sorted(path for path, _node in live.disks if block_use.identity_of(path) not in listed)
    if missing or len({item.spec.name for item in group}) > 1:
        fact = "its VM writes to other disks too, which would not fit the memory: %s" % ", ".join(missing)
        return refuse.refused(
            spec,
            "disks_missing",
            fact if missing else "the disks of one VM are to be sent to different snapshots",
            "List all disks of the VM that can be written to, for the same snapshot.",
            {"disks": [path for path, _node in live.disks], "missing": missing},
        )
    if spec.state == "reverted" and not any(_has_memory(item) for item in group):
        fact = "its VM runs, and snapshot %s was taken without its memory" % spec.name
        return refuse.refused(spec, "guest_running", fact, "Stop the VM first.", {"qmp_socket": spec.qmp_socket})
    return None


def _has_memory(item: Item) -> bool:
    point = item.before.point(item.spec.name)
    return bool(point and point.vm_state_size)


def _held(items: t.Sequence[Item]) -> Held:
    """Who has what an item's plan touches; the QEMU that it goes through excepted."""
    touched = {item.name: sorted(_touched(item)) for item in items}
    below = {item.name: sorted(_below(item) - set(touched[item.name])) for item in items}
    found = holders.find_holders(
        sorted({path for some in (touched, below) for paths in some.values() for path in paths})
    )
    return {
        item.name: [
            *(h for path in touched[item.name] for h in found[path] if not _is_own(item, h)),
            *(h for path in below[item.name] for h in found[path] if h.writes and not _is_own(item, h)),
        ]
        for item in items
    }


def _below(item: Item) -> t.Set[str]:
    """The layers under the active one: who writes to one of them was started from the wrong file, and is that disk too."""
    moves = (layer_actions.AddOverlay, layer_actions.SwitchLink, layer_actions.RevertOverlay)
    layers = item.reading.layers
    if item.before.active not in layers or not any(isinstance(action, moves) for action in item.plan):
        return set()
    return set(family.down_from(layers, item.before.active))


def _touched(item: Item) -> t.Set[str]:
    paths: t.Set[str] = set()
    for action in item.plan:
        paths.update(action.writes)
        if isinstance(action, layer_actions.AddOverlay):  # what is frozen must not be written to by anybody
            paths.add(action.active)
        if isinstance(action, layer_actions.AcceptPoint):
            paths.add(str(action.point.path))
    return paths


def _is_own(item: Item, holder: holders.Holder) -> bool:
    live = item.reading.live or item.reading.to_end
    return live is not None and (holder.pid in live.pids or holder.kind == "qemu_lock")


def _in_use(item: Item, text: str, evidence: t.Mapping[str, t.Any]) -> errors.EngineError:
    socket = item.spec.qmp_socket
    behind = ", which is not behind %s" % socket if socket else ""
    return refuse_running.in_use(item.spec, "it is in use by %s%s" % (text, behind), evidence)
