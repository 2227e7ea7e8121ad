# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether QEMU knows what it would be told: by its own description of its commands (C(query-qmp-schema)). Pure.

Nothing is opened for that.
"""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._drive import devices

_JSON: t.Dict[str, t.Tuple[type, ...]] = {
    "string": (str,),
    "int": (int,),
    "boolean": (bool,),
    "number": (int, float),
    "null": (type(None),),
    "object": (dict,),
    "array": (list,),
}


class Schema:
    """C(told): what C(query-qmp-schema) returns."""

    def __init__(self, told: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        self._entities = {str(each["name"]): each for each in told}

    def problem(self, command: str, arguments: t.Any) -> str:
        """The first thing that the command would not take, as a sentence; empty when it takes all."""
        known = self._entities.get(command)
        if known is None:
            return "it has no command %s" % command
        return next(self._problems(str(known["arg-type"]), arguments, ""), "")

    def _problems(self, name: str, value: t.Any, where: str) -> t.Iterator[str]:
        entity = self._entities[name]
        kind = entity["meta-type"]
        if kind == "builtin":
            if not _is(value, entity["json-type"]):
                yield "%s is %r, and should be %s" % (where, value, entity["json-type"])
        elif kind == "enum":
            known = entity.get("values") or [each["name"] for each in entity["members"]]
            if value not in known:
                yield "%s is %r, which it does not know" % (where, value)
        elif kind == "array":
            for number, each in enumerate(value if isinstance(value, list) else ()):
                yield from self._problems(entity["element-type"], each, "%s.%d" % (where, number))
            if not isinstance(value, list):
                yield "%s is no list" % where
        elif kind == "alternate":
            yield from self._alternate(entity, value, where)
        else:
            yield from self._object(entity, value, where)

    def _alternate(self, entity: t.Mapping[str, t.Any], value: t.Any, where: str) -> t.Iterator[str]:
        """What is no node by its name is one by its options, and so on: the kind of the value says what is meant."""
        meant = [each for each in entity["members"] if self._takes(each["type"], value)] or entity["members"]
        tried = [list(self._problems(each["type"], value, where)) for each in meant]
        if all(tried):
            yield tried[0][0]

    def _takes(self, name: str, value: t.Any) -> bool:
        kind = self._entities[name]["meta-type"]
        return isinstance(value, {"object": dict, "array": list}.get(kind, (str, int, bool, float, type(None))))

    def _object(self, entity: t.Mapping[str, t.Any], value: t.Any, where: str) -> t.Iterator[str]:
        if not isinstance(value, dict):
            yield "%s is %r, where options belong" % (where, value)
            return
        members = {each["name"]: each for each in self._members(entity, value)}
        for key, each in value.items():
            path = where + "." + key if where else key
            if key not in members:
                yield "it has no %s%s" % (path, " for %s" % value["driver"] if "driver" in value else "")
            else:
                yield from self._problems(members[key]["type"], each, path)
        for key, member in members.items():
            if "default" not in member and key not in value:
                yield "%s is missing" % (where + "." + key if where else key)

    def _members(self, entity: t.Mapping[str, t.Any], value: t.Mapping[str, t.Any]) -> t.Iterator[t.Any]:
        yield from entity.get("members", ())
        for variant in entity.get("variants", ()):
            if variant["case"] == value.get(entity["tag"]):
                yield from self._members(self._entities[variant["type"]], value)


def _is(value: t.Any, kind: str) -> bool:
    if kind == "value":
        return True
    return isinstance(value, _JSON[kind]) and (kind == "boolean" or not isinstance(value, bool))


def device_problem(told: t.Mapping[str, t.Any], properties: t.Optional[t.Sequence[t.Mapping[str, t.Any]]]) -> str:
    """What a device has not, as a sentence. C(properties): the answer to C(device-list-properties), None: there was none."""
    name = str(told["driver"])
    if properties is None:
        return "it has no device %s" % name
    known = {str(each["name"]) for each in properties} | {"driver", "id", "bus", "drive"}
    unknown = [key for key in told if devices.base_name(key) not in known and not key.startswith("x-")]
    return "a %s of it has no %s" % (name, unknown[0]) if unknown else ""
