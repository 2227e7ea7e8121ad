"""The guests of the live tests: what they measure and what the outside reader sees are true."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools.guest_agent import GuestAgent, frozen
from ansible_collections.platter.qemu.tests.lab import vm
from ansible_collections.platter.qemu.tests.lab.guest import qemu_io
from ansible_collections.platter.qemu.tests.lab.load import mounted, pauses, writing
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.plug import plugged
from ansible_collections.platter.qemu.tests.lab.sequence import BLOCK, Layout, block, written_up_to
from ansible_collections.platter.qemu.tests.lab.vm import Disk, Guest, running_guest

pytestmark = pytest.mark.xdist_group("guest")
LAYOUT = Layout(slots=64)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create(tmp_path / "image.qcow2", "qcow2", LAYOUT.size)


def test_the_tests_of_a_group_stay_together(request: pytest.FixtureRequest) -> None:
    """xdist tells them by the names that it gives them, and says nothing where those are not heard."""
    assert request.node.nodeid.endswith("@guest") or not request.config.getoption("loadgroup", False)


def test_commands_and_their_failures_are_seen(guest: Guest) -> None:
    assert guest.run("echo one; echo two >&2") == "one\ntwo\n"
    with pytest.raises(AssertionError, match="no such thing"):
        guest.run("echo no such thing; false")
    with pytest.raises(AssertionError, match="no answer to"):
        guest.run("sleep 1", timeout=0.1)
    guest.run("true")


@pytest.mark.parametrize("legacy", (False, True))
def test_what_the_writer_knows_is_on_the_disk(guest: Guest, image: Path, legacy: bool) -> None:
    with plugged(guest, Disk(image, legacy=legacy)) as plugged_in, writing(guest, LAYOUT, plugged_in[0]) as writer:
        guest.wait(lambda: writer.written() > LAYOUT.slots, "it comes round")
        assert writer.goes_on() <= writer.stop()
    assert written_up_to(image, "qcow2", LAYOUT) - writer.last in (0, 1)


def test_two_disks_are_written_in_turn(guest: Guest, image: Path, tmp_path: Path) -> None:
    other = create(tmp_path / "other.raw", "raw", LAYOUT.size)
    disks = (Disk(image), Disk(other, "disk1", "raw"))
    with plugged(guest, *disks) as names, writing(guest, LAYOUT, *names) as writer:
        writer.goes_on()
    first, second = (written_up_to(disk.path, disk.format, LAYOUT) for disk in disks)
    assert first - second in (0, 1)


def fill(image: Path, *numbers: int) -> None:
    """Slot after slot, by another program than the writer."""
    for slot, number in enumerate(numbers):
        source = image.with_suffix(".block")
        source.write_bytes(block(number))
        qemu_io(image, "qcow2", f"write -q -s {source} {slot * LAYOUT.spacing} {BLOCK}")


def test_the_reader_tells_the_beginning_of_the_sequence(image: Path) -> None:
    assert written_up_to(image, "qcow2", LAYOUT) == 0
    fill(image, 1, 2, 3)
    assert written_up_to(image, "qcow2", LAYOUT) == 3


@pytest.mark.parametrize("numbers", ((1, 2, 4), (2, 2), (1, 1), (65, 2, 3)))
def test_the_reader_sees_a_block_that_is_lost_or_doubled(image: Path, numbers: tuple[int, ...]) -> None:
    fill(image, *numbers)
    with pytest.raises(AssertionError, match="should have"):
        written_up_to(image, "qcow2", LAYOUT)


def test_the_reader_sees_a_torn_block(image: Path) -> None:
    fill(image, 1, 2)
    qemu_io(image, "qcow2", f"write -q -P 0 {LAYOUT.spacing + 512} 512")
    with pytest.raises(AssertionError, match="torn"):
        written_up_to(image, "qcow2", LAYOUT)


def test_a_guest_that_stands_still_is_measured_from_inside(guest: Guest) -> None:
    with pauses(guest) as quiet:
        time.sleep(0.5)
    hog = quiet.longest + 1500  # as long as a busy machine has it stand still, and more
    with pauses(guest) as seen:
        guest.run(f"python3 -I -S /hog.py {hog}")
    assert seen.longest >= hog - 10
    assert seen.stopped == quiet.stopped == 0


def test_a_vm_that_is_stopped_is_measured_by_its_events(guest: Guest) -> None:
    with pauses(guest) as seen:
        begin = time.monotonic()
        guest.monitor.execute("stop")
        time.sleep(0.3)
        guest.monitor.execute("cont")
        most = time.monotonic() - begin
    assert 300 <= seen.stopped <= 1000 * most + 1


def test_a_command_that_has_lost_its_beginning_is_sent_again(guest: Guest) -> None:
    guest.send(vm.line(77000, "echo $((6 * 7))")[14:])
    assert guest.answer(77000, "echo $((6 * 7))", time.monotonic() + 60) == "42\n"


@pytest.mark.parametrize("sent", [slice(0), slice(-1), slice(-9)], ids=["nothing", "no end", "a part"])
def test_a_command_that_has_not_come_is_sent_again_and_done_once(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, sent: slice
) -> None:
    monkeypatch.setattr(vm, "SILENCE", 0.5)
    command = "echo done >>/run/once; cat /run/once; rm /run/once"
    guest.send(vm.line(77001, command)[sent])
    assert guest.answer(77001, command, time.monotonic() + 60) == "done\n"
    assert guest.run("echo more") == "more\n"


def test_what_takes_longer_than_a_silence_is_done_once(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "SILENCE", 0.1)
    assert guest.run("echo one >>/run/times; sleep 2; cat /run/times") == "one\n"
    assert guest.run("cat /run/times; rm /run/times") == "one\n"


def test_the_agent_freezes_what_is_mounted(guest: Guest, image: Path) -> None:
    with plugged(guest, Disk(image)) as plugged_in, mounted(guest, plugged_in[0]):
        with GuestAgent.connect(str(guest.agent)) as agent, frozen(agent) as state:
            assert state.file_systems == 1
            guest.run("dd if=/dev/zero of=/mnt/late bs=4k count=1 >/run/dd.log 2>&1 &")
            with pytest.raises(AssertionError, match="never"):
                guest.wait(lambda: "records out" in guest.run("cat /run/dd.log"), "never", seconds=0.5)
        assert state.held
        guest.wait(lambda: "records out" in guest.run("cat /run/dd.log"), "the write goes on")


def test_a_guest_powers_off(tmp_path: Path, image: Path) -> None:
    with running_guest(tmp_path, Disk(image), agent=False) as other:
        assert other.run("cat /sys/block/vda/size") == f"{LAYOUT.size // 512}\n"
        assert not other.agent.exists()
        other.power_off()
        assert other.process.returncode == 0
