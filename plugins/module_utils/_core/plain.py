# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Values without Ansible's own types, for what looks at exact types: JMESPath, JSON and shlex. Pure."""

from __future__ import annotations

import typing as t


def value(data: t.Any) -> t.Any:
    """The same in Python's own types, all through."""
    if isinstance(data, str):
        return str.__str__(data)
    if isinstance(data, t.Mapping):
        return {value(name): value(each) for name, each in data.items()}
    if isinstance(data, (list, tuple)):
        return [value(each) for each in data]
    if isinstance(data, bool) or data is None:
        return data
    return _number(data)


def _number(data: t.Any) -> t.Any:
    if isinstance(data, int):
        return int(data)
    return float(data) if isinstance(data, float) else data
