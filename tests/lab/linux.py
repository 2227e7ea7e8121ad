"""The Linux that guests run: a kernel package of this machine, whether or not this machine itself runs it."""

from __future__ import annotations

import functools
import lzma
import os
import re
import subprocess
from pathlib import Path
from typing import Iterable, Iterator

import pytest

MODULES = Path("/lib/modules")
_UNPACK = {".ko": lambda packed: packed, ".xz": lzma.decompress}


@functools.lru_cache(maxsize=None)
def kernel() -> tuple[Path, Path]:
    """(the kernel, the directory of its modules) that can be read: the newest of those for clouds, or else of the others.

    Those for clouds are smaller and boot sooner. They have no 9p: see C(kernel_with).
    """
    found = sorted(_kernels(), key=_preference)
    if found:
        return found[-1]
    message = "no kernel with its modules in /boot and /lib/modules: install linux-image-cloud-amd64 or kernel-core"
    if os.environ.get("REQUIRE_QEMU"):
        pytest.fail("REQUIRE_QEMU is set, and there is " + message)
    pytest.skip(message)


def kernel_with(names: tuple[str, ...]) -> tuple[Path, Path]:
    """As C(kernel), of those that have these modules. Skips where there is none.

    PLATTER_KERNEL: the root of an unpacked kernel package, which is looked at too.
    """
    found = sorted(_kernels(), key=_preference)
    also = Path(os.environ["PLATTER_KERNEL"]) if "PLATTER_KERNEL" in os.environ else None
    for directory in also.glob("lib/modules/*") if also else ():
        found.insert(0, (_unpacked_kernel(directory), directory))
    for image, directory in reversed(found):
        if all(_has(directory, name) for name in names):
            return image, directory
    pytest.skip(f"no kernel here has {', '.join(names)}")


def _unpacked_kernel(directory: Path) -> Path:
    """Of a package that was only unpacked; depmod has to run, as the package would."""
    root = directory.parents[2]
    if not (directory / "modules.dep").exists():
        subprocess.run(["depmod", "-b", root, directory.name], check=True)
    return root / "boot" / f"vmlinuz-{directory.name}"


def _kernels() -> Iterator[tuple[Path, Path]]:
    """Debian has the kernel in C(/boot), Fedora beside the modules."""
    for directory in MODULES.glob("*"):
        for image in (directory / "vmlinuz", Path("/boot") / f"vmlinuz-{directory.name}"):
            if os.access(image, os.R_OK) and (directory / "modules.dep").exists():
                yield image, directory


def _preference(found: tuple[Path, Path]) -> tuple[bool, list[int]]:
    """The last one is chosen. Debian's two kernels of a version differ in nothing but the word."""
    release = found[1].name
    return "cloud" in release, [int(digits) for digits in re.findall(r"\d+", release)]


def modules(names: Iterable[str]) -> dict[str, bytes]:
    """The unpacked modules of these names and what they need, by name, in the order to load them in.

    What the kernel has built in is left out; what it has not got at all is an error.
    """
    _image, directory = kernel()
    needs = dict(_needs(directory))
    built_in = {_name(line) for line in (directory / "modules.builtin").read_text().split()}
    found: dict[str, bytes] = {}
    for name in names:
        assert name in needs or name in built_in, f"{directory} has no module {name}"
        for path in reversed(needs.get(name, [])):
            found.setdefault(_name(path), _unpacked(directory / path))
    return found


def has_module(name: str) -> bool:
    """Whether it can be loaded, or is built in."""
    return _has(kernel()[1], name)


def _has(directory: Path, name: str) -> bool:
    built_in = (_name(line) for line in (directory / "modules.builtin").read_text().split())
    return name in dict(_needs(directory)) or name in built_in


def _needs(directory: Path) -> Iterator[tuple[str, list[str]]]:
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _colon, needed = line.partition(":")
        yield _name(path), [path, *needed.split()]


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _unpacked(path: Path) -> bytes:
    packed = path.read_bytes()
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout
    return _UNPACK[path.suffix](packed)
