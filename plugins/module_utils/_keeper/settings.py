# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a keeper is told, as plain data in a file: the array, its legs, and what to do when it is not well. Pure."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._array import read_spec as array_spec
from ansible_collections.platter.qemu.plugins.module_utils._array.spec import ArraySpec
from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._device import read_spec as device_spec
from ansible_collections.platter.qemu.plugins.module_utils._device.spec import DeviceSpec

Settings = t.Dict[str, t.Any]
#: of a leg, and of C(host_device)
_SHARED = ("source", "tls_certificates", "tls_hostname", "tls_psk_file", "tls_username")
_LEG = ("name", "server", *_SHARED)
_OWN = (
    "name",
    "uuid",
    "level",
    "consistency_policy",
    "size",
    "io_timeout",
    "interval",
    "on_all_lost",
    "alarm",
    "timeout",
)


def from_params(params: t.Mapping[str, t.Any]) -> Settings:
    """The settings of a task. Raises SpecError, of C(md_array) and C(host_device) too."""
    legs = [{key: leg[key] for key in _LEG if leg.get(key)} for leg in params.get("legs") or ()]
    settings = dict({key: params[key] for key in _OWN if params.get(key) is not None}, legs=legs)
    array_of(settings)
    for leg in legs:
        device_of(settings, leg["name"])
        if "://" not in leg["source"]:
            fact = "leg %s is no export" % leg["name"]
            raise errors.SpecError("keeper", settings["name"], fact, reason="bad_path", way_out="Write an NBD URI.")
    return settings


def to_text(settings: t.Mapping[str, t.Any]) -> str:
    """For the file, the same each time."""
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"


def array_of(settings: t.Mapping[str, t.Any]) -> ArraySpec:
    """What C(md_array) would be asked."""
    return array_spec.read_spec(settings)


def device_of(settings: t.Mapping[str, t.Any], name: str) -> DeviceSpec:
    """What C(host_device) would be asked for a leg: it is blank, or a leg of this array, and of that size."""
    leg = next(each for each in settings["legs"] if each["name"] == name)
    identity = {"size": settings.get("size"), "uuid": settings["uuid"], "signature": ["none", "linux_raid_member"]}
    asked = {key: leg.get(key) for key in _SHARED}
    more = {"read_only": False, "identity": identity, "io_timeout": settings.get("io_timeout")}
    return device_spec.read_spec(dict(asked, name=name, timeout=settings.get("timeout"), **more))


def may_go_without(reason: str, runs: bool) -> bool:
    """Whether a leg that was refused is left out, and the others go on. Where the array does not run yet, and two legs have gone
    on without each other, leaving one out would be choosing the other.
    """
    return runs or reason != "leg_diverged"
