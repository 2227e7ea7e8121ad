# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""The loop of all info modules: ask, answer, report. Nothing changes, so there is no mode to look at."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._module import utf8

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


class Reader(t.Protocol):
    """What a resource gives to the loop."""

    def read(self) -> dict[str, t.Any]:
        """The keys of the result; C(warnings) among them are sentences for the user."""


def run_info(module: AnsibleModule, make_reader: t.Callable[[AnsibleModule], Reader]) -> None:
    """Read, and end the module with the result."""
    try:
        result = utf8.in_utf8(make_reader(module).read())
    except errors.EngineError as exc:
        module.fail_json(**utf8.in_utf8(dict(exc.facts, msg=exc.message, changed=False)))
        return
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(changed=False, **result)
