# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The refusals that a plan can come to, each with its evidence and one way out. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import family, retention
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.state import (
    Layer,
    SnapshotReading,
    SnapshotState,
)

Evidence = t.Optional[t.Mapping[str, t.Any]]


def refused(spec: SnapshotSpec, reason: str, fact: str, way_out: str, evidence: Evidence = None) -> errors.RefusedError:
    """A refusal of what C(spec) asks."""
    what, joined = _asked(spec), "of"
    return errors.RefusedError(what, spec.image, fact, reason=reason, way_out=way_out, evidence=evidence, joined=joined)


_DOING = {
    "present": "taking snapshot %s",
    "absent": "removing snapshot %s",
    "reverted": "going back to snapshot %s",
    "committed": "merging snapshot %s (committed)",
    "streamed": "merging snapshot %s (streamed)",
}


def _asked(spec: SnapshotSpec) -> str:
    """What the task is about, in front of C(of IMAGE)."""
    if spec.state == "pruned":
        return "pruning the snapshots"
    return "changing the bitmaps" if spec.name is None else _DOING[spec.state] % spec.name


def refuse_bad_image(spec: SnapshotSpec, reading: SnapshotReading) -> None:
    """The image must be there, be what it is declared to be, and be whole."""
    if reading.kind == "absent":
        raise refused(spec, "image_missing", "it does not exist", "Make it first (disk_image), or correct image.")
    if reading.kind == "block" and spec.external:
        fact = "it is on a block device, which cannot remember that it is a snapshot, and whose directory is not for overlays"
        raise refused(spec, "is_device", fact, "Set kind: internal (qcow2 only); or import it to a file, and use that.")
    if reading.kind not in ("file", "block"):
        raise refused(spec, "not_a_file", "it is a %s" % reading.kind, "Name an image.", {"kind": reading.kind})
    header = reading.header
    if header is None:
        raise refused(
            spec,
            "format_mismatch",
            "its bytes are not those of %s%s"
            % (spec.format, ", but of %s" % ", ".join(reading.detected) if reading.detected else ""),
            "Set format to what it is.",
            {"asked": spec.format, "found": list(reading.detected)},
        )
    if reading.shortage:
        raise refused(spec, "image_damaged", reading.shortage, "Restore it from a copy.")
    if header.corrupt:
        raise refused(spec, "image_corrupt", "it is marked corrupt", "Repair it first (disk_image, repair: all).")
    if header.unknown_features:
        features = ", ".join(header.unknown_features)
        raise refused(
            spec, "unknown_features", "it uses features that are not known here: %s" % features, "Use a newer version."
        )
    if header.data_file and not spec.external:
        raise refused(
            spec, "data_file_unsupported", "QEMU keeps no snapshots of an image with a data file", "Set kind: external."
        )
    if reading.chain_problem:
        reason, sentence = reading.chain_problem
        raise refused(spec, reason, sentence, "Mend the backing chain first.", {"chain": sentence})


def refuse_encrypted(spec: SnapshotSpec, reading: SnapshotReading) -> None:
    """An overlay would take unencrypted what the guest writes; and QEMU's old AES is not worked on here."""
    header = reading.header
    if header is None or not header.encrypted:
        return
    evidence = {"format": header.format, "encryption": "luks" if header.has_luks else "aes"}
    if spec.external:
        way_out = "Set kind to internal, and encryption to its secret."
        if header.format != "qcow2":
            way_out = (
                "Make a qcow2 image with encryption of it (disk_image, source), which can have internal snapshots."
            )
        fact = "it is encrypted, and an overlay on it, which takes what the guest writes from then on, would not be"
        raise refused(spec, "image_encrypted", fact, way_out, evidence)
    if reading.live is None and not header.has_luks:
        raise refused(
            spec,
            "image_encrypted",
            "it is encrypted in the old way (aes), and nobody has it open with its secret",
            "Do this while its VM runs, with qmp_socket; or convert it to encryption with LUKS.",
            evidence,
        )


def refuse_missing_point(spec: SnapshotSpec, state: SnapshotState) -> None:
    """What is not there cannot be reverted to."""
    if state.point(spec.name) is None:
        raise refused(
            spec,
            "snapshot_missing",
            "there is no such snapshot (there are: %s)" % (", ".join(state.names) or "none"),
            "Set name to one of those that there are." if state.names else _take_it(spec),
            {"snapshots": state.names},
        )


def _take_it(spec: SnapshotSpec) -> str:
    """The role makes an image, and then its snapshot, and goes back to no state of which nobody knows who made it."""
    take = "Take it (state: present), if what the disk holds now is what you want to go back to"
    if spec.external:
        return take + "."
    return take + (
        ", as it is when a run of the role vm_storage with vm_storage_revert_to was cut off before it did; or remove the image"
        " (disk_image with state: absent), and the role makes it anew, with that snapshot."
    )


def refuse_ambiguous(spec: SnapshotSpec, state: SnapshotState) -> None:
    """QEMU takes a name or an ID, in some commands the one first and in others the other: it must mean one only."""
    wanted = spec.name
    ids = {point.id for point in state.points if point.id}
    doubtful = sorted({name for name in state.names if state.names.count(name) > 1 or name in ids or not name})
    if wanted is not None and (wanted in doubtful or wanted in ids):
        raise refused(
            spec,
            "ambiguous_snapshot",
            "more than one snapshot is called that, by name or by ID",
            "Delete or rename all but one with qemu-img, or take the snapshot under another name.",
            {"snapshots": [{"id": point.id, "name": point.name} for point in state.points]},
        )


def refuse_skewed_clock(spec: SnapshotSpec, dated: t.Sequence[retention.Dated], now: float) -> None:
    """A date in the future means that some clock was wrong: then no date can say what is old."""
    late = retention.from_the_future(dated, spec.match, now)
    if late:
        raise refused(
            spec,
            "clock_skew",
            "snapshots are dated in the future: %s" % ", ".join(late[:5]),
            "Set the clock of this host, or remove those snapshots by name.",
            {"snapshots": late, "now": now},
        )


def refuse_loss(spec: SnapshotSpec, layer: Layer, way_out: str = "Remove those first.") -> None:
    """What a file keeps beside its data goes with the file."""
    for names, reason, what in (
        ([bitmap.name for bitmap in layer.bitmaps], "would_lose_bitmaps", "dirty bitmaps"),
        (layer.snapshots, "would_lose_snapshots", "internal snapshots"),
    ):
        if names:
            raise refused(
                spec,
                reason,
                "%s has %s, which would be lost with it: %s" % (layer.path, what, ", ".join(names)),
                way_out,
                {"path": layer.path, "names": list(names)},
            )


def refuse_cut_snapshots(spec: SnapshotSpec, layer: Layer, base: str) -> None:
    """Only what a layer shows now is copied up into it: its internal snapshots go on to take the rest from its base."""
    if layer.snapshots:
        raise refused(
            spec,
            "would_lose_snapshots",
            "%s has internal snapshots, which would show other data without %s: %s"
            % (layer.path, base, ", ".join(layer.snapshots)),
            "Remove those first.",
            {"path": layer.path, "names": list(layer.snapshots)},
        )


def refuse_other_kind(spec: SnapshotSpec, state: SnapshotState, reading: SnapshotReading) -> None:
    """A task that forgets C(kind) would find nothing to do, or take a second snapshot of that name."""
    kind = "internal" if spec.external else "external"
    hides = spec.external and spec.state == "present"  # of that, a warning tells
    if spec.name in reading.other_kind and state.point(spec.name) is None and not hides:
        raise refused(
            spec,
            "kind_differs",
            "the snapshot of that name is %s" % kind,
            "Set kind: %s; or choose another name." % kind,
            {"kind": kind, "snapshots": list(reading.other_kind)},
        )


def refuse_long_name(spec: SnapshotSpec, what: str, name: str, most: int) -> None:
    """A name that was made from others must not be cut by QEMU, or refused by the file system."""
    length = len(name.encode("utf-8", "surrogateescape"))
    if length > most:
        raise refused(
            spec,
            "bad_name",
            "%s would be called %s, and have %d bytes, of which %d are possible" % (what, name, length, most),
            "Choose a shorter name%s." % (", or set save_as" if spec.state == "reverted" else ""),
            {"name": name, "most": most},
        )


def refuse_altered(spec: SnapshotSpec, layer: Layer) -> None:
    """A point is what the disk was then: what others have written to its file since is something else."""
    if not layer.altered or spec.allow_altered:
        return
    now = t.cast(t.Tuple[int, int, int, int], layer.stamp)[2:]
    names = ("size", "mtime_ns")
    raise refused(
        spec,
        "snapshot_altered",
        "somebody has written to %s since it became snapshot %s" % (layer.path, layer.point),
        "Restore that file from a backup with its times; or set allow_altered to take what it holds now.",
        {
            "path": layer.path,
            "snapshot": layer.point,
            "then": dict(zip(names, t.cast(t.Tuple[t.Any, t.Any], layer.frozen))),
            "now": dict(zip(names, now)),
        },
    )


def refuse_hardlinked(spec: SnapshotSpec, layer: Layer) -> None:
    """For a layer that is merged down and goes: by another name it would be there still, on a base that is another then; and
    while a running QEMU leaves it, something could be started from it.
    """
    if layer.names > 1:
        raise refused(
            spec,
            "hardlinked",
            "%s has %d names, and what the others lead to would be damaged" % (layer.path, layer.names),
            "Remove the other names (find -samefile shows them).",
            {"path": layer.path, "links": layer.names},
        )


def cannot_commit(spec: SnapshotSpec, path: str, fact: str, way_out: str) -> errors.RefusedError:
    """The refusal of what QEMU would begin and could not end."""
    way_out = "Set state to streamed%s." % (", or %s" % way_out if way_out else "")
    return refused(spec, "cannot_commit", fact, way_out, {"path": path})


def refuse_to_leave(spec: SnapshotSpec, reading: SnapshotReading, path: str) -> None:
    """That a running QEMU has left a layer shows in what the disk's device, or its export, uses."""
    if reading.live and not reading.live.used:
        raise refused(
            spec,
            "disk_unused",
            "the VM has %s open, but no device and no export uses it, as after it was unplugged" % path,
            "Plug it in again; or delete its nodes (QMP: blockdev-del), and merge it as one of a stopped VM.",
            {"path": path},
        )


def chain_differs(spec: SnapshotSpec, path: str) -> errors.RefusedError:
    """The refusal where the files say something else of a disk than the QEMU that has it open."""
    return refused(
        spec,
        "chain_differs",
        "the running QEMU and the headers of the files do not agree on whether %s belongs to the disk's chain" % path,
        "Stop the VM, and start it with the disk's file and no other backing file than it names.",
        {"path": path},
    )


def refuse_other_chain(spec: SnapshotSpec, chain: t.Collection[str], *files: str) -> None:
    """A running QEMU has all of the files of a merge open, or none, which is then done beside it. C(chain): its files."""
    if family.in_chain(chain, *files) is None:
        raise chain_differs(spec, next(path for path in files if path not in chain))
