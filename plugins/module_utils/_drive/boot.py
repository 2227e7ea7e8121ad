# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a VM starts with besides drives: shares, a kernel of the host, and memory that servers share. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._drive import finding, shares
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import Boot, DrivesSpec

#: the names of QEMU's options, of those of its machine, and of a task's
NAMES = ("kernel", "initrd", "append")
_PAGE = 4096


def of_vm(told: t.Mapping[str, t.Any]) -> t.Dict[str, t.Any]:
    """Those fields of a C(DrivesSpec), from what a task says of the VM. Raises SpecError."""
    return {
        "shares": tuple(map(shares.from_task, told.get("shares") or ())),
        "boot": from_task(told.get("boot")),
        "shared_memory": memory_from_task(told.get("shared_memory")),
    }


def from_task(told: t.Any) -> t.Optional[Boot]:
    """As a task, or C(to_facts), describes it; None where it says nothing. Raises SpecError."""
    if told is not None and not isinstance(told, t.Mapping):
        raise _refused("boot is %r" % (told,), "Write boot: {kernel: ..., initrd: ..., append: ...}.")
    given = {name: str(value) for name, value in (told or {}).items() if value is not None}
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise _refused("boot has no %s" % unknown[0], "Leave it out.", "unknown_option")
    return Boot(**given) if given else None


def _refused(fact: str, way_out: str, reason: str = "bad_option") -> errors.SpecError:
    return _finding(fact, way_out, reason).error()


def _finding(fact: str, way_out: str, reason: str = "bad_option", **more: t.Any) -> finding.Finding:
    return finding.Finding("of the VM", reason, fact, way_out, "the start", more)


def to_facts(boot: Boot) -> t.Dict[str, str]:
    """As C(from_task) reads it."""
    return {name: getattr(boot, name) for name in NAMES if getattr(boot, name)}


def memory_from_task(told: t.Any) -> int:
    """Bytes of memory that is shared; 0 for none. Raises SpecError."""
    try:
        return size.parse_size(told) if told else 0
    except ValueError as exc:
        raise _refused("shared_memory: %s" % exc, "Write it as 2G.", "bad_size") from exc


def found(spec: DrivesSpec) -> t.Iterator[finding.Finding]:
    """What QEMU would not take, or would take and do something else with."""
    if spec.shared_memory % _PAGE:
        yield _finding("shared_memory is %d bytes, and memory has pages" % spec.shared_memory, "Write 2G.", "bad_size")
    boot = spec.boot
    if boot is None:
        return
    if not boot.kernel:
        fact = "QEMU takes initrd and append only with a kernel of the host; without, the disk's own is started"
        yield _finding(fact, "Set boot.kernel.", "kernel_missing")
    for name in ("kernel", "initrd"):
        path = getattr(boot, name)
        if path and (not path.startswith("/") or "\0" in path):
            yield _finding(
                "boot.%s is %r, which is no absolute path" % (name, path), "Write one.", "bad_path", path=path
            )
    if "\0" in boot.append:
        yield _finding("a zero byte cannot stand in an argument", "Leave it out of boot.append.")
