# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Reads what is so of an initramfs, and all that it is to be made of: modules of the kernel, programs of the host. Read-only."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import stat
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._initramfs import archive, init_script, kernel_modules, state
from ansible_collections.platter.qemu.plugins.module_utils._initramfs import spec as asked
from ansible_collections.platter.qemu.plugins.module_utils._tools import files, process, walk

_TABLES = ("modules.dep", "modules.builtin", "modules.softdep", "modules.alias")
_PACKED = {".xz": "xz", ".gz": "gz", ".zst": "zst"}
_ALSO_IN = "/usr/local/sbin:/usr/sbin:/sbin"
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")
_DIRECTORIES = ("bin", "dev", "etc", "modules", "proc", "root", "run", "sbin", "sys", "tmp")


class _ProblemError(Exception):
    """C(args): reason, fact, way out, evidence."""


def observe(path: str) -> t.Tuple[state.InitramfsState, str]:
    """(the state of the file, why it is not ours)."""
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return state.InitramfsState(path), ""
    except NotADirectoryError as exc:
        raise errors.EngineError("%s cannot be examined: %s" % (path, exc.strerror)) from exc
    if not stat.S_ISREG(seen.st_mode):
        return state.InitramfsState(path), "there is no regular file"
    content = _bytes(path)
    if not archive.is_ours(content[:128]):
        return state.InitramfsState(path), "the file that is there was not made by this module"
    return state.InitramfsState(path, hashlib.sha256(content).hexdigest(), len(content)), ""


def read_parts(spec: asked.InitramfsSpec, run: process.RunCommand) -> state.InitramfsReading:
    """What the file is to be made of; or what is in the way."""
    try:
        _check_directory(os.path.dirname(spec.path), spec.root is not None)
        return _parts(spec, run) if spec.root else state.InitramfsReading()
    except _ProblemError as exc:
        reason, fact, way_out, evidence = exc.args
        return state.InitramfsReading(problem=(reason, fact, way_out), evidence=evidence)


def _parts(spec: asked.InitramfsSpec, run: process.RunCommand) -> state.InitramfsReading:
    chosen = _modules(spec)
    entries = [archive.directory(name) for name in _DIRECTORIES]
    programs = [entry for name in spec.programs for entry in _program(name, run)]
    libraries = sorted({"/" + os.path.dirname(each.name) for each in programs if not each.name.startswith("bin/")})
    entries.append(archive.program("init", init_script.init_script(spec, libraries).encode()))
    if spec.network.address == "dhcp":
        entries.append(archive.program("bin/lease", init_script.LEASE.encode()))
    for name, path in chosen.items():
        entries.append(archive.file("modules/%s.ko" % name, _module(os.path.join(spec.modules_directory, path))))
    entries.append(archive.file("modules/order", "".join(name + "\n" for name in chosen).encode()))
    _check_applets(spec, run)
    content = archive.render([*entries, *programs])
    digest = hashlib.sha256(content).hexdigest()
    return state.InitramfsReading(content=content, sha256=digest, modules=tuple(chosen), programs=spec.programs)


def _check_directory(directory: str, needed: bool) -> None:
    if not os.path.isdir(directory):
        if needed:
            raise _ProblemError(
                "directory_missing", "%s is no directory" % directory, "Make it first, or correct path.", {}
            )
        return
    mover = walk.unsafe_mover(os.path.realpath(directory))
    if mover:
        fact = "others can put something else into %s (owner %d, mode %04o), and a VM boots it" % mover
        raise _ProblemError("unsafe_directory", fact, "Use a directory that only its owner can write to.", {})


def _modules(spec: asked.InitramfsSpec) -> t.Dict[str, str]:
    directory = spec.modules_directory
    if not os.path.isfile(os.path.join(directory, "modules.dep")):
        fact = "%s has no modules of a kernel" % directory
        there = sorted(glob.glob("/lib/modules/*/modules.dep"))
        known = ", ".join(os.path.dirname(path) for path in there) or "none in /lib/modules"
        way_out = "Set modules_directory to those of the kernel that the VM boots (there are: %s)." % known
        raise _ProblemError("modules_missing", fact, way_out, {"modules_directory": directory})
    mover = walk.unsafe_mover(os.path.realpath(directory))
    if mover:  # by links in it, any file of the host would come into a file that everybody can read
        fact = "others can put something else into %s (owner %d, mode %04o), and a VM boots what is in it" % mover
        raise _ProblemError("unsafe_directory", fact, "Give modules_directory to root alone.", {})
    tables = kernel_modules.Tables(*(_text(os.path.join(directory, name)) for name in _TABLES))
    chosen = kernel_modules.choose(tables, spec.needed_modules, asked.USUAL)
    if chosen.missing:
        fact = "Linux %s has no module %s" % (spec.release, ", ".join(chosen.missing))
        way_out = "Boot a kernel that has it (those for clouds have fewer), and set modules_directory."
        raise _ProblemError("modules_missing", fact, way_out, {"modules": chosen.missing})
    return chosen.files


def _module(path: str) -> bytes:
    """Unpacked, as busybox does not unpack it."""
    kind = _PACKED.get(os.path.splitext(path)[1])
    if kind is None:
        return _bytes(path)
    from ansible_collections.platter.qemu.plugins.module_utils._tools import decoders

    return b"".join(decoders.unpacked(path, kind))


def _program(name: str, run: process.RunCommand) -> t.Iterator[archive.Entry]:
    """A program of the host, with the libraries it is linked with under the names that its loader looks for."""
    found = _find(name)
    yield archive.program("bin/%s" % name, _bytes(found))
    _rc, told, _errors = run(["ldd", found], timeout=30.0)
    if "not found" in told:
        fact = "%s needs libraries that are not installed here" % found
        raise _ProblemError("tool_missing", fact, "Install %s with all that it needs." % name, {"programs": [name]})
    for library in _LIBRARY.findall(told):
        yield archive.program(library.strip("/"), _bytes(library))


def _find(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_ALSO_IN)
    if not found:
        fact, way_out = "%s is not installed here, and the guest needs it" % name, "Install %s." % name
        raise _ProblemError("tool_missing", fact, way_out, {"programs": [name]})
    return os.path.realpath(found)


def _check_applets(spec: asked.InitramfsSpec, run: process.RunCommand) -> None:
    wanted = init_script.APPLETS + (init_script.DHCP_APPLETS if spec.network.address == "dhcp" else ())
    there = process.run(run, [_find("busybox"), "--list"], timeout=30.0)[1].split()
    lacking = [name for name in wanted if name not in there]
    if lacking:
        fact = "the busybox of this host has no %s" % ", ".join(lacking)
        way_out = "Install one that has it (Debian, Ubuntu: busybox-static)."
        raise _ProblemError("tool_missing", fact, way_out, {"programs": lacking})


def _text(path: str) -> str:
    return _bytes(path).decode("utf-8", "surrogateescape") if os.path.exists(path) else ""


def _bytes(path: str) -> bytes:
    with os.fdopen(files.open_quietly(path), "rb") as stream:
        return stream.read()
