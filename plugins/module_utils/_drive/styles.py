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
    contradictions,
    definitions,
    facts,
    keyval,
    nodes,
    parse_arguments,
    render_arguments,
    start_arguments,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Drive, DrivesSpec

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
        raise cannot(style, [str(exc)], ".") from exc
    refuse_loss(style, lost, lossy)
    return Rendered(words, lost)


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


def refuse_loss(style: str, lost: t.List[str], lossy: bool) -> None:
    """Raises SpecError unless it is agreed to, and can be."""
    if any(each.startswith(_NEVER_LOST) for each in lost):
        raise cannot(style, lost, ".")
    if lost and not lossy:
        raise cannot(style, lost, ", or set lossy to have it without.")


def cannot(style: str, lost: t.List[str], end: str) -> errors.SpecError:
    """A refusal of what a style has no words for."""
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
