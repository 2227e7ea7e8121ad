# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The memory of a VM, as its definition and its other arguments say it together. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, size
from ansible_collections.platter.qemu.plugins.module_utils._drive import keyval, shares
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition

_MIB = 1 << 20


def check(made: definition.VmDefinition) -> None:
    """Raises SpecError where a server would not get at the memory, or two lengths are said of it."""
    spec, arguments = made.spec, made.arguments
    served = [each.tag for each in spec.shares if each.driver == shares.VIRTIOFS]
    if served and not spec.shared_memory and not any(map(_is_shared, _values(arguments, "object"))):
        fact = (
            "the server of a virtiofs share (%s) reads and writes the memory of the VM, which is not shared" % served[0]
        )
        raise _refused(made, fact, "memory_not_shared", "Set shared_memory to the length of the memory, such as 2G.")
    lengths = [_length(each) for each in _values(arguments, "m")]
    if spec.shared_memory and lengths and lengths[-1] != spec.shared_memory:
        fact = "shared_memory is %d bytes, and arguments say -m with another length" % spec.shared_memory
        raise _refused(made, fact, "bad_option", "Leave -m out.")


def _refused(made: definition.VmDefinition, fact: str, reason: str, way_out: str) -> errors.SpecError:
    return errors.SpecError("the drives", "VM " + made.vm, fact, reason=reason, way_out=way_out, joined="of")


def _values(arguments: t.Sequence[str], name: str) -> t.List[str]:
    return [value for word, value in zip(arguments, arguments[1:]) if word in ("-" + name, "--" + name)]


def _is_shared(text: str) -> bool:
    told = dict(keyval.flatten(keyval.mapping(text, "qom-type")))
    return str(told.get("qom-type")).startswith("memory-backend-") and told.get("share") in ("on", True)


def _length(text: str) -> t.Optional[int]:
    """Of C(-m), which counts in MiB where it has no unit; None for what cannot be read."""
    told = str(dict(keyval.split(text, "size")).get("size", ""))
    try:
        return int(told) * _MIB if told.isdigit() else size.parse_size(told)
    except ValueError:
        return None
