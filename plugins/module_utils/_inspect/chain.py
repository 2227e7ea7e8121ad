# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The backing chain of an image, followed by reading headers, without opening anything that is no image file."""

from __future__ import annotations

import errno
import os
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header
from ansible_collections.platter.qemu.plugins.module_utils._formats import info
from ansible_collections.platter.qemu.plugins.module_utils._inspect import block_use, json_name, members

#: these have no field for the format of the backing file (qed only says whether it is raw; of vmdk it is vmdk)
NO_PLACE_FOR_FORMAT = ("qcow", "qed", "vmdk")

ReadHeader = t.Callable[[str, t.Optional[str]], Header]


@dataclass(frozen=True)
class ChainProblem:
    """Why a chain cannot be followed to its end; the caller decides whether that is a refusal."""

    #: backing_loop, base_missing, chain_too_long, backing_not_regular; image_missing, image_damaged (cut off),
    #: bad_size and header_unreadable of any link
    reason: str
    path: str
    fact: str


@dataclass(frozen=True)
class Link:
    """One image of a chain. C(kind) is file or protocol (a URI, json: or the like: named, never opened).

    C(guessed): QEMU takes it for what it looks like, as the image above has no format recorded for it.
    """

    path: str
    format: str | None
    header: Header | None = None
    problem: ChainProblem | None = None
    kind: str = "file"
    guessed: bool = False


@dataclass(frozen=True)
class ChainResult:
    """The links from the image itself down to its base, as far as they could be followed."""

    links: tuple[Link, ...]
    problem: ChainProblem | None = None


def _is_file_name(name: str) -> bool:
    """Whether the file system can have it at all: a header can say anything."""
    try:
        return "\0" not in name and len(os.fsencode(name)) < 4096
    except UnicodeEncodeError:
        return False


def resolve_backing(image_path: str, name: str) -> tuple[str, str]:
    """(kind, target) of the backing file C(name) as it stands in the image C(image_path); kind is file or protocol.

    As QEMU does it: a colon before the first slash makes it a protocol, and a relative name starts at the directory
    of the image that names it, as that image was called (not where a symbolic link leads). C(file:) with an absolute
    path is a file; with a relative one it would start at QEMU's working directory, so it is not followed.
    C(json:) is a file only where it says no more than one absolute path.
    """
    if name.startswith("file:/"):
        return "file", "/" + name[len("file:/") :].lstrip("/")
    if name.startswith("json:"):
        plain = json_name.plain_file(name)
        named = plain.filename if plain else ""
        return ("file", named) if named.startswith("/") and _is_file_name(named) else ("protocol", name)
    if info.has_protocol(name):
        return "protocol", name
    return "file", os.path.join(os.path.dirname(image_path), name)


def possible_files(image_path: str, name: str) -> t.Iterator[str]:
    """The files that the backing file C(name) of an image can be, also where that depends on the working directory of
    the QEMU that opens it: mostly that of the image, as for a C(file:base) that was made there, or the root of the host.
    """
    kind, target = resolve_backing(image_path, name)
    if kind == "file":
        yield target
        return
    named = [name[len("file:") :]] if name.startswith("file:") else list(json_name.every_file(name))
    for directory in (os.path.dirname(image_path), "/"):
        yield from (os.path.join(directory, each) for each in named if _is_file_name(each))


def walk_chain(path: str, format: str | None, read_header: ReadHeader, limit: int = 200) -> ChainResult:
    """The chain that starts at the image C(path) of C(format) (None: let C(read_header) find out).

    C(read_header(path, format or None)) is called for regular files and block devices only.
    """
    walk = _Walk(read_header, limit, {}, [])
    kind, target, named = "file", path, format
    while True:
        link = walk.follow(target, named) if kind == "file" else Link(target, named, kind=kind)
        walk.links.append(replace(link, guessed=bool(walk.links) and not named))
        if link.header is None or not link.header.backing_file:
            return ChainResult(tuple(walk.links), link.problem)
        kind, target = resolve_backing(target, link.header.backing_file)
        named = backing_format(link.header)


def backing_format(header: Header) -> str | None:
    """What QEMU opens the backing file as: what is recorded, else what a C(json:) name says; None: it guesses."""
    plain = json_name.plain_file(header.backing_file or "")
    return header.backing_format or (plain.format if plain else None)


def chain_problem(path: str, header: Header | None, read_header: ReadHeader) -> tuple[str, str] | None:
    """What is wrong with an image that is there and all that it is built on, as (reason, sentence), before QEMU opens it."""
    if header is None or not header.references:
        return None
    return problem_of(walk_chain(path, header.format, read_header))


def problem_of(chain: ChainResult) -> tuple[str, str] | None:
    """As C(chain_problem), of a chain that has been walked."""
    elsewhere = led_elsewhere(chain.links)
    if elsewhere:
        return elsewhere
    return (chain.problem.reason, chain.problem.fact) if chain.problem else None


def files_of(chain: ChainResult) -> tuple[str, ...]:
    """The paths of the images of a chain, as far as they are files."""
    return tuple(link.path for link in chain.links if link.kind == "file")


def encrypted_base(links: t.Iterable[Link]) -> tuple[str, str] | None:
    """The first of these backing files that takes a secret of its own, as (reason, sentence): our tools give it none."""
    locked = (link.path for link in links if link.header and link.header.encrypted)
    found = next(locked, None)
    return (
        ("image_encrypted", "its backing file %s is encrypted, and takes a secret of its own" % found)
        if found
        else None
    )


def led_elsewhere(links: t.Iterable[Link]) -> tuple[str, str] | None:
    """What QEMU would be led to by one of these images, as (reason, sentence): another host, a file that its working
    directory decides, what the guest of a raw disk has written, or what nobody here can tell.
    """
    links = tuple(links)
    guesses = (found for above, link in zip(links, links[1:]) for found in _guesses(above, link))
    return next((found for link in links for found in _ways_out(link)), None) or next(guesses, None)


def _guesses(above: Link, link: Link) -> t.Iterator[tuple[str, str]]:
    """The guest of a raw disk can have given it the header of an image that names any file. Of formats that can record
    no format, what looks like an image that names nothing is let through.
    """
    header = above.header
    if not link.guessed or header is None or (link.problem and link.problem.reason != "header_unreadable"):
        return
    if header.format not in NO_PLACE_FOR_FORMAT or link.header is None or link.header.references:
        fact = (
            "%s has no format recorded for its backing file %s, and QEMU would take it for what its guest has written"
        )
        yield "backing_format_missing", fact % (above.path, link.path)


def _ways_out(link: Link) -> t.Iterator[tuple[str, str]]:
    if link.kind == "protocol":
        fact = "which QEMU would connect to"
        if link.path.startswith("json:"):
            fact = "which says more than the name of one file, so that QEMU may open other files and connect to hosts"
        yield "backing_protocol_refused", "its backing chain leads to %s, %s" % (link.path, fact)
    if link.header is None:
        return
    yield from _strange_names(link.path, link.header)
    yield from _strange_files(link.path, link.header)
    if link.header.unknown_features:
        fact = "%s uses features that are not known here: %s"
        yield "unknown_features", fact % (link.path, ", ".join(link.header.unknown_features))


def _strange_names(path: str, header: Header) -> t.Iterator[tuple[str, str]]:
    for kind, target in header.references:
        if kind in ("data_file", "extent") and info.has_protocol(target):
            yield "backing_protocol_refused", "%s leads to %s, which QEMU would connect to" % (path, target)
        elif kind == "data_file" and not target.startswith("/"):
            fact = "%s names its data file %s relative to wherever a program runs"
            yield "relative_data_file", fact % (path, target)


def _strange_files(path: str, header: Header) -> t.Iterator[tuple[str, str]]:
    for kind, file in beside(path, header):
        if os.path.exists(file) and block_use.identity_of(file) is None:
            fact = "%s names %s as its %s, which is neither a file nor a block device"
            yield "not_a_file", fact % (path, file, kind.replace("_", " "))
    nested = members.nested_descriptor(path, header)
    if nested:
        fact = "the extent %s of %s is a descriptor itself, which leads QEMU on to other files"
        yield "image_references_file", fact % (nested, path)


def beside(path: str, header: Header) -> t.Iterator[tuple[str, str]]:
    """(kind, path) of what holds the content of this one image in other files: data_file, extent."""
    kind, target = resolve_backing(path, header.data_file) if header.data_file else ("", "")
    if kind == "file" and _is_file_name(target):
        yield "data_file", target
    for extent in members.extent_paths(path, header)[1:]:
        if _is_file_name(extent):
            yield "extent", extent


@dataclass
class _Walk:
    read_header: ReadHeader
    limit: int
    seen: dict[block_use.Identity, str]
    links: list[Link]

    def follow(self, path: str, format: str | None) -> Link:
        """The link for the file C(path), with its header or with the problem that ends the chain."""
        if len(self.links) >= self.limit:
            return self._end(path, format, "chain_too_long", f"the backing chain has more than {self.limit} images")
        try:
            which = block_use.identity(os.stat(path))
        except (OSError, ValueError) as exc:
            return self._end(path, format, *self._unreachable(path, exc))
        if which is None:
            return self._end(path, format, "backing_not_regular", f"{path} is neither a file nor a block device")
        if which in self.seen:
            way = [link.path for link in self.links] + [path]
            return self._end(path, format, "backing_loop", "the backing files form a loop: " + " -> ".join(way))
        self.seen[which] = path
        return self._read(path, format)

    def _read(self, path: str, format: str | None) -> Link:
        try:
            header = self.read_header(path, format)
        except errors.HeaderError as exc:
            return self._end(path, format, str(exc.facts.get("reason") or "header_unreadable"), exc.message)
        except errors.EngineError as exc:
            return self._end(path, format, "header_unreadable", exc.message)
        except OSError as exc:
            return self._end(path, format, "header_unreadable", f"{path} cannot be read: {exc.strerror}")
        return Link(path, header.format, header)

    def _unreachable(self, path: str, exc: Exception) -> tuple[str, str]:
        reason = "base_missing" if self.links else "image_missing"
        if isinstance(exc, OSError) and exc.errno == errno.ELOOP:
            return "backing_loop", f"{path} is a symbolic link that leads to itself"
        if isinstance(exc, OSError) and exc.errno in (errno.EACCES, errno.EPERM):
            return "header_unreadable", f"{path} cannot be reached: {exc.strerror}"
        named = f", named as the backing file of {self.links[-1].path}," if self.links else ""
        return reason, f"{path}{named} does not exist"

    @staticmethod
    def _end(path: str, format: str | None, reason: str, fact: str) -> Link:
        return Link(path, format, problem=ChainProblem(reason, path, fact))
