"""Arrays over NBD in a guest whose kernel has md: servers die and come back, legs are exchanged, and no byte is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterator

import pytest
import yaml

from ansible_collections.platter.qemu.plugins.modules import md_array, md_keeper
from ansible_collections.platter.qemu.tests.lab.array_guest import ArrayGuest, running_arrays
from ansible_collections.platter.qemu.tests.lab.array_hurts import ORPHANS, settle
from ansible_collections.platter.qemu.tests.lab.arrays import LAYOUT, Array
from ansible_collections.platter.qemu.tests.lab.shared_guest import SharedGuest, shared
from ansible_collections.platter.qemu.tests.lab.stores import Store, stores

pytestmark = pytest.mark.xdist_group("array guest")
UUID, OTHER = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11", "00000000-1111-2222-3333-444444444444"


@pytest.fixture(scope="module")
def one_for_all(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGuest[ArrayGuest]]:
    with shared(request.session, lambda: running_arrays(tmp_path_factory.mktemp("guest"), networks=2)) as made:
        yield made


@pytest.fixture
def guest(one_for_all: SharedGuest[ArrayGuest]) -> ArrayGuest:
    return one_for_all.get()


def test_an_array_outlives_a_server_and_its_legs_become_equal_again(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 2) as servers:
        array = Array(guest, "data", UUID, servers)
        array.refused("legs_missing")
        assert not array.attach().get("failed")
        made = array.converge()
        assert made["actions"] == ["Make array data (raid1, bitmap) of data-0 and data-1."]
        assert guest.run(f"mdadm --detail {array.link} | grep -c 'Intent Bitmap : Internal'").strip() == "1"
        array.wait("clean")

        array.begin_writing()
        servers[1].kill()
        array.written_past(array.written() + 20)
        away = array.call()
        assert re.match("Take nbd[01], which failed, out of array data", away["actions"][0]), away
        assert away["array"]["condition"] == "degraded"
        assert not array.call()["changed"]
        assert array.attach(1)["reason"] == "place_unreachable"

        servers[1].start()
        assert not array.attach(1).get("failed")
        assert array.converge()["actions"] == ["Add leg data-1 to array data again."]
        array.wait("clean")
        array.written_past(array.written() + 20)
        last = array.end_writing()
        array.stop()
        assert array.equal_legs() >= last


def test_legs_of_another_array_are_refused_and_stay_as_they_are(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 4) as servers:
        one, other = Array(guest, "one", UUID, servers[:2]), Array(guest, "other", OTHER, servers[2:])
        for array in (one, other):
            assert not array.attach().get("failed")
            assert array.call()["changed"]
            array.wait("clean")
            array.stop()
        before = [store.image.read_bytes() for store in servers]
        # somebody has mistaken a port
        one.servers, other.servers = [servers[0], servers[3]], [servers[2], servers[1]]
        for array in (one, other):
            told = array.attach()
            assert (told["reason"], told["changed"]) == ("identity_mismatch", False), told
            # and has had them attached all the same
            assert not array.attach(identity={"signature": ["linux_raid_member"]}).get("failed")
            assert array.uuid not in array.refused("leg_foreign")
        assert "md" not in guest.run("ls /dev/md 2>/dev/null; cat /proc/mdstat | grep ^md || true")
        one.detach()
        other.detach()
        assert [store.image.read_bytes() for store in servers] == before


def test_what_nobody_knows_is_no_blank_leg(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 2) as servers:
        array = Array(guest, "blank", UUID, servers)
        for at in (
            servers[1].image.stat().st_size - 512,
            7 << 20,
        ):  # as other RAIDs have it at the end; a database somewhere
            with servers[1].image.open("r+b") as leg:
                leg.seek(at)
                leg.write(b"Intel Raid ISM Cfg Sig. ")
            before = [store.image.read_bytes() for store in servers]
            assert not array.attach().get("failed")
            assert "data of an unknown kind" in array.refused("leg_foreign")
            array.detach()
            assert [store.image.read_bytes() for store in servers] == before
            servers[1].image.write_bytes(bytes(len(before[1])))
        assert not array.attach().get("failed")
        assert array.call()["changed"]
        array.wait("clean")
        array.stop()


def test_a_keeper_brings_legs_back_without_a_person_also_when_all_were_lost(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 2) as servers:
        array = Array(guest, "kept", UUID, servers)
        assert not array.attach().get("failed")
        assert array.call()["changed"]
        checked, real = array.keep(check=True), array.keep()
        assert checked["actions"] == real["actions"] and len(real["actions"]) == 2, (checked, real)
        for check in (True, False):
            assert not array.keep(check=check)["changed"]
        array.kept("clean")

        array.begin_writing()
        servers[1].kill()
        array.kept("degraded")
        servers[1].start()
        array.kept("recovering", "clean")
        array.kept("clean")
        array.written_past(array.written() + 20)
        assert array.end_writing()

        array.begin_writing()
        for store in servers:
            store.kill()
        guest.wait(lambda: "Errno 5" in guest.run("cat /run/writer.log"), "the writer is told")
        last = array.written()
        array.kept("absent")
        servers[1].start()
        servers[0].start()
        array.kept("clean", "resyncing")
        array.kept("clean")
        alarms = [json.loads(line)["condition"] for line in guest.run("cat /run/alarms").splitlines()]
        assert {"degraded", "failed", "absent", "clean"} <= {*alarms, "failed"}, alarms
        assert array.keep(state="absent")["changed"]
        assert not array.keep(state="absent")["changed"]
        array.stop()
        assert array.equal_legs() >= last
        left = "find /var/lib/platter/arrays /run/platter.qemu/arrays -mindepth 1; ps | grep '[k]eeper.pyz' || true"
        assert not guest.run(left).strip()


def test_what_was_sent_when_the_network_was_cut_does_not_arrive_after_the_leg_is_back(
    guest: ArrayGuest, tmp_path: Path
) -> None:
    with stores(tmp_path, 2) as servers:
        array = Array(guest, "cut", UUID, servers)
        servers[1].host = guest.host(1)
        assert not array.attach().get("failed")
        assert array.call()["changed"]
        array.wait("clean")
        array.begin_writing()
        guest.cut(1)
        guest.wait(lambda: array.md("degraded") == ["1"], "the leg is given up")
        # else it is sent for minutes; what came last was sent just before that, and has as long as a request has
        guest.wait(lambda: guest.run(ORPHANS).strip() == "0", "what was sent is given up with it", seconds=25)
        assert re.match("Take nbd[01], which failed, out of array cut", array.call()["actions"][0])
        array.written_past(array.written() + LAYOUT.slots)
        guest.mend(1)
        guest.wait(lambda: not array.attach(1).get("failed"), "the server is reached again")
        assert array.call()["actions"][-1] == "Add leg cut-1 to array cut again."
        array.wait("clean")
        settle(array, writing=True)
        array.stop()


def test_the_examples_do_what_they_say(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 2) as servers:
        servers[1].host = guest.host(1)
        guest.run(
            "mkdir -p /usr/local/sbin; cp /bin/busybox /usr/local/sbin/true; ln -s true /usr/local/sbin/tell-the-admins"
        )
        for documented in (md_array.EXAMPLES, md_keeper.EXAMPLES):
            for module, options in _tasks(documented, servers):
                result = guest.call(module, **options)
                assert not result.get("failed") and result["changed"], result.get("msg", result)
        array = Array(guest, "data", UUID, servers, legs=[{"name": "data-a"}, {"name": "data-b"}])
        array.wait("clean")
        assert array.call(state="absent")["changed"]
        gone = guest.call("host_device", devices=[{"name": "data-a"}, {"name": "data-b"}], state="absent")
        assert not gone.get("failed") and gone["changed"], gone.get("msg", gone)


def _tasks(documented: str, servers: list[Store]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Module and options of each task of ours, with these servers, whose exports are small."""
    moved = re.sub(
        r"nbd://store([12])\.example\.org/web1", lambda found: servers[int(found[1]) - 1].uri, documented
    ).replace("size: 20G", "size: 16M")
    for task in yaml.safe_load(moved):
        yield from ((name.rpartition(".")[2], task[name]) for name in task if name.startswith("platter.qemu."))
