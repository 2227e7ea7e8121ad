# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Shares, a kernel and shared memory as arguments of QEMU, and read from them; the same in every style of drives. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import boot, definitions, devices, keyval, shares
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Boot, DrivesSpec, Share

#: of the object that is the VM's memory
_MEMORY_ID = "shared-memory"
#: an option with its value, or one word
Entry = t.Tuple[str, ...]
#: what names the share to the guest, and what its device is on
_TAG = {shares.NINE_P: ("mount_tag", "fsdev"), shares.VIRTIOFS: ("tag", "chardev")}
_STARTS = {"virtio-9p": shares.NINE_P, "vhost-user-fs": shares.VIRTIOFS}


def words(spec: DrivesSpec) -> t.List[str]:
    """All arguments that are not about drives."""
    found = memory(spec.shared_memory) if spec.shared_memory else []
    for share in spec.shares:
        found += share_words(share)
    return found + boot_words(spec.boot)


def memory(size: int) -> t.List[str]:
    """The VM has so many bytes, which other processes can have too."""
    told = [("id", _MEMORY_ID), ("size", size), ("share", True)]
    return ["-object", "memory-backend-memfd," + keyval.join(told), "-machine", "memory-backend=" + _MEMORY_ID]


def boot_words(told: t.Optional[Boot]) -> t.List[str]:
    """Of a kernel of the host."""
    return [word for name, value in (boot.to_facts(told) if told else {}).items() for word in ("-" + name, value)]


def share_words(share: Share) -> t.List[str]:
    """What the host has of it, and the device."""
    name = share.frontend.id
    if share.driver == shares.NINE_P:
        backend = ["-fsdev", "local," + keyval.join([("id", name), ("path", share.source), *share.options])]
    else:
        backend = ["-chardev", "socket," + keyval.join([("id", name), ("path", share.source)])]
    pairs = list(keyval.flatten(device_told(share)))
    text = ",".join([keyval.escaped(pairs[0][1]), keyval.join(pairs[1:])])
    return [*backend, "-device", text]


def device_told(share: Share) -> t.Dict[str, t.Any]:
    """As C(device_add) takes it."""
    tag, backend = _TAG[share.driver]
    told = definitions.device_told(share.frontend)
    first = {"driver": told.pop("driver"), "id": told.pop("id"), backend: share.frontend.id, tag: share.tag}
    return dict(first, **told)


class Taken(t.NamedTuple):
    """C(rest): what is about something else, in its order."""

    shares: t.Tuple[Share, ...]
    boot: t.Optional[Boot]
    shared_memory: int
    rest: t.List[Entry]


def taken(entries: t.Sequence[Entry]) -> Taken:
    """What was left of a command line when its drives were read. What is written otherwise than we do stays in the rest, with
    what belongs to it. Raises ValueError (a sentence).
    """
    return _Reader(entries).taken()


class _Reader:
    def __init__(self, entries: t.Sequence[Entry]) -> None:
        self._entries: t.List[t.Optional[Entry]] = list(entries)
        self._boot: t.Dict[str, str] = {}

    def _named(self, *names: str) -> t.Iterator[t.Tuple[int, str]]:
        for number, entry in enumerate(self._entries):
            if entry is not None and len(entry) == 2 and entry[0].lstrip("-") in names:
                yield number, entry[1]

    def _drop(self, *numbers: int) -> None:
        for number in numbers:
            self._entries[number] = None

    def taken(self) -> Taken:
        found = self._virtfs() + self._shares()
        memory = self._memory()
        self._take_boot()
        told = Boot(**self._boot) if self._boot else None
        rest = [entry for entry in self._entries if entry is not None]
        return Taken(tuple(share for _number, share in sorted(found, key=lambda each: each[0])), told, memory, rest)

    def _take_boot(self) -> None:
        """The last of each counts, as for QEMU."""
        for number, entry in enumerate(self._entries):
            name = entry[0].lstrip("-") if entry is not None and len(entry) == 2 else ""
            if entry is not None and name in boot.NAMES:
                self._boot[name] = entry[1]
                self._drop(number)
            elif entry is not None and name in ("machine", "M"):
                self._entries[number] = self._without(entry, boot.NAMES)

    def _without(self, entry: Entry, names: t.Collection[str]) -> t.Optional[Entry]:
        """Options of the machine, without those that say the same as an option of QEMU does."""
        pairs = keyval.split(entry[1], "type")
        self._boot.update((key, value) for key, value in pairs if key in names and key in boot.NAMES)
        rest = [pair for pair in pairs if pair[0] not in names]
        if len(rest) == len(pairs):
            return entry
        return (entry[0], keyval.join(rest)) if rest else None

    def _memory(self) -> int:
        """Only where the VM's memory is nothing else than so many bytes, shared."""
        named = [
            value
            for _number, text in self._named("machine", "M")
            for key, value in keyval.split(text, "type")
            if key == "memory-backend"
        ]
        for number, text in self._named("object"):
            told = {key: str(value) for key, value in keyval.mapping(text, "qom-type").items()}
            kind, name, size = told.pop("qom-type", ""), told.pop("id", ""), told.pop("size", "")
            if kind == "memory-backend-memfd" and named[-1:] == [name] and told in ({"share": "on"}, {"share": "True"}):
                self._drop(number)
                for at, _text in list(self._named("machine", "M")):
                    self._entries[at] = self._without(t.cast(Entry, self._entries[at]), ("memory-backend",))
                return boot.memory_from_task(size)
        return 0

    def _shares(self) -> t.List[t.Tuple[int, Share]]:
        backends = {shares.NINE_P: self._fsdevs(), shares.VIRTIOFS: self._sockets()}
        found = []
        for number, text in self._named("device"):
            told = dict(keyval.flatten(keyval.mapping(text, "driver")))
            name = devices.full_name(str(told.pop("driver", "")))
            driver = next((each for start, each in _STARTS.items() if name.startswith(start)), "")
            if not driver:
                continue
            tag, backend = _TAG[driver]
            place = backends[driver].pop(str(told.get(backend)), None)
            if place is not None and told.get(tag):
                told.setdefault("id", told.pop(backend))
                told.pop(backend, None)
                told_tag = str(told.pop(tag))
                found.append((number, Share(told_tag, driver, place[1], devices.from_properties(name, told), place[2])))
                self._drop(number, place[0])
        return found

    def _fsdevs(self) -> t.Dict[str, t.Tuple[int, str, t.Any]]:
        read = ((number, _fsdev(text)) for number, text in self._named("fsdev"))
        return {told["id"]: (number, told["path"], _options(told)) for number, told in read if "id" in told}

    def _sockets(self) -> t.Dict[str, t.Tuple[int, str, t.Any]]:
        found = {}
        for number, text in self._named("chardev"):
            told = dict(keyval.split(text, "backend"))
            if told.get("backend") == "socket" and set(told) == {"backend", "id", "path"}:
                found[told["id"]] = (number, told["path"], ())
        return found

    def _virtfs(self) -> t.List[t.Tuple[int, Share]]:
        """The short form, with the device in it."""
        found = []
        for number, text in list(self._named("virtfs")):
            told = _fsdev(text)
            tag = told.pop("mount_tag", "")
            if told and tag:
                frontend = devices.from_properties(shares.DEVICES[shares.NINE_P], {"id": told.get("id", tag)})
                found.append((number, Share(tag, shares.NINE_P, told["path"], frontend, _options(told))))
                self._drop(number)
        return found


def _fsdev(text: str) -> t.Dict[str, str]:
    """The options of a directory of the host; none where it is something else, or has more options than we know."""
    told = dict(keyval.split(text, "fsdriver"))
    known = {"id", "path", "mount_tag", *shares.OF_FSDEV.values()}
    if told.pop("fsdriver", "") != "local" or set(told) - known or "path" not in told:
        return {}
    return told


def _options(told: t.Mapping[str, str]) -> t.Any:
    """Without C(multidevs), QEMU warns."""
    options: t.Dict[str, t.Any] = {"multidevs": "warn"}
    options.update((key, value) for key, value in told.items() if key in shares.OF_FSDEV.values())
    options["readonly"] = options.get("readonly") in ("on", "yes", "true", "y")
    return shares.fsdev_options(options)
