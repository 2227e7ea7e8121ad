"""The documentation of disk_image_info says what its argument spec does."""

from __future__ import annotations

import typing as t

import pytest
import yaml

from ansible_collections.platter.qemu.plugins.modules import disk_image_info as module

DOCUMENTED = yaml.safe_load(module.DOCUMENTATION)["options"]


@pytest.mark.parametrize("name", sorted(set(DOCUMENTED) | set(module.ARGUMENT_SPEC)))
def test_an_option_is_documented_as_it_is(name: str) -> None:
    documented = {key: DOCUMENTED[name][key] for key in DOCUMENTED[name] if key != "description"}
    assert documented == module.ARGUMENT_SPEC[name]


def test_every_fact_is_documented() -> None:
    from ansible_collections.platter.qemu.plugins.module_utils._core.header import Extent, Header, Reference
    from ansible_collections.platter.qemu.plugins.module_utils._image.info_facts import Problem, View, image_facts

    extents, references = (Extent("RW", "FLAT", "x", 1),), (Reference("extent", "x"),)
    full = Header("vmdk", 1, backing_file="b", extents=extents, references=references, unknown_features=("x",))
    record = {"format": "vmdk", "snapshot": {"name": "x"}}
    view = View("/a", True, "file", ("qcow2",), record, full, members=("/a", "/x"), problem=Problem("x", "y"))
    facts = image_facts(view._replace(header=full._replace(format_specific={"data": {"cid": 1}})))
    documented: dict[str, t.Any] = yaml.safe_load(module.RETURN)["images"]["contains"]
    later = {"backing_chain", "in_use_by", "consistent", "dependents", "check", "measure", "map"}
    assert set(facts) | later == set(documented)


def values(documented: dict[str, t.Any]) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    for name, value in documented.items():
        yield name, value
        yield from values(value.get("contains", {}))


@pytest.mark.parametrize(("name", "value"), list(values(yaml.safe_load(module.RETURN))))
def test_a_return_value_is_well_documented(name: str, value: dict[str, t.Any]) -> None:
    """A comma in a flow mapping makes a key of what follows it."""
    assert {"description", "type", "returned"} <= set(value) <= _KEYS
    assert (value["type"] == "list") == ("elements" in value)


_KEYS = {"description", "type", "returned", "elements", "contains", "sample"}
