# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt_disk: drives as libvirt's XML. Documented in libvirt_disk.yml."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.platter.qemu.plugins.module_utils._core import errors, plain
from ansible_collections.platter.qemu.plugins.module_utils._drive import libvirt_style, read_spec


def libvirt_disk(drives: t.Any, machine: str = "", lossy: bool = False, controllers: bool = False) -> t.List[str]:
    """A C(<disk>) for each drive."""
    try:
        spec = read_spec.read(plain.value(drives), plain.value(machine))
        return libvirt_style.disks(spec, lossy=bool(lossy), controllers=bool(controllers))
    except (errors.EngineError, ValueError) as exc:
        raise AnsibleFilterError(f"platter.qemu.libvirt_disk: {exc}") from None


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> t.Dict[str, t.Callable[..., t.Any]]:
        return {"libvirt_disk": libvirt_disk}
