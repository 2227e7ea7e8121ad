"""What a whole VM was started without is told, however it was started."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._drive import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._live.state import LiveState
from ansible_collections.platter.qemu.plugins.module_utils._vm import definition, restart

DRIVE = {"id": "a", "image": {"path": "/i/a", "format": "raw"}, "device": "virtio-blk-pci"}


def made(
    machine: str = "q35", qemu: str = "/bin/true", style: str = "blockdev", **more: t.Any
) -> definition.VmDefinition:
    arguments = tuple(more.pop("arguments", ("-m", "2G", "-snapshot", "-smp", "2")))
    spec = read_spec.read([DRIVE], machine)
    return definition.VmDefinition("web1", spec, {}, style, False, qemu, machine, arguments)


def running(by: definition.VmDefinition, *more: str, counted: bool = True) -> LiveState:
    """By the program of a definition, or by somebody who has its arguments in another order."""
    general = by.general()
    words = [by.qemu, *general, *more, *by.drive_words()]
    if not counted:
        words = [by.qemu, *by.drive_words(), *general[4:], *more, *general[:4]]
    return LiveState(by.spec.machine, words=tuple(words), general=len(general) if counted else -1)


def needed(state: LiveState, wanted: definition.VmDefinition) -> t.List[str]:
    return [what for what, _why in restart.needed(state, wanted)]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, []),
        ({"machine": "pc-q35-7.2"}, ["machine"]),
        ({"machine": "pc"}, ["machine"]),
        ({"qemu": "/bin/false"}, ["qemu"]),
        ({"arguments": ("-m", "4G", "-snapshot", "-smp", "2")}, ["arguments"]),
        ({"arguments": ("-m", "2G", "-snapshot", "-smp", "2", "-nographic")}, ["arguments"]),
        ({"style": "drive_device"}, ["style"]),
    ],
)
def test_what_differs_is_told(change: t.Dict[str, t.Any], what: t.List[str], counted: bool) -> None:
    for more in ((), ("-display", "none", "-daemonize")):
        assert needed(running(made(), *more, counted=counted), made(**change)) == what


def test_an_argument_less_is_told_where_it_is_known_who_has_said_it() -> None:
    fewer = made(arguments=("-m", "2G", "-snapshot"))
    assert needed(running(made(), "-display", "none"), fewer) == ["arguments"]
    assert needed(running(fewer, "-smp", "2"), fewer) == []
    assert needed(running(made(), counted=False), fewer) == []  # the caller may have said it


@pytest.mark.parametrize(("old", "new"), [("drive", "drive_device"), ("drive_device", "blockdev"), ("hda", "drive")])
def test_another_style_is_told(old: str, new: str) -> None:
    spec = read_spec.read([dict(DRIVE, device="ide-hd")])
    by = {style: definition.VmDefinition("web1", spec, {}, style, True, "/bin/true") for style in (old, new)}
    assert needed(running(by[old]), by[new]) == ["style"]
    assert needed(running(by[new]), by[new]) == []


def test_a_program_that_starts_another_one_is_not_told(tmp_path: Path) -> None:
    script = tmp_path / "qemu"
    script.write_text("#!/bin/sh\n")
    assert needed(running(made()), made(qemu=str(script))) == []
    (tmp_path / "link").symlink_to("/bin/true")
    assert needed(running(made()), made(qemu=str(tmp_path / "link"))) == []


def test_of_a_vm_that_tells_nothing_only_the_kind_of_machine_is_known() -> None:
    assert needed(LiveState("q35"), made(arguments=("-m", "9G"))) == []
    assert needed(LiveState("pc"), made()) == ["machine"]


def test_a_script_can_have_words_of_its_own_before_those_of_the_definition(tmp_path: Path) -> None:
    script = tmp_path / "qemu"
    script.write_text('#!/bin/sh\nexec /bin/true -L /usr/share/other "$@"\n')
    by = made(qemu=str(script))
    words = ("/bin/true", "-L", "/usr/share/other", *by.general(), *by.drive_words())
    state = LiveState(by.spec.machine, words=words, general=len(by.general()))
    assert needed(state, by) == []
    for arguments in (("-m", "4G", "-snapshot", "-smp", "2"), ("-m", "2G", "-snapshot", "-smp", "2", "-nographic")):
        assert needed(state, made(qemu=str(script), arguments=arguments)) == ["arguments"]
    # of a program that is none, they are somebody's
    assert needed(state, made()) == ["arguments"]
