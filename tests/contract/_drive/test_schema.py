"""The tables of block drivers and devices are what the installed QEMU says of itself."""

from __future__ import annotations

import typing as t
from functools import lru_cache

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import block_options, devices
from ansible_collections.platter.qemu.tests.lab.drive_qemu import ask

Leaf = t.Tuple[str, str]


@lru_cache(maxsize=None)
def answers() -> t.Dict[str, t.Any]:
    questions: t.List[t.Tuple[str, t.Dict[str, t.Any]]] = [("query-qmp-schema", {})]
    known = [*devices.DRIVES, *devices.CONTROLLERS]
    questions += [("device-list-properties", {"typename": name}) for name in known]
    found = ask([], questions, machine="none")
    return {"schema": found[0], "devices": dict(zip(known, found[1:]))}


class Schema:
    """C(query-qmp-schema): the options of C(blockdev-add) by driver, with dotted names and types."""

    def __init__(self) -> None:
        self.entities = {each["name"]: each for each in answers()["schema"]}
        self.top = self.entities[self.entities["blockdev-add"]["arg-type"]]

    def drivers(self) -> t.Dict[str, t.Dict[str, str]]:
        return {each["case"]: dict(self.leaves(each["type"], "")) for each in self.top["variants"]}

    def leaves(self, name: str, prefix: str) -> t.Iterator[Leaf]:
        """Not those that a type has in another of itself (C(encrypt.parent) of rbd)."""
        entity = self.entities[name]
        if prefix.endswith(".parent"):
            return
        kind = entity["meta-type"]
        if entity is self.top:
            yield prefix, "node"
        elif kind == "builtin":
            yield prefix, entity["json-type"]
        elif kind == "enum":
            yield prefix, "string"
        elif kind == "array":
            yield from self.leaves(entity["element-type"], prefix + ".0")
        elif kind == "alternate":
            yield from self._alternate(entity, prefix)
        else:
            for member in [*entity["members"], *self._variants(entity)]:
                yield from self.leaves(member["type"], (prefix + "." if prefix else "") + member["name"])

    def _alternate(self, entity: t.Dict[str, t.Any], prefix: str) -> t.Iterator[Leaf]:
        if any(self.entities[each["type"]] is self.top for each in entity["members"]):
            yield prefix, "node"
            return
        for each in entity["members"]:
            yield from self.leaves(each["type"], prefix)

    def _variants(self, entity: t.Dict[str, t.Any]) -> t.Iterator[t.Dict[str, t.Any]]:
        for variant in entity.get("variants", ()):
            yield from self.entities[variant["type"]]["members"]


def test_every_option_of_every_driver_has_its_type() -> None:
    kinds = {"boolean": "bool", "int": "int", "string": "str"}
    wrong = []
    for driver, leaves in Schema().drivers().items():
        for name, told in leaves.items():
            child = block_options.is_child(driver, name.split(".")[0])
            if told == "node" and not child:
                wrong.append((driver, name, "is a node"))
            elif told != "node" and (child or block_options.kind_of(driver, name) != kinds[told]):
                wrong.append((driver, name, told))
    assert wrong == []


def test_no_option_of_a_driver_is_unknown() -> None:
    drivers = Schema().drivers()
    assert len(drivers) > 30
    assert [name for name in drivers if name not in block_options.DRIVERS] == []
    unknown = [block_options.unknown(driver, name) for driver, leaves in drivers.items() for name in leaves]
    assert [each for each in unknown if each] == []


def test_every_common_option_is_known() -> None:
    schema = Schema()
    names = {
        leaf
        for each in schema.top["members"]
        if each["name"] not in ("driver", "node-name")
        for leaf, _kind in schema.leaves(each["type"], each["name"])
    }
    assert names <= set(block_options.COMMON)


@pytest.mark.parametrize("name", sorted(devices.DRIVES))
def test_every_property_of_a_device_is_known(name: str) -> None:
    told = answers()["devices"][name]
    if told is None:
        assert name in (*devices.OF_THE_MACHINE, "virtio-blk-ccw")
        return
    offered = {
        each["name"]
        for each in told
        if not each["name"].startswith("x-") and "<" not in each["type"].replace("link<", "")
    }
    left_out = {"virtio-pci-bus-master-bug-migration"}
    assert sorted(offered - devices.DRIVES[name] - left_out) == []


def test_every_property_has_its_type() -> None:
    wrong = []
    for told in answers()["devices"].values():
        for each in told or ():
            numbers = each["type"].startswith(("int", "uint", "size")) and each["name"] != "addr"
            kind = "bool" if each["type"] == "bool" else "int" if numbers else "str"
            known = devices.kind_of_property(each["name"]) == kind or (each["name"], each["type"]) == (
                "vendor",
                "uint8",
            )
            if not each["name"].startswith("x-") and not known:  # the other vendor is text, and of disks
                wrong.append((each["name"], each["type"]))
    assert sorted(set(wrong)) == []
