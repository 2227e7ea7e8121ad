"""Legs of arrays over NBD that a person has to look at: gone on alone, blank, of another array."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.array_guest import ArrayGuest, running_arrays
from ansible_collections.platter.qemu.tests.lab.arrays import Array
from ansible_collections.platter.qemu.tests.lab.shared_guest import SharedGuest, shared
from ansible_collections.platter.qemu.tests.lab.stores import stores

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("array guest")]
UUID, OTHER = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11", "00000000-1111-2222-3333-444444444444"


@pytest.fixture(scope="module")
def one_for_all(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGuest[ArrayGuest]]:
    with shared(request.session, lambda: running_arrays(tmp_path_factory.mktemp("guest"))) as made:
        yield made


@pytest.fixture
def guest(one_for_all: SharedGuest[ArrayGuest]) -> ArrayGuest:
    return one_for_all.get()


def test_a_leg_that_has_gone_on_alone_is_not_thrown_away(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 2) as servers:
        array = Array(guest, "data", UUID, servers)
        assert not array.attach().get("failed")
        assert array.call()["changed"]
        array.wait("clean")
        array.stop()
        # each of them alone, with the consent of a person who was wrong
        for alone, byte in ((0, 1), (1, 2)):
            assert not array.attach(alone).get("failed")
            array.refused("legs_missing")
            assert array.call(start_degraded=True)["array"]["condition"] == "degraded"
            guest.run(f"printf '\\{byte}' | dd of={array.link} bs=1 conv=fsync 2>&1")
            array.stop()
        before = [store.image.read_bytes() for store in servers]
        assert not array.attach().get("failed")
        array.refused("leg_diverged")
        array.refused("leg_diverged", start_degraded=True)
        array.keep()
        array.kept("absent")
        guest.wait(lambda: "leg_diverged" in guest.run("cat /run/platter.qemu/arrays/data.json"), "the keeper tells it")
        array.keep(state="absent")
        array.stop()
        assert [store.image.read_bytes() for store in servers] == before


def test_a_blank_disk_is_filled_only_if_it_is_meant_and_not_by_the_keeper(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 2) as servers:
        array = Array(guest, "data", UUID, servers)
        assert not array.attach().get("failed")
        assert array.call()["changed"]
        array.wait("clean")
        array.keep()
        servers[1].kill()
        array.kept("clean", "degraded")
        servers[1].image.write_bytes(bytes(16 << 20))
        servers[1].start()
        guest.wait(lambda: "leg_blank" in guest.run("cat /run/platter.qemu/arrays/data.json"), "the keeper tells it")
        assert not any(servers[1].image.read_bytes())
        array.refused("leg_blank")
        assert array.converge(fill=["data-1"])["actions"] == ["Fill blank leg data-1 from array data."]
        array.wait("clean")
        array.keep(state="absent")
        array.stop()
        array.equal_legs()


def test_a_keeper_does_not_attach_the_leg_of_another_array(guest: ArrayGuest, tmp_path: Path) -> None:
    with stores(tmp_path, 4) as servers:
        arrays = [Array(guest, "one", UUID, servers[:2]), Array(guest, "other", OTHER, servers[2:])]
        for array in arrays:
            assert not array.attach().get("failed")
            assert array.call()["changed"]
            array.wait("clean")
        arrays[1].stop()
        before = servers[3].image.read_bytes()
        arrays[0].keep()
        servers[1].kill()
        servers[3].kill()
        arrays[0].kept("clean", "degraded")
        # the other array's leg answers at this one's port, by its name
        image, servers[1].image = servers[1].image, servers[3].image
        servers[1].start()
        file = "/run/platter.qemu/arrays/one.json"
        guest.wait(lambda: "identity_mismatch" in guest.run(f"cat {file}"), "the keeper tells it")
        servers[1].kill()
        assert servers[3].image.read_bytes() == before
        servers[1].image = image
        servers[1].start()
        arrays[0].kept("clean")
        arrays[0].keep(state="absent")
        arrays[0].stop()
        arrays[0].equal_legs()
