# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Who can write to an image chooses what root's QEMU opens with it: only what that user can open too. Read-only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._image import refuse, target
from ansible_collections.platter.qemu.plugins.module_utils._image.spec import ImageSpec
from ansible_collections.platter.qemu.plugins.module_utils._image.state import Backing
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, image, leading


def refusal(spec: ImageSpec, header: Header, *, changes: bool, below: bool) -> t.Optional[errors.RefusedError]:
    """The first refusal among the files that are opened with the image; None for what an ordinary user does.

    C(changes): its own data file and extents may be written to. C(below): what its backing files hold is read.
    """
    if os.geteuid() != 0:  # an ordinary user's task can do no more than that user
        return None
    return _first(spec, leading.steps(spec.path, header, below=below), changes)


#: what images of this task that are still to be made, or get another base, will be built on, by C(which)
Planned = t.Mapping[t.Any, t.Optional[Backing]]


def which(path: str) -> t.Any:
    """What a file is known by, whatever it is called; one that is still to be made by its name."""
    return block_use.identity_of(path) or path


def refusal_of_base(spec: ImageSpec, base: Backing, planned: Planned) -> t.Optional[errors.RefusedError]:
    """The same for the base that the task names, and so what will lie below it."""
    if os.geteuid() != 0:
        return None
    there = os.path.lexists(base.path)
    unsafe = target.refusal_of_owned_name(spec, "the new backing file", base.path) if there else None
    return unsafe or _first(spec, _steps_of_base(base, dict(planned)), changes=False)


def _steps_of_base(base: t.Optional[Backing], planned: t.Dict[t.Any, t.Optional[Backing]]) -> t.Iterator[leading.Step]:
    while base is not None:
        top, base = base, None
        try:
            header: t.Optional[Header] = image.chain_header(top.path, top.format)
        except errors.HeaderError:  # still to be made
            header = None
        if which(top.path) in planned:
            base = planned.pop(which(top.path))
            header = header and header._replace(backing_file=None)
        for step in leading.steps(top.path, header, below=True) if header else ():
            yield step
            if step.kind == "backing_file" and which(step.path) in planned:
                base = Backing(step.path, None, step.path)
                break


def _first(spec: ImageSpec, steps: t.Iterable[leading.Step], changes: bool) -> t.Optional[errors.RefusedError]:
    named = spec.option("data_file")
    for step in steps:
        what = "its %s %s" % (step.kind.replace("_", " "), step.path)
        unsafe = target.refusal_of_owned_name(spec, what, step.path)
        if unsafe:
            return unsafe
        write = changes and step.image == spec.path and step.kind != "backing_file"
        nameable = step.image == spec.path and step.kind == "data_file"
        closed = None if nameable and step.path == named else step.closed_to(write=write)
        if closed:
            way_out = "If that is the right file, name it in options.data_file." if nameable else closed.way_out
            fact = closed.fact(spec.path)
            return refuse.refused(spec, "image_references_file", fact, way_out, closed.evidence)
    return None
