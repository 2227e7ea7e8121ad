"""What befalls the servers of an array: each hurt ends with all of them there again, and nobody has done anything else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from ansible_collections.platter.qemu.tests.lab.arrays import LAYOUT, Array
from ansible_collections.platter.qemu.tests.lab.stores import Store

#: of the socket tables of Linux (include/net/tcp_states.h): connections of nobody, whose last bytes are still being sent
ORPHANS = "cat /proc/net/tcp | grep -cE ' 0[49B] [0-9A-F]{8}:' || true"
STATUS = "/run/platter.qemu/arrays"


class Hurts:
    """C(array): has a keeper and a writer, and leg number n is reached by network n. C(other): another one with a keeper,
    whose first leg is taken for one of this array's. C(directory): for copies of legs.
    """

    def __init__(self, array: Array, other: Array, dice: random.Random, directory: Path) -> None:
        self._array, self._other, self._dice, self._directory = array, other, dice, directory
        self._copies: dict[str, Path] = {}

    def befall(self, kind: str) -> None:
        """One hurt: C(kill), C(freeze), C(cut), C(stale), C(swap) or C(all)."""
        number = self._dice.randrange(len(self._array.servers))
        getattr(self, f"_{kind}")(number, self._array.servers[number])

    def remember(self) -> None:
        """A leg as it is now, for C(stale). Nobody writes: of two states of one leg md knows only by its own notes which is
        older, and it makes none while an array is written to without a pause.
        """
        self._array.guest.wait(lambda: self._array.md("array_state") == ["clean"], "md has noted that nobody writes")
        store = self._dice.choice(self._array.servers)
        self._copies[store.name] = self._directory / f"{store.name}.old"
        shutil.copyfile(store.image, self._copies[store.name])

    def _lost(self) -> None:
        """The keeper has noticed, the writer has not, and goes on until it has written everywhere."""
        at = self._array.written()
        self._array.kept("degraded")
        self._array.written_past(at + self._dice.choice((2, LAYOUT.slots)))

    def _kill(self, _number: int, store: Store) -> None:
        store.kill()
        self._lost()
        store.start()
        self._array.kept("clean")

    def _freeze(self, _number: int, store: Store) -> None:
        store.freeze()
        self._lost()
        store.thaw()
        self._array.kept("clean")

    def _cut(self, number: int, _store: Store) -> None:
        self._array.guest.cut(number)
        self._lost()
        self._array.guest.mend(number)
        self._array.kept("clean")

    def _stale(self, _number: int, store: Store) -> None:
        """Its image has been restored to what it was some rounds ago."""
        store.kill()
        self._lost()
        if store.name in self._copies:
            shutil.copyfile(self._copies[store.name], store.image)
        store.start()
        self._array.kept("clean")

    def _swap(self, _number: int, store: Store) -> None:
        """Two ports are mixed up: each array finds a leg of the other."""
        wrong = self._other.servers[0]
        for each in (store, wrong):
            each.kill()
        self._lost()
        self._other.kept("degraded")
        before = [each.image.read_bytes() for each in (store, wrong)]
        self._exchange(store, wrong)
        for array in (self._array, self._other):
            self._told(array, "identity_mismatch")
        for each in (store, wrong):
            each.kill()
        assert [each.image.read_bytes() for each in (wrong, store)] == before, "a leg of another array was written to"
        self._exchange(store, wrong)
        for array in (self._array, self._other):
            array.kept("clean")

    @staticmethod
    def _exchange(one: Store, other: Store) -> None:
        """Of two servers that do not run; then they do."""
        one.image, other.image = other.image, one.image
        for each in (one, other):
            each.start()

    def _told(self, array: Array, reason: str) -> None:
        file = f"{STATUS}/{array.name}.json"
        array.guest.wait(lambda: reason in array.guest.run(f"cat {file}"), f"the keeper of {array.name} tells it")

    def _all(self, _number: int, _store: Store) -> None:
        """One after the other, and back in any order; the writer is told."""
        servers = list(self._array.servers)
        for store in self._dice.sample(servers, len(servers)):
            store.kill()
        self._array.refused_writing()
        self._array.kept("absent")
        for store in self._dice.sample(servers, len(servers)):
            store.start()
        self._array.kept("clean")


def settle(array: Array, *, writing: bool) -> int:
    """Nobody writes any more; each leg holds what it has to. How far that goes. C(writing): whether the writer goes on."""
    if writing:
        array.end_writing()
    guest = array.guest
    guest.wait(lambda: guest.run(ORPHANS).strip() == "0", "nothing that was sent before is still on its way")
    return array.as_due()
