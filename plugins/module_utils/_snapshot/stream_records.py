# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is remembered of a point while, and after, it is copied up into the layer on it. The words are told in layer_records."""

from __future__ import annotations

import os

from ansible_collections.platter.qemu.plugins.module_utils._snapshot import layer_records, merge_actions


def begin_stream(action: merge_actions.StreamBase) -> None:
    """Remember that the overlay leaves its base, which a next run would not find again if this one is killed."""
    left = {} if action.keeps else {"leaf": True}
    layer_records.remember(action.base, dict(layer_records.snapshot_of(action.base), **left, into=action.overlay))
    layer_records.remember(action.overlay, dict(layer_records.snapshot_of(action.overlay), streaming=action.base))


def end_stream(action: merge_actions.StreamBase) -> None:
    """The overlay has what its base had: the base goes, or is no point any more."""
    layer_records.remember_base(action.overlay, action.new_base)
    settle_lowest(action.overlay, action.base)
    layer_records.change_overlays(action.new_base, gone=() if action.keeps else (action.base,))
    layer_records.note_overlay(action.new_base, action.overlay)
    if action.keeps:
        _retire(action.base)
    else:
        layer_records.remove_layer(action.base)
    layer_records.forget(action.overlay, "streaming")


def settle_lowest(overlay: str, base: str) -> None:
    """Before the C(base) goes that was streamed into the overlay: if it was the lowest file of the disk, the overlay is
    that from now on, and what lies below is another disk's, as a template.
    """
    if os.path.lexists(base) and not layer_records.is_made(base):
        layer_records.forget(overlay, "made")


def _retire(path: str) -> None:
    """The file is no point any more, but others are built on it."""
    kept = layer_records.made(path)
    if layer_records.is_made(path):
        kept.update(retired=True, overlays=layer_records.overlays_in(layer_records.snapshot_of(path)))
    layer_records.remember(path, kept)
