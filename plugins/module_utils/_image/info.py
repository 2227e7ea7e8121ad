# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Facts of any number of images in one go: headers by ourselves, users in one pass, the rest by qemu-img."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._image import info_facts, info_look, info_spec
from ansible_collections.platter.qemu.plugins.module_utils._inspect import holders


class ImageInfoReader:
    """Answers an C(InfoSpec). C(qemu_img): the program's path, None where it is not installed."""

    def __init__(self, spec: info_spec.InfoSpec, qemu_img: str | None) -> None:
        self._spec = spec
        self._binary = qemu_img
        self._looker = info_look.Looker()
        self._warnings: list[str] = []

    def read(self) -> info_facts.Facts:
        """The result: images in the order of the task, then those of the directory by name."""
        spec = self._spec
        if spec.overlay_directories:
            from ansible_collections.platter.qemu.plugins.module_utils._inspect import dependents

            dependents.refuse_wrong_directories(spec.overlay_directories)
        views = {place: self._looker.view(place.path, spec.format) for place in spec.places if place.path}
        listed = self._listed({view.path for view in views.values()})
        local = [*views.values(), *listed]
        facts = [info_facts.image_facts(view) for view in local]
        self._add_more(local, facts)
        by_path = {view.path: each for view, each in zip(local, facts)}
        own = [by_path[place.path] for place in spec.places if place.path]
        result: info_facts.Facts = {"images": own + [by_path[view.path] for view in listed], "commands": []}
        if spec.wants_content or spec.features or len(views) < len(spec.places):
            self._ask_qemu(result, local, by_path)
        return dict(result, warnings=self._warnings)

    def _add_more(self, views: t.Sequence[info_facts.View], facts: t.Sequence[info_facts.Facts]) -> None:
        if self._spec.in_use:
            _add_holders(views, facts)
        if self._spec.backing_chain:
            for view, each in zip(views, facts):
                if view.header is not None:
                    each["backing_chain"] = self._chain(view)
        if self._spec.dependents:
            self._add_dependents(views, facts)

    def _chain(self, view: info_facts.View) -> list[info_facts.Facts]:
        links = self._looker.chain(view).links
        below = [self._looker.view(link.path, link.format).allocated if link.header else None for link in links[1:]]
        names = [self._looker.tidy(link.path) if link.kind == "file" else link.path for link in links]
        return info_facts.chain_facts(links, names, [view.allocated, *below])

    def _add_dependents(self, views: t.Sequence[info_facts.View], facts: t.Sequence[info_facts.Facts]) -> None:
        from ansible_collections.platter.qemu.plugins.module_utils._inspect.dependents import find_dependents

        there = [view.path for view in views if view.members]
        directories = {os.path.dirname(path) for path in there} | set(self._spec.overlay_directories)
        found: dict[str, list[str]] = {}
        for directory in sorted(directories):
            try:
                overlays = find_dependents(
                    there, [directory], self._looker.named_files, with_devices=self._spec.overlay_directories
                )
                for base, built_on_it in overlays.items():
                    found.setdefault(base, []).extend(built_on_it)
            except errors.EngineError as exc:
                self._warnings.append(exc.message)
        for view, each in zip(views, facts):
            if view.members:
                each["dependents"] = found.get(view.path, [])

    # --- a directory

    def _listed(self, known: t.AbstractSet[str]) -> list[info_facts.View]:
        """The images of the directory that are not listed otherwise: no members of other images."""
        if self._spec.directory is None:
            return []
        from ansible_collections.platter.qemu.plugins.module_utils._image.info_files import image_files

        paths, warnings = image_files(self._spec.directory, self._spec.recurse, self._spec.patterns)
        self._warnings += warnings
        views = [self._looker.view(path, self._spec.format) for path in paths if path not in known]
        members = {member for view in views for member in view.members[1:]}
        return [view for view in views if view.path not in members]

    # --- qemu-img

    def _ask_qemu(
        self, result: info_facts.Facts, local: t.Sequence[info_facts.View], by_path: t.Mapping[str, info_facts.Facts]
    ) -> None:
        from ansible_collections.platter.qemu.plugins.module_utils._image.info_qemu import QemuAnswers

        answers = QemuAnswers(self._spec, self._binary, self._looker)
        answers.add_content(local, [by_path[view.path] for view in local])
        remote = iter(answers.of_places([place for place in self._spec.places if not place.path]))
        own = iter(result["images"])
        ordered = [next(own) if place.path else next(remote) for place in self._spec.places]
        result["images"] = ordered + list(own)
        result.update(answers.about_qemu())
        result["commands"] = answers.commands


def _add_holders(views: t.Sequence[info_facts.View], facts: t.Sequence[info_facts.Facts]) -> None:
    """One pass over all processes for all images. An image is in use when any of its files is."""
    found = holders.find_holders(list(dict.fromkeys(member for view in views for member in view.members)))
    for view, each in zip(views, facts):
        if view.members:
            info_facts.add_use(each, [holder for member in view.members for holder in found[member]])
