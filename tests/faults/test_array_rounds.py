"""Arrays over NBD through many rounds of what befalls servers, each leg compared byte for byte with the model after each."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Callable, Iterator

import pytest

from ansible_collections.platter.qemu.tests.lab.amounts import amount, generator
from ansible_collections.platter.qemu.tests.lab.array_guest import ArrayGuest, running_arrays
from ansible_collections.platter.qemu.tests.lab.array_hurts import Hurts, settle
from ansible_collections.platter.qemu.tests.lab.arrays import Array
from ansible_collections.platter.qemu.tests.lab.shared_guest import SharedGuest, shared
from ansible_collections.platter.qemu.tests.lab.stores import stores

pytestmark = pytest.mark.xdist_group("array guest")
UUID, OTHER = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11", "00000000-1111-2222-3333-444444444444"
#: seconds; a server that has less than its share of a busy machine must not pass for one that is frozen
IO_TIMEOUT = 15
KINDS = ("kill", "freeze", "cut", "stale", "swap", "all")


@pytest.fixture(scope="module")
def one_for_all(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedGuest[ArrayGuest]]:
    with shared(request.session, lambda: running_arrays(tmp_path_factory.mktemp("guest"), networks=4)) as made:
        yield made


@pytest.fixture
def guest(one_for_all: SharedGuest[ArrayGuest]) -> ArrayGuest:
    return one_for_all.get()


@pytest.mark.parametrize(
    ("level", "legs", "policy", "rounds"),
    [
        ("raid1", 2, "bitmap", amount(3, 40)),
        pytest.param("raid1", 3, "bitmap", 12, marks=pytest.mark.soak),
        ("raid5", 3, "bitmap", amount(2, 12)),
        pytest.param("raid5", 3, "ppl", 6, marks=pytest.mark.soak),
        pytest.param("raid10", 4, "bitmap", 6, marks=pytest.mark.soak),
    ],
)
def test_no_byte_is_lost_whatever_befalls_the_servers(
    guest: ArrayGuest,
    tmp_path: Path,
    count: Callable[[str, int], None],
    level: str,
    legs: int,
    policy: str,
    rounds: int,
) -> None:
    dice = generator(f"array {level} {legs} {policy}")
    with stores(tmp_path, legs + 2) as servers:
        array = Array(guest, "data", UUID, servers[:legs], level=level, consistency_policy=policy)
        other = Array(guest, "other", OTHER, servers[legs:])
        for number, store in enumerate(array.servers):
            store.host = guest.host(number)
        for each in (array, other):
            assert not each.attach(io_timeout=IO_TIMEOUT).get("failed")
            assert each.call()["changed"]
            each.wait("clean")
            assert each.keep(io_timeout=IO_TIMEOUT)["changed"]
        hurts = Hurts(array, other, dice, tmp_path)
        for kind in _drawn(dice, rounds):
            array.begin_writing()
            hurts.befall(kind)
            settle(array, writing=kind != "all")
            hurts.remember()
            count(f"{level} over {legs} legs, {policy}: {kind}", 1)
        for each in (array, other):
            assert each.keep(state="absent")["changed"]
            each.stop()


def _drawn(dice: random.Random, rounds: int) -> list[str]:
    """Each kind about as often as any other, in no order."""
    kinds = (dice.sample(KINDS, len(KINDS)) * rounds)[:rounds]
    dice.shuffle(kinds)
    return kinds
