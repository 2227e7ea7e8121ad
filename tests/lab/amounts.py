"""How much the fault tests do: a seeded share by default, everything with SOAK=1."""

from __future__ import annotations

import os
import random
import typing as t

SOAK = os.environ.get("SOAK") == "1"
#: SEED=n repeats a run; a soak takes another each time
SEED = int(os.environ.get("SEED") or (random.SystemRandom().randrange(1 << 32) if SOAK else 1))
T = t.TypeVar("T")


def generator(name: str) -> random.Random:
    """A random generator of the seed for one test."""
    return random.Random(f"{SEED}:{name}")


def amount(by_default: int, in_soak: int) -> int:
    """How many."""
    return in_soak if SOAK else by_default


def share(things: t.Sequence[T], number: int, name: str) -> list[T]:
    """C(number) of the things by the seed, in their order; in a soak all of them."""
    if SOAK or number >= len(things):
        return list(things)
    chosen = sorted(generator(name).sample(range(len(things)), number))
    return [things[at] for at in chosen]


def bound(trials: int) -> str:
    """What no failure in so many trials tells at 95 %."""
    return f"0 of {trials}: below {100 * (1 - 0.05 ** (1 / trials)):.2g} %" if trials else "none tried"
