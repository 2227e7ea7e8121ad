"""Lets plain pytest import ansible_collections.platter.qemu, and sets how hard hypothesis looks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

CHECKOUT = Path(__file__).resolve().parents[1]


def _collections_tree() -> Path:
    """The directory above ansible_collections: the real one, or a link under .build."""
    if CHECKOUT.parts[-3:] == ("ansible_collections", "platter", "qemu"):
        return CHECKOUT.parents[2]
    tree = CHECKOUT / ".build" / "collections"
    link = tree / "ansible_collections" / "platter" / "qemu"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(CHECKOUT, target_is_directory=True)
    return tree


if "ansible_collections" not in sys.modules:
    sys.path.insert(0, str(_collections_tree()))

set_hypothesis_home_dir(CHECKOUT / ".build" / "hypothesis")
settings.register_profile("gate", deadline=None, derandomize=True, database=None)
settings.register_profile("soak", deadline=None, max_examples=20_000, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups of tests stay together: xdist 3.8 puts their names where pytest 9.2 does not look (pytest-xdist issue 1386)."""
    for item in items:
        named = getattr(item, "_nodeid", item.nodeid)
        if named != item.nodeid:
            item._id = type(item.id).parse(named)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def _shared_guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from ansible_collections.platter.qemu.tests.lab.shared_guest import shared  # the tree is known from here on
    from ansible_collections.platter.qemu.tests.lab.vm import running_guest

    with shared(request.session, lambda: running_guest(tmp_path_factory.mktemp("guest"))) as made:
        yield made


@pytest.fixture
def guest(_shared_guest: Any) -> Iterator[Any]:
    """With a guest agent and no disk. For tests of the xdist group C(guest), so that it boots once.

    Between tests it stands still: it would use a third of a processor until the last test of all has ended.
    """
    booted = _shared_guest.get()
    booted.monitor.execute("cont")
    yield booted
    if booted.process.poll() is None:
        booted.monitor.execute("stop")
