"""Where root's locks are."""

from __future__ import annotations

import os

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._tools import locks


def test_nobody_else_can_make_the_directory_of_roots_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    above = os.stat(os.path.dirname(locks.lock_directory()))
    assert (above.st_uid, above.st_mode & 0o022) == (0, 0)
