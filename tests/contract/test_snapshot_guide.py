"""The tasks of the guide to snapshots: those of running VMs are run as written, one after the other."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.platter.qemu.plugins.module_utils._module import snapshot_options
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.modules import image_snapshot
from ansible_collections.platter.qemu.tests.lab.beats import settled
from ansible_collections.platter.qemu.tests.lab.guest import qemu_io
from ansible_collections.platter.qemu.tests.lab.machine import Machine, machine
from ansible_collections.platter.qemu.tests.lab.modules import call
from ansible_collections.platter.qemu.tests.lab.oracle import create

MODULE = "platter.qemu.image_snapshot"
GUIDE = (Path(__file__).parents[2] / "docs/docsite/rst/snapshots.rst").read_text()
_TODAY = re.compile(r"{{ now\(.*?\) }}")
_BLOCK = re.compile(r"^\.\. code-block:: yaml\+jinja\n\n((?: {4}.*\n|\n)+)", re.MULTILINE)


def tasks(text: str) -> Iterator[dict[str, Any]]:
    """Every task, in order, of one and the same day; a looped one once for each of its items."""
    for task in yaml.safe_load(_TODAY.sub("2026-11-26", text)):
        for item in task.pop("loop", [""]):
            yield yaml.safe_load(yaml.safe_dump(task).replace("{{ item }}", item))


GUIDED = [task for block in _BLOCK.findall(GUIDE) for task in tasks(block)]
SNAPSHOTS = [task[MODULE] for task in [*GUIDED, *tasks(image_snapshot.EXAMPLES)] if MODULE in task]
STOPPED = [task[MODULE] for task in GUIDED if "qmp_socket" not in task.get(MODULE, "qmp_socket")]
LIVE = [task[MODULE] for task in GUIDED if "qmp_socket" in task.get(MODULE, ())]


@pytest.mark.parametrize("options", SNAPSHOTS, ids=str)
def test_the_options_of_an_example_are_right(options: dict[str, Any]) -> None:
    checked = ArgumentSpecValidator(snapshot_options.argument_spec()).validate(options)
    assert not checked.error_messages
    for each in snapshot_options.items(checked.validated_parameters):
        read_spec(each)


def test_every_state_of_a_running_vm_has_an_example() -> None:
    kinds = {(each.get("kind", "internal"), each.get("state", "present")) for each in LIVE}
    assert kinds == {
        *(("internal", state) for state in ("present", "absent", "reverted", "pruned")),
        *(("external", state) for state in ("present", "absent", "committed", "streamed", "pruned")),
    }


def in_lab(value: Any, lab: Path) -> Any:
    """The same with the paths of the guide below C(lab)."""
    return yaml.safe_load(yaml.safe_dump(value).replace("/srv/images", str(lab)).replace("/run/platter", str(lab)))


def make_link(lab: Path) -> Path:
    """A plain image becomes a symbolic link, by the two tasks of the guide."""
    move = next(task["ansible.builtin.command"] for task in GUIDED if "ansible.builtin.command" in task)
    link = next(task["ansible.builtin.file"] for task in GUIDED if "ansible.builtin.file" in task)
    create(lab / "db1.qcow2", "qcow2", "64M")
    subprocess.run(shlex.split(in_lab(move["cmd"], lab)), check=True)
    Path(in_lab(link["path"], lab)).symlink_to(link["src"])
    return (lab / "db1.qcow2").resolve()


@pytest.fixture
def vms(tmp_path: Path) -> Iterator[dict[str, Machine]]:
    disks = [create(tmp_path / name, "qcow2", "64M") for name in ("web1.qcow2", "web1-data.qcow2")]
    with machine(tmp_path / "web1.qmp", *disks) as web, machine(tmp_path / "db1.qmp", make_link(tmp_path)) as database:
        yield {"web1": web, "db1": database}


def test_the_examples_of_running_vms_do_what_they_say(vms: dict[str, Machine], tmp_path: Path) -> None:
    for number, options in enumerate(in_lab(LIVE, tmp_path)):
        vm, goes_back = vms[Path(options["qmp_socket"]).stem], options.get("state") == "reverted"
        vm.write(number + 1, number)
        result = call("image_snapshot", **options)
        assert not result.get("failed"), result
        assert result["changed"] or options["match"] == "nightly-*", "a week of them is kept"
        assert vm.shows(number + 1, number) is not goes_back
        if not goes_back:
            settled(**options)
    assert (tmp_path / "db1.qcow2").resolve() == Path(vms["db1"].active())


def test_the_examples_of_stopped_vms_do_what_they_say(tmp_path: Path) -> None:
    """In the order of the guide, on one image; between two, something is written to it."""
    image = create(tmp_path / "web1.qcow2", "qcow2", "8M")
    stopped = [options for options in STOPPED if "encryption" not in options]
    assert {Path(options["image"]).name for options in stopped} == {image.name}
    for number, options in enumerate(in_lab(stopped, tmp_path)):
        result = call("image_snapshot", **options)
        assert not result.get("failed"), result
        qemu_io(result["snapshot"]["active"], "qcow2", f"write -q -P {number + 1} 0 64k")
