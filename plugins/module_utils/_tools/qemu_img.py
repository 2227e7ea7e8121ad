# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""qemu-img(1): one method per subcommand. It decides nothing, never probes a format, and names the driver of every
image.
"""

from __future__ import annotations

import json
import time
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, image_nodes
from ansible_collections.platter.qemu.plugins.module_utils._tools import process
from ansible_collections.platter.qemu.plugins.module_utils._tools.quiet import directories_of

Node = t.Mapping[str, t.Any]
#: for who tells it to qemu-img
image_node = image_nodes.image_node
#: QEMU times itself to derive a key, and gives up where its processor time seems to stand still, before it has written anything
#: (crypto/pbkdf.c up to 9.1). Seen on 7.2 in 5 of 20, 44 of 150 and 170 of 600 creations, each after 15 ms, and once in 20 that
#: followed each other: where the kernel counts by its ticks, what runs between two of them has used no time.
_TIMING_MESSAGE = "Unable to get accurate CPU usage"
_TIMING_TRIES = 100
#: seconds before the second try, longer before each further one: so they do not all begin at the same time of a tick
_TIMING_PAUSE, _LONGEST_TIMING_PAUSE = 0.0007, 0.02


def json_filename(node: Node) -> str:
    """A node as a file name. Unlike an option string it needs no escaping of commas and cannot be read as a
    protocol.
    """
    return "json:" + json.dumps(node, sort_keys=True)


def secret_objects(secrets: t.Iterable[t.Tuple[str, str]]) -> t.List[str]:
    """Options of QEMU's tools for secrets (id, path of a file that holds it)."""
    objects = [json.dumps({"qom-type": "secret", "id": name, "file": path}) for name, path in secrets]
    return [argument for each in objects for argument in ("--object", each)]


class QemuImg:
    """Secrets are pairs (id, path of a file that holds it): a secret never stands in an argument."""

    def __init__(self, run_command: process.RunCommand, binary: t.Optional[str]) -> None:
        self._run_command = run_command
        self._binary = binary

    def _argv(self, verb: str, *rest: str, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> t.List[str]:
        if not self._binary:
            raise errors.EngineError(
                "qemu-img is not installed on this host. Install it (Debian: qemu-utils, Fedora: qemu-img).",
                reason="tool_missing",
            )
        return [self._binary, verb, *secret_objects(secrets), *rest]

    def _run_timing_itself(self, argv: t.List[str], **how: t.Any) -> None:
        """Of a command that may derive a key: again, where that fails by chance."""
        for tried in range(1, _TIMING_TRIES + 1):
            try:
                process.run(self._run_command, argv, **how)
                return
            except errors.ToolError as exc:
                if tried == _TIMING_TRIES or _TIMING_MESSAGE not in exc.stderr:
                    raise
            time.sleep(min(tried * _TIMING_PAUSE, _LONGEST_TIMING_PAUSE))

    def create(
        self,
        path: str,
        format_name: str,
        size: t.Optional[int],
        *,
        options: t.Sequence[str] = (),
        backing: t.Optional[t.Tuple[str, str]] = None,
        open_backing: bool = True,
        secrets: t.Iterable[t.Tuple[str, str]] = (),
    ) -> None:
        """Create C(path). C(options) are ready C(name=value) pieces; C(backing) is (file name as recorded, format)."""
        rest = ["-q", "-f", format_name]
        if backing:
            rest += ["-b", backing[0], "-F", backing[1]] + ([] if open_backing else ["-u"])
        for option in options:
            rest += ["-o", option]
        rest += [path] + ([] if size is None else [str(size)])
        self._run_timing_itself(self._argv("create", *rest, secrets=secrets))

    def convert(
        self,
        source: Node,
        path: str,
        format_name: str,
        *,
        options: t.Sequence[str] = (),
        compressed: bool = False,
        parallel: bool = False,
        direct: bool = False,
        existing: bool = False,
        backing: t.Optional[t.Tuple[str, str]] = None,
        secrets: t.Iterable[t.Tuple[str, str]] = (),
    ) -> None:
        """Copy the guest's view of C(source) to C(path).

        C(parallel): out of order with 16 coroutines (qemu-img's most), which pays with compression.
        C(direct): without the page cache. C(existing): C(path) is there, and is written in place.
        C(backing): (file name, format) of the source's own backing file, which the target gets too; only what the
        source itself holds is copied.
        """
        rest = ["-q", "-O", format_name]
        rest += ["-c"] if compressed else []
        rest += ["-W", "-m", "16"] if parallel else []
        rest += ["-t", "none"] if direct else ["-t", "writeback"]
        rest += ["-n"] if existing else []
        rest += ["-B", backing[0], "-F", backing[1]] if backing else []
        for option in options:
            rest += ["-o", option]
        argv = self._argv("convert", *rest, json_filename(source), path, secrets=secrets)
        self._run_timing_itself(argv, idle=True)

    def resize(
        self,
        image: Node,
        size: int,
        *,
        shrink: bool = False,
        preallocation: str = "off",
        secrets: t.Iterable[t.Tuple[str, str]] = (),
    ) -> None:
        """Set the virtual size to C(size) bytes."""
        rest = ["-q", "--preallocation=" + preallocation] + (["--shrink"] if shrink else [])
        process.run(self._run_command, self._argv("resize", *rest, json_filename(image), str(size), secrets=secrets))

    def amend(self, image: Node, options: t.Sequence[str], secrets: t.Iterable[t.Tuple[str, str]] = ()) -> None:
        """Change options in place, all in one call (QEMU 7.2 takes lazy_refcounts only together with compat=1.1)."""
        rest = ["-q"]
        for option in options:
            rest += ["-o", option]
        self._run_timing_itself(self._argv("amend", *rest, json_filename(image), secrets=secrets))

    def rebase(
        self, image: Node, backing: str, backing_format: str, secrets: t.Iterable[t.Tuple[str, str]] = ()
    ) -> None:
        """Give the image another backing file and copy what differs, so that the guest sees the same. C("") is none.

        Writethrough, because with any other cache mode QEMU (7.2) writes the new header before the tables that hold the
        copied clusters: killed between the two, the guest would see other data.
        """
        self._rebase(image, ["-q", "-t", "writethrough"], (backing, backing_format), secrets)

    def unsafe_rebase(
        self, image: Node, backing: str, backing_format: str, secrets: t.Iterable[t.Tuple[str, str]] = ()
    ) -> None:
        """Only write another backing file name: the guest sees other data unless the two are equal."""
        self._rebase(image, ["-q", "-u"], (backing, backing_format), secrets)

    def _rebase(
        self,
        image: Node,
        rest: t.List[str],
        backing: t.Tuple[str, str],
        secrets: t.Iterable[t.Tuple[str, str]],
    ) -> None:
        rest = rest + ["-b", backing[0]] + (["-F", backing[1]] if backing[0] else [])
        process.run(self._run_command, self._argv("rebase", *rest, json_filename(image), secrets=secrets))

    def check(
        self, image: Node, *, repair: str = "", secrets: t.Iterable[t.Tuple[str, str]] = ()
    ) -> t.Dict[str, t.Any]:
        """The check report as qemu-img's JSON. C(repair): leaks or all.

        Exit status 2 (corruptions) and 3 (leaks) come with a report all the same (qemu-img(1)).
        """
        rest = ["--output=json"] + (["-r", repair] if repair else [])
        limits = None if repair else process.INSPECTION
        argv = self._argv("check", *rest, json_filename(image), secrets=secrets)
        quiet = [] if repair else directories_of(image)
        _rc, stdout = process.run(self._run_command, argv, ok=(0, 2, 3), limits=limits, quiet=quiet)
        return _parsed(argv, stdout)

    def info(self, image: Node, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> t.Dict[str, t.Any]:
        """The facts as qemu-img's JSON, also of an image in use (C(--force-share): never for a verdict on content)."""
        argv = self._argv("info", "--force-share", "--output=json", json_filename(image), secrets=secrets)
        _rc, stdout = self._inspected(argv, image, timeout=60)
        return _parsed(argv, stdout)

    def map(
        self, image: Node, *, start: int = 0, secrets: t.Iterable[t.Tuple[str, str]] = ()
    ) -> t.List[t.Dict[str, t.Any]]:
        """Extents (start, length, zero, data, depth, ...) from byte C(start) on."""
        rest = ["--force-share", "--output=json", "--start-offset=%d" % start]
        argv = self._argv("map", *rest, json_filename(image), secrets=secrets)
        _rc, stdout = self._inspected(argv, image)
        return t.cast("t.List[t.Dict[str, t.Any]]", _loads(argv, stdout))

    def measure(self, image: Node, format_name: str, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> t.Dict[str, t.Any]:
        """Bytes that a conversion of C(image) to raw, qcow2 or luks needs: C(required), C(fully-allocated)."""
        argv = self._argv(
            "measure", "--force-share", "--output=json", "-O", format_name, json_filename(image), secrets=secrets
        )
        _rc, stdout = self._inspected(argv, image)
        return _parsed(argv, stdout)

    def _inspected(self, argv: t.List[str], image: Node, **how: t.Any) -> t.Tuple[int, str]:
        return process.run(self._run_command, argv, limits=process.INSPECTION, quiet=directories_of(image), **how)

    def take_snapshot(self, image: Node, name: str, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> None:
        """Keep what the image holds now as an internal snapshot."""
        self._snapshot("-c", name, image, secrets)

    def delete_snapshot(self, image: Node, name: str, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> None:
        """Delete the first internal snapshot of that C(name); an ID is not looked for (QEMU 7.2)."""
        self._snapshot("-d", name, image, secrets)

    def revert_to_snapshot(self, image: Node, number: str, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> None:
        """Make the image hold what the internal snapshot of ID C(number) does; IDs come before names (QEMU 7.2)."""
        self._snapshot("-a", number, image, secrets)

    def _snapshot(self, option: str, which: str, image: Node, secrets: t.Iterable[t.Tuple[str, str]]) -> None:
        """The json: name carries the format: the command has no C(-f), and would probe (QEMU 7.2)."""
        argv = self._argv("snapshot", "-q", option, which, json_filename(image), secrets=secrets)
        process.run(self._run_command, argv)

    def commit(self, image: Node, *, held: t.Sequence[int] = ()) -> None:
        """Copy what the image holds down into its backing file, which grows if it is smaller; the image stays as it is.

        C(held): file descriptors that it inherits, such as one with the image's lock.
        """
        process.run(self._run_command, self._argv("commit", "-q", "-d", json_filename(image)), held=held)

    def change_bitmap(
        self, image: Node, name: str, changes: t.Sequence[str], secrets: t.Iterable[t.Tuple[str, str]] = ()
    ) -> None:
        """Change one persistent dirty bitmap; C(changes) are options of C(qemu-img bitmap), carried out in order."""
        process.run(
            self._run_command, self._argv("bitmap", *changes, "--", json_filename(image), name, secrets=secrets)
        )

    def compare(self, first: Node, second: Node, secrets: t.Iterable[t.Tuple[str, str]] = ()) -> bool:
        """Whether two images show the guest the same bytes (a longer tail of zeros counts as equal, as in qemu-img)."""
        argv = self._argv("compare", "-q", json_filename(first), json_filename(second), secrets=secrets)
        rc, _stdout = process.run(self._run_command, argv, ok=(0, 1), idle=True)
        return rc == 0


def _loads(argv: t.Sequence[str], stdout: str) -> t.Any:
    try:
        return json.loads(stdout)
    except ValueError as exc:
        raise errors.ToolOutputError(
            "%s printed no JSON: %s" % (" ".join(argv[:2]), exc), cmd=list(argv), stdout=stdout
        ) from exc


def _parsed(argv: t.Sequence[str], stdout: str) -> t.Dict[str, t.Any]:
    value = _loads(argv, stdout)
    if not isinstance(value, dict):
        raise errors.ToolOutputError("%s printed no JSON object" % " ".join(argv[:2]), cmd=list(argv), stdout=stdout)
    return value
