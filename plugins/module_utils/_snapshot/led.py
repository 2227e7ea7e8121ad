# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whither the layers lead that our own QEMU opens: who can write to one writes its header. Read-only.

A running VM has its layers open already, as the user that it runs as.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._core.item import Item
from ansible_collections.platter.qemu.plugins.module_utils._inspect import chain, image, leading
from ansible_collections.platter.qemu.plugins.module_utils._snapshot import (
    actions,
    merge_actions,
    refuse,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.spec import SnapshotSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import walk


class _Opened(t.NamedTuple):
    """An image that is opened to be written to; C(below): what its backing files hold can be copied too."""

    path: str
    format: t.Optional[str]
    below: bool = False


def guard_headers(items: t.Sequence[Item]) -> None:
    """Refuse plans for which files would be opened that those who wrote the headers could not open."""
    for item in items:
        if not item.refusal:
            item.refusal = _refusal(item)


def _refusal(item: Item) -> t.Optional[errors.RefusedError]:
    running = item.reading.live.nodes if item.reading.live is not None else ()
    opened = {each for action in item.plan for each in _opened(action, item) if each.path not in running}
    found = (_refusal_of(item, each) for each in sorted(opened, key=str))
    return next((refusal for refusal in found if refusal), None)


def _opened(action: t.Any, item: Item) -> t.Iterator[_Opened]:
    if isinstance(action, merge_actions.CommitOverlay):
        if not action.copied or action.compared:
            yield _Opened(action.overlay, "qcow2", below=True)
            yield _Opened(action.base, action.base_format)
        yield from (_Opened(above, "qcow2") for above in action.above)
    elif isinstance(action, merge_actions.StreamBase):
        yield _Opened(action.overlay, "qcow2", below=True)
    elif isinstance(action, actions.BY_QEMU):  # an overlay that grows takes the rest of a cluster from its base
        grows = isinstance(action, actions.RevertImage) and action.point.virtual_size != item.before.virtual_size
        yield _Opened(action.path, "qcow2", below=grows)


def _refusal_of(item: Item, opened: _Opened) -> t.Optional[errors.RefusedError]:
    seen = image.look_at(opened.path, opened.format)
    if seen.header is None:  # a step before this one has yet to give it that name
        return None
    problem = _problem_below(opened.path, seen.header)
    if problem:
        reason, sentence = problem
        way_out = "Mend the backing chain first."
        if reason == "image_encrypted":
            way_out = "Do this while its VM, which knows that secret, runs, with qmp_socket."
        return refuse.refused(item.spec, reason, sentence, way_out, {"chain": sentence})
    if os.geteuid() != 0:  # an ordinary user's task can do no more than that user
        return None
    steps = leading.steps(opened.path, seen.header, below=opened.below)
    found = (_closed(item.spec, opened, step) for step in steps if not _is_own_layer(item, step))
    return next((refusal for refusal in found if refusal), None)


def _is_own_layer(item: Item, step: leading.Step) -> bool:
    """One layer of the disk on another: their records, and their owners, have told that these belong together."""
    return step.kind == "backing_file" and os.path.realpath(step.path) in item.reading.layers


def _problem_below(path: str, header: Header) -> t.Optional[t.Tuple[str, str]]:
    if not header.references:
        return None
    walked = chain.walk_chain(path, header.format, image.chain_header)
    return chain.problem_of(walked) or chain.encrypted_base(walked.links[1:])


def _closed(spec: SnapshotSpec, opened: _Opened, step: leading.Step) -> t.Optional[errors.RefusedError]:
    what = "its %s %s" % (step.kind.replace("_", " "), step.path)
    owned = walk.owned_name(step.path)
    if owned:
        fact = "%s is opened by its name, %s" % (what, owned.fact)
        return refuse.refused(spec, "unsafe_directory", fact, owned.way_out(what), owned.evidence)
    closed = step.closed_to(write=step.kind != "backing_file" and step.image == opened.path)
    if closed is None:
        return None
    return refuse.refused(spec, "image_references_file", closed.fact(spec.image), closed.way_out, closed.evidence)
