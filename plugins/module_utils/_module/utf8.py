# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Results that Ansible accepts: it fails a task whose result has a name, of a file or in an image, that is not
UTF-8.
"""

from __future__ import annotations

import json
import typing as t


def in_utf8(result: dict[str, t.Any]) -> dict[str, t.Any]:
    """C(result) with U+FFFD for what is not UTF-8, as in qemu-img's own JSON."""
    try:
        json.dumps(result, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return t.cast("dict[str, t.Any]", _replaced(result))
    return result


def _replaced(value: t.Any) -> t.Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_replaced(name): _replaced(each) for name, each in value.items()}
    return [_replaced(each) for each in value] if isinstance(value, (list, tuple)) else value
