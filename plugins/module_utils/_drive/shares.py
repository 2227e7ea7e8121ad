# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Directories of the host that a guest mounts: as tasks describe them, as values, and what is wrong with them. Pure.

Names are those of C(-fsdev local), C(virtio-9p-pci) and C(vhost-user-fs-pci).
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import devices, finding
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Options, Share, sorted_options

Task = t.Dict[str, t.Any]
NINE_P, VIRTIOFS = "9p", "virtiofs"
#: what each driver calls the option with the place that it is on
SOURCES = {NINE_P: "path", VIRTIOFS: "socket"}
DEVICES = {NINE_P: "virtio-9p-pci", VIRTIOFS: "vhost-user-fs-pci"}
#: of C(-fsdev local): the task's name to QEMU's
OF_FSDEV = {
    "security_model": "security_model",
    "read_only": "readonly",
    "multidevs": "multidevs",
    "fmode": "fmode",
    "dmode": "dmode",
}
#: properties of the device that have names of their own
OF_DEVICE = ("bus", "addr")
ALL = ("tag", "id", "driver", "path", "socket", "device", "properties", *OF_FSDEV, *OF_DEVICE)
_CHOICES = {
    "security_model": ("mapped-xattr", "mapped-file", "passthrough", "none"),
    "multidevs": ("remap", "forbid", "warn"),
}
#: bytes of a tag: C(MAX_TAG_LEN) of hw/9pfs, and the field of the virtio-fs device
_TAG_LENGTHS = {NINE_P: 31, VIRTIOFS: 36}


def refused(tag: str, fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
    """A refusal of what is asked of a share."""
    return finding.Finding(tag, reason, fact, way_out, "share").error()


def from_task(told: t.Any) -> Share:
    """A share as a task, or C(to_facts), describes it. Raises SpecError."""
    if not isinstance(told, t.Mapping):
        raise refused("", "%r is no dictionary" % (told,), "Describe each share by its options.")
    tag, driver = str(told.get("tag") or ""), str(told.get("driver") or "")
    unknown = sorted(set(told) - set(ALL))
    if unknown:
        raise refused(tag, "%s is nothing that a share has" % unknown[0], "Leave it out.", "unknown_option")
    if driver not in SOURCES:
        raise refused(tag, "its driver is %r" % driver, "Write one of %s." % ", ".join(SOURCES))
    for name in ({"path", "socket", *OF_FSDEV} if driver == VIRTIOFS else {"socket"}) - {SOURCES[driver]}:
        if told.get(name) not in (None, False):
            raise refused(tag, "%s is nothing for %s" % (name, driver), _WAYS_OUT.get(name, "Leave it out."))
    try:
        return Share(
            tag, driver, str(told.get(SOURCES[driver]) or ""), _frontend(tag, driver, told), _fsdev(driver, told)
        )
    except ValueError as exc:
        raise refused(tag, str(exc), "Correct it.") from exc


_WAYS_OUT = {
    "path": "Set socket; which directory is shared, virtiofsd is told (--shared-dir).",
    "read_only": "Start its virtiofsd with --readonly, or with a directory that is mounted so.",
}


def _frontend(tag: str, driver: str, told: t.Mapping[str, t.Any]) -> t.Any:
    properties = dict(told.get("properties") or {}, id=told.get("id") or tag, bus=told.get("bus") or "")
    properties.update({"addr": told["addr"]} if told.get("addr") is not None else {})
    return devices.from_properties(str(told.get("device") or DEVICES[driver]), properties)


def _fsdev(driver: str, told: t.Mapping[str, t.Any]) -> Options:
    """What QEMU would take for C(multidevs) lets files of several file systems have one number."""
    if driver != NINE_P:
        return ()
    found = {qemu: told[name] for name, qemu in OF_FSDEV.items() if told.get(name) not in (None, False)}
    return fsdev_options(dict({"multidevs": "remap"}, **found))


def fsdev_options(found: t.Mapping[str, t.Any]) -> Options:
    """The options of a C(-fsdev local), by QEMU's names, in their one form."""
    found = {key: bool(value) if key == "readonly" else str(value) for key, value in found.items()}
    return sorted_options({key: value for key, value in found.items() if value is not False})


def to_facts(share: Share) -> Task:
    """As C(from_task) reads it."""
    facts: Task = {"tag": share.tag, "driver": share.driver, SOURCES[share.driver]: share.source}
    device = share.frontend
    facts.update({"id": device.id} if device.id != share.tag else {})
    facts.update({"device": device.device} if device.device != DEVICES[share.driver] else {})
    names = {qemu: name for name, qemu in OF_FSDEV.items()}
    facts.update((names[key], value) for key, value in share.options)
    facts.update({"bus": device.bus} if device.bus else {})
    properties = dict(device.properties)
    facts.update({"addr": properties.pop("addr")} if "addr" in properties else {})
    return dict(facts, properties=properties) if properties else facts


def found(shares: t.Sequence[Share]) -> t.Iterator[finding.Finding]:
    """What QEMU would not take, or would take and do something else with."""
    for number, share in enumerate(shares):
        if any(share.tag == each.tag for each in shares[:number]):
            yield _finding(share, "duplicate_name", "two shares have this tag", "Give each its own.")
        yield from _of_share(share)
        for name, value in share.options:
            if name in _CHOICES and value not in _CHOICES[name]:
                yield _finding(share, "bad_option", "%s is %r" % (name, value), _one_of(name))


def _finding(share: Share, reason: str, fact: str, way_out: str) -> finding.Finding:
    return finding.Finding(share.tag, reason, fact, way_out, "share")


def _one_of(name: str) -> str:
    return "Write one of %s." % ", ".join(_CHOICES[name])


def _of_share(share: Share) -> t.Iterator[finding.Finding]:
    name, longest = SOURCES[share.driver], _TAG_LENGTHS[share.driver]
    if not share.tag or len(share.tag.encode()) > longest:
        fact = "its tag has %d bytes, and the guest knows it by 1 to %d" % (len(share.tag.encode()), longest)
        yield _finding(share, "bad_name", fact, "Set another tag.")
    if not share.source.startswith("/") or "\0" in share.source:
        fact = "%s is %r, which is no absolute path" % (name, share.source)
        yield _finding(share, "bad_path", fact, "Set %s." % name)
    if share.driver == NINE_P:
        model = share.option("security_model")
        if model is None:
            fact = "security_model is not set, by which owners and modes are kept"
            yield _finding(share, "bad_option", fact, _one_of("security_model"))
        elif not str(model).startswith("mapped") and (share.option("fmode") or share.option("dmode")):
            fact = "fmode and dmode are those of files on the host, and with %s the guest chooses them" % model
            yield _finding(share, "bad_option", fact, "Leave them out, or set security_model: mapped-xattr.")
