# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The styles that drives can be written in, and what each leaves out: found by reading back what was written. Pure."""

from __future__ import annotations

import shlex
import typing as t
from dataclasses import replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    block_options,
    contradictions,
    definitions,
    facts,
    keyval,
    nodes,
    parse_arguments,
    render_arguments,
    start_arguments,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec, Node, sorted_options

STYLES = ("hda", "drive", "drive_device", "blockdev", "qmp")
_WAY_OUT = {
    "hda": "Use style drive, drive_device or blockdev",
    "drive": "Use style drive_device or blockdev",
    "drive_device": "Use style blockdev",
    "blockdev": "Use style drive_device",
    "qmp": "Leave it out",
    "libvirt": "Leave it out",
}


class Rendered(t.NamedTuple):
    """C(words): arguments, or QMP commands. C(lost): what the style has no words for."""

    words: t.List[t.Any]
    lost: t.List[str]

    @property
    def line(self) -> str:
        """For a shell. Raises ValueError (a sentence) for QMP commands."""
        if not all(isinstance(word, str) for word in self.words):
            raise ValueError("QMP commands are no line")
        return " ".join(shlex.quote(word) for word in self.words)


def render(spec: DrivesSpec, style: str, *, form: str = "json", lossy: bool = False) -> Rendered:
    """The drives in a style. Raises SpecError for contradictions, and for what the style cannot say, unless C(lossy)."""
    for finding in contradictions.found(spec):
        if (finding.reason, style) != ("format_missing", "hda"):
            raise finding.error()
    try:
        words = _words(spec, style, form)
        lost = lost_in(spec, parse_arguments.parse(words, spec.machine).spec)
    except render_arguments.CannotSayError as exc:
        raise _cannot(style, [str(exc)], ".") from exc
    _refuse_loss(style, lost, lossy)
    return Rendered(words, lost)


def libvirt_disks(spec: DrivesSpec, *, lossy: bool = False, controllers: bool = False) -> t.List[str]:
    """A C(<disk>) for each drive, behind a C(<controller>) for each of theirs. Raises SpecError as C(render) does."""
    from ansible_collections.platter.qemu.plugins.module_utils._drive import libvirt

    contradictions.check(spec)
    spec = replace(spec, drives=tuple(_with_format(each) for each in spec.drives))
    taken: t.Set[str] = set()
    try:
        disks = [libvirt.text_of(libvirt.disk(each, spec, taken)) for each in spec.drives]
    except libvirt.NoWordsError as exc:
        raise _cannot("libvirt", [str(exc)], ".") from exc
    lost = lost_in(spec, read_libvirt("".join(disks), spec.machine)[0])
    _refuse_loss("libvirt", lost, lossy)
    found = [libvirt.controller(each) for each in spec.controllers if controllers]
    return [libvirt.text_of(each) for each in found if each is not None] + disks


def _with_format(drive: Drive) -> Drive:
    """libvirt has always a format: a protocol node alone is C(raw) to it, which is the same disk."""
    node = drive.backend
    if node is None or node.driver not in block_options.PROTOCOLS:
        return drive
    common = {key: value for key, value in node.options if key in block_options.COMMON}
    below = Node(node.driver, tuple(pair for pair in node.options if pair[0] not in common))
    return replace(drive, backend=Node("raw", sorted_options(common), (("file", below),), node.name))


def read_libvirt(text: str, machine: str = "") -> t.Tuple[DrivesSpec, t.List[str]]:
    """The drives of libvirt's XML, and notes. Raises ValueError (a sentence), SpecError.

    C(machine): its type, where the XML does not say it, as a C(<disk>) alone does not.
    """
    from ansible_collections.platter.qemu.plugins.module_utils._drive import libvirt_read, read_spec

    tasks, family, notes = libvirt_read.parse(text, machine)
    return read_spec.read(tasks, family), notes


def _words(spec: DrivesSpec, style: str, form: str) -> t.List[t.Any]:
    besides = start_arguments.words(spec)
    if style == "qmp" and besides:
        raise render_arguments.CannotSayError("shares, kernels and shared memory: a running QEMU takes none")
    return _drive_words(spec, style, form) + besides


def _drive_words(spec: DrivesSpec, style: str, form: str) -> t.List[t.Any]:
    if style == "hda":
        return render_arguments.hda(spec)
    if style == "drive":
        return render_arguments.drive(spec)
    if style == "drive_device":
        return render_arguments.drive_device(spec)
    words = render_arguments.blockdev(spec, form)
    if style == "blockdev":
        return words
    cold = definitions.cold(spec)
    if cold:
        raise render_arguments.CannotSayError("%s: a running QEMU takes no such device" % ", ".join(cold))
    return definitions.qmp(spec)


#: without these the guest could write where nothing is to be written
_NEVER_LOST = ("read_only=", "snapshot=")


def _refuse_loss(style: str, lost: t.List[str], lossy: bool) -> None:
    if any(each.startswith(_NEVER_LOST) for each in lost):
        raise _cannot(style, lost, ".")
    if lost and not lossy:
        raise _cannot(style, lost, ", or set lossy to have it without.")


def _cannot(style: str, lost: t.List[str], end: str) -> errors.SpecError:
    return errors.SpecError(
        "style",
        style,
        "it cannot say %s" % "; ".join(lost),
        reason="style_cannot",
        way_out=_WAY_OUT[style] + end,
        evidence={"lost": lost},
        joined="",
    )


def lost_in(asked: DrivesSpec, read: DrivesSpec) -> t.List[str]:
    """What of the first is not in the second, as sentences; drives with a device are told by their order, as ids can be
    lost too. A device whose id is its drive's loses nothing when it has none of its own: it is known by the drive's.
    """
    new = [each for each in read.drives if each.frontend is not None]
    old = [each for each in asked.drives if each.frontend is not None]
    lost = [sentence for before, after in zip(old, new) for sentence in _differing(before, asked, after, read)]
    lost += ["the drive %s" % each.id for each in old[len(new) :]]
    named = {node.name for node in read.all_nodes()} | {each.id for each in read.drives}
    lost += ["the drive %s" % each.id for each in asked.drives if each.frontend is None and each.id not in named]
    lost += ["the share %s" % each.tag for each in asked.shares if each not in read.shares]
    return lost + [name for name in ("boot", "shared_memory") if getattr(asked, name) != getattr(read, name)]


_NOTHING = object()


def _differing(old: Drive, asked: DrivesSpec, new: Drive, read: DrivesSpec) -> t.List[str]:
    """Nodes are the same whether they are described in others or named there; so what differs both ways counts."""
    found = []
    for inline in (False, True):
        before, after = _flat(old, asked, inline), _flat(new, read, inline)
        found.append(
            [
                "%s of %s" % (_shown(key, value), old.id)
                for key, value in before.items()
                if after.get(key, _NOTHING) != value
            ]
        )
    return min(found, key=len)


def _shown(key: str, value: t.Any) -> str:
    return "%s=%s" % (key, keyval.text_of(value) if value is not None else "null")


def _flat(drive: Drive, spec: DrivesSpec, inline: bool) -> t.Dict[str, t.Any]:
    if inline and drive.backend is not None:
        drive = replace(drive, backend=nodes.inlined(drive.backend))
    told = facts.of_drive(drive, spec)
    for name in ("id", "device_id"):
        told.pop(name, None)
    return dict(keyval.flatten(told))
