"""A guest that many tests use one after the other, without what a test that failed has left in it."""

from __future__ import annotations

import contextlib
from typing import Callable, ContextManager, Generic, Iterator, TypeVar

import pytest

from ansible_collections.platter.qemu.tests.lab.vm import Guest

G = TypeVar("G", bound=Guest)
#: so often another one is booted: where more tests fail, or more boots, it is none of the tests before
MOST = 5


class SharedGuest(Generic[G]):
    """Boots when it is first asked for. C(boot): has a new one while its block runs."""

    def __init__(self, session: pytest.Session, boot: Callable[[], ContextManager[G]]) -> None:
        self._session, self._boot = session, boot
        self._running = contextlib.ExitStack()
        self._guest: G | None = None
        self._boots = self._failed = 0

    def get(self) -> G:
        """The one that is there; another one if that has ended, or a test has failed since it was asked for last."""
        if self._guest is None or (self._spoiled(self._guest) and self._boots <= MOST):
            assert self._boots <= MOST, "it has not come up before"
            self.end()
            self._boots += 1
            self._guest = self._running.enter_context(self._boot())
        self._failed = self._session.testsfailed
        return self._guest

    def _spoiled(self, guest: G) -> bool:
        return self._session.testsfailed != self._failed or guest.process.poll() is not None

    def end(self) -> None:
        """Whatever it does."""
        self._guest = None
        self._running.close()


@contextlib.contextmanager
def shared(session: pytest.Session, boot: Callable[[], ContextManager[G]]) -> Iterator[SharedGuest[G]]:
    """For the fixture of a module or a session; the fixture of each test then gets the guest of now."""
    made = SharedGuest(session, boot)
    try:
        yield made
    finally:
        made.end()
