# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What headers cannot say, from qemu-img: checks, measures, maps, and facts of places that are no files."""

from __future__ import annotations

import os
import re
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.place import Place
from ansible_collections.platter.qemu.plugins.module_utils._formats import features, matrix
from ansible_collections.platter.qemu.plugins.module_utils._image import info_facts, info_look, info_numbers, info_spec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import members
from ansible_collections.platter.qemu.plugins.module_utils._inspect.chain import resolve_backing
from ansible_collections.platter.qemu.plugins.module_utils._tools import process, qemu_img
from ansible_collections.platter.qemu.plugins.module_utils._tools.side_by_side import side_by_side

_OPENING = re.compile(r"^qemu-img: (Could not open 'json:.*\}': )?")


class UnavailableError(Exception):
    """An answer that cannot be had for one image; the others are not touched by it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.problem = info_facts.Problem(reason, message)


class QemuAnswers:
    """Asks qemu-img about many images at a time. Whatever it cannot answer becomes C(unavailable) of that image."""

    def __init__(self, spec: info_spec.InfoSpec, binary: str | None, looker: info_look.Looker) -> None:
        self._spec = spec
        self._binary = binary
        self._looker = looker
        self._runner = process.Runner(patience=spec.tool_timeout)
        self._tool = qemu_img.QemuImg(self._runner, binary)

    @property
    def commands(self) -> list[list[str]]:
        """Every command that was run, as argument lists."""
        return self._runner.commands

    def add_content(self, views: t.Sequence[info_facts.View], facts: t.Sequence[info_facts.Facts]) -> None:
        """The check report, measure and map of each image, as far as they are asked for."""
        asked = {"check": self._check, "measure": self._measure, "map": self._map}
        jobs = [
            (facts[at], name, view, answer)
            for at, view in enumerate(views)
            if view.header is not None
            for name, answer in asked.items()
            if getattr(self._spec, name)
        ]
        answers = self._at_once(lambda job: _answer(job[3], job[2], job[0]), jobs)
        for (each, name, _view, _ask), found in zip(jobs, answers):
            each[name] = found

    def of_places(self, places: t.Sequence[Place]) -> list[info_facts.Facts]:
        """Facts of places that are no files of this host."""
        return self._at_once(self._of_place, places)

    def about_qemu(self) -> info_facts.Facts:
        """The version of the installed QEMU; with C(features), what it can do with each format."""
        told = self._help()
        facts: info_facts.Facts = {"qemu_version": _version(told)}
        if self._spec.features:
            facts["features"] = matrix.feature_matrix(_supported(told))
        return facts

    def _help(self) -> str:
        try:
            return process.run(self._runner, [self._binary, "--help"])[1] if self._binary else ""
        except errors.EngineError:  # a qemu-img that does not even start is as good as none
            return ""

    def _at_once(self, ask: t.Callable[[t.Any], info_facts.Facts], jobs: t.Sequence[t.Any]) -> list[info_facts.Facts]:
        return side_by_side(ask, jobs, self._spec.workers or os.cpu_count() or 1)

    # --- one image

    def _check(self, view: info_facts.View, facts: info_facts.Facts) -> info_facts.Facts:
        if not features.FEATURES[str(view.format)].check:
            raise UnavailableError("not_supported", f"{view.format} images cannot be checked")
        if facts.get("consistent") is False:
            raise UnavailableError("image_in_use", "it is being written, so a check would say nothing")
        return info_numbers.check_facts(self._tool.check(self._alone(view)))

    def _map(self, view: info_facts.View, facts: info_facts.Facts) -> info_facts.Facts:
        return info_numbers.map_facts(t.cast("t.Any", view.header), self._tool.map(self._alone(view)))

    def _measure(self, view: info_facts.View, facts: info_facts.Facts) -> info_facts.Facts:
        target = str(self._spec.measure)
        return info_numbers.measure_facts(target, self._tool.measure(self._with_chain(view), target))

    def _alone(self, view: info_facts.View) -> qemu_img.Node:
        """The image without its backing file: what is asked is about this image only."""
        return _node(view, None)

    def _with_chain(self, view: info_facts.View) -> qemu_img.Node:
        """The image on its backing chain, every format named: QEMU has nothing to guess."""
        chain = self._looker.chain(view)
        stop = chain.problem or next((link for link in chain.links if link.kind != "file"), None)
        if stop:
            raise UnavailableError(getattr(stop, "reason", "backing_protocol"), getattr(stop, "fact", stop.path))
        node: qemu_img.Node | None = None
        for link in reversed(chain.links[1:]):
            node = _node(self._looker.view(link.path, link.format), node)
        return _node(view, node)

    # --- one place

    def _of_place(self, place: Place) -> info_facts.Facts:
        """Without a declared format QEMU looks what it is; nothing is written on the strength of that."""
        declared = self._spec.format
        node: qemu_img.Node = qemu_img.image_node(declared, place.node()) if declared else {"file": place.node()}
        try:
            return info_numbers.place_facts(place.text, self._tool.info(node), certain=declared is not None)
        except errors.EngineError as exc:
            reason = str(exc.facts.get("reason", "unreadable"))
            return {"path": place.text, "exists": None, "error": _last_line(exc), "reason": reason}


def _answer(
    ask: t.Callable[[info_facts.View, info_facts.Facts], info_facts.Facts],
    view: info_facts.View,
    facts: info_facts.Facts,
) -> info_facts.Facts:
    try:
        return ask(view, facts)
    except UnavailableError as exc:
        return _unavailable(exc.problem.reason, exc.problem.message)
    except errors.ImageLockedError:
        return _unavailable("image_in_use", "QEMU's lock of it is held by a program that uses it")
    except errors.EngineError as exc:
        return _unavailable(str(exc.facts.get("reason", "tool_failed")), _last_line(exc))


def _unavailable(reason: str, message: str) -> info_facts.Facts:
    return {"unavailable": message, "reason": reason}


def _last_line(error: errors.EngineError) -> str:
    """What qemu-img said, without the long node that it was given for a name."""
    said = str(error.facts.get("stderr") or "").strip()
    return _OPENING.sub("", said.splitlines()[-1]) if said else error.message


def _node(view: info_facts.View, backing: qemu_img.Node | None) -> qemu_img.Node:
    """The image with every file that belongs to it named, as QEMU opens a relative data file in its own directory."""
    _refuse_strange_files(view)
    _refuse_encrypted(view)
    protocol = {"driver": "host_device" if view.kind == "block" else "file", "filename": view.path}
    node = dict(qemu_img.image_node(str(view.format), protocol), backing=backing)
    data_file = view.header.data_file if view.header else None
    if data_file:
        node["data-file"] = {"driver": "file", "filename": resolve_backing(view.path, data_file)[1]}
    return node


def _refuse_strange_files(view: info_facts.View) -> None:
    """QEMU would open what the header names besides a backing file: only files and block devices are let through."""
    for reference in view.header.references if view.header else ():
        if reference.kind == "backing_file":
            continue
        kind, target = resolve_backing(view.path, reference.target)
        if kind != "file" or not _is_file(target):
            said = reference.kind.replace("_", " ")
            raise UnavailableError(
                "image_references_file", f"its {said} is {reference.target!r}, which is no file here"
            )
    nested = members.nested_descriptor(view.path, view.header)
    if nested:
        fact = f"its extent {nested} is a descriptor itself, which leads QEMU on to other files"
        raise UnavailableError("image_references_file", fact)


def _refuse_encrypted(view: info_facts.View) -> None:
    """QEMU opens one with its secret only, to check or to map it also; a measure of an image reads its tables."""
    if view.header is not None and view.header.encrypted:
        raise UnavailableError("image_encrypted", f"{view.path} is encrypted, and no secret is given to this module")


def _is_file(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def _version(told: str) -> str | None:
    """From C(qemu-img version 7.2.22 (Debian ...))."""
    words = told.split("\n", 1)[0].split()
    return words[words.index("version") + 1] if "version" in words else None


def _supported(told: str) -> t.Sequence[str] | None:
    """From C(Supported formats: blkdebug ... vpc); since QEMU 10.0 C(Supported image formats:) and an empty line. None
    where qemu-img did not say.
    """
    found = re.search(r"^Supported (?:image )?formats:\s+(.+?)(?:\n\n|\Z)", told, re.MULTILINE | re.DOTALL)
    return found.group(1).split() if found else None
