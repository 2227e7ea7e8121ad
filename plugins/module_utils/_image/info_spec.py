# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What is asked about images: which ones, and what besides their headers. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, place


@dataclass(frozen=True)
class InfoSpec:
    """A question about images. C(format) None: as their records and bytes say."""

    places: tuple[place.Place, ...] = ()
    directory: str | None = None
    recurse: bool = False
    patterns: tuple[str, ...] = ("*",)
    format: str | None = None
    in_use: bool = True
    backing_chain: bool = False
    dependents: bool = False
    overlay_directories: tuple[str, ...] = ()
    check: bool = False
    measure: str | None = None
    map: bool = False
    features: bool = False
    workers: int = 0
    tool_timeout: float = 600.0

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> InfoSpec:
        """The question of a task. Raises EngineError for a place that cannot be one."""
        flags = {name: bool(params.get(name)) for name in ("recurse", "backing_chain", "check", "map", "features")}
        return cls(
            places=tuple(dict.fromkeys(_place(value) for value in params.get("paths") or ())),
            directory=params.get("directory"),
            patterns=tuple(params.get("patterns") or ("*",)),
            format=params.get("format"),
            in_use=params.get("in_use") is not False,
            dependents=bool(params.get("dependents") or params.get("overlay_directories")),
            overlay_directories=tuple(params.get("overlay_directories") or ()),
            measure=params.get("measure"),
            workers=int(params.get("workers") or 0),
            tool_timeout=float(params.get("tool_timeout") or 600),
            **flags,
        )

    @property
    def wants_content(self) -> bool:
        """Whether more than headers is to be read, which qemu-img does."""
        return self.check or self.map or self.measure is not None


def _place(value: t.Any) -> place.Place:
    try:
        if not isinstance(value, (str, dict)):
            raise ValueError(f"{value!r} is neither a path, a URI nor a blockdev dict")
        return place.parse_place(value)
    except ValueError as exc:
        raise errors.EngineError(
            "refused: a look at the place %s: %s. No image was looked at. Give absolute paths, URIs or blockdev dicts in paths."
            % (value, str(exc).rstrip(".")),
            reason="bad_option",
            evidence={"place": str(value)},
        ) from exc
