# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether a VM may be started, asked by the program that starts it: C(before_start.pyz VM WORD...). It outlives the play.

The rules are those of a task that starts the VM: headers that have come to lead elsewhere, places where others can put
another file. And what a snapshot has become the backing file of another image since is not written to, nor a device that
the host itself has. A word is what C(start_guard) has written of one thing that is opened, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._inspect import opening
from ansible_collections.platter.qemu.plugins.module_utils._tools import start_check

_ACTIVE = "Define the drive on the active overlay (platter.qemu.qemu_drive, image.path)."


def main() -> None:
    """Ends with 1 where the VM must not be started, and says why."""
    vm = sys.argv[1]
    for word in sys.argv[2:]:
        asked = json.loads(word)
        try:
            found = next(_objections(vm, asked), None)
        except errors.EngineError as exc:
            found = "%s: %s" % (asked["is"], exc.message)
        except OSError as exc:
            found = "%s: %s cannot be looked at: %s" % (asked["is"], exc.filename or asked["path"], exc.strerror)
        if found:
            raise SystemExit("VM %s is not started: %s" % (vm, found))


def _objections(vm: str, asked: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """What is said against one thing, as sentences."""
    if asked.get("writes"):
        yield from _to_writing(asked["path"])
    if "key" in asked:
        yield from _to_key(vm, asked)
        return
    yield from _to_names([asked["path"]], asked["is"])
    if opening.names_others(asked.get("format", "")):
        yield from _to_image(asked)


def _to_writing(image: str) -> t.Iterator[str]:
    if start_check.is_claimed(image):
        fact = "the host itself has %s (mounted, swapped on, or below a volume or an array), and QEMU would write to it"
        yield fact % image + " all the same. Stop what uses it."
    overlays = start_check.overlays_of(image)
    if overlays:
        fact = "%s is the backing file of %s, and what the VM writes there would damage that."
        yield "%s %s" % (fact % (image, ", ".join(overlays[:5])), _ACTIVE)


def _to_names(paths: t.Iterable[str], what: str) -> t.Iterator[str]:
    for path in paths:
        found = opening.to_name(path)
        if found is not None:
            yield "%s: %s. %s" % (what, found.fact, found.way_out)


def _to_image(asked: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    path, format, below = asked["path"], asked["format"], asked["below"]
    yield from _to_names((each.path for each in opening.opened_with(path, format, below=below)), asked["is"])
    found = opening.to_image(path, format, writes=asked["writes"], below=below)
    if found is not None:
        yield "%s (%s): %s. %s" % (asked["is"], path, found.fact, found.way_out)


def _to_key(vm: str, asked: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    path, shared = asked["path"], asked["key"] == "shared"
    if not shared or os.path.exists(path):
        yield from _to_names([path], asked["is"])
        opening.refuse_readable(path, shared=shared, subject="VM " + vm)


if __name__ == "__main__":
    main()
