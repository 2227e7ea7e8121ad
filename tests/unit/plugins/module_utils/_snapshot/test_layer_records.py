"""How far a merge has come, by what is remembered of it and what its two files are now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._snapshot.layer_records import (
    begin_merge,
    is_copied,
    note_merged,
    note_point,
    rewritten,
    settle_point,
    snapshot_of,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.merge_stages import (
    after_merge,
    copy_state,
    no_merge,
)
from ansible_collections.platter.qemu.plugins.module_utils._snapshot.point_records import settle_left, settle_rewritten
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import FileFacts

THEN, SINCE = 5, 6
COPIED = {"merging": "/d/top", "copied": True, "copied_size": 9, "copied_mtime_ns": THEN, "size": 9, "mtime_ns": THEN}


def facts(mtime_ns: int, path: str = "/d/top") -> FileFacts:
    return FileFacts(path, "file", length=9, mtime_ns=mtime_ns)


@pytest.mark.parametrize(
    ("record", "file", "overlay", "in_use", "copied", "forked"),
    [
        ({"merging": "/d/top"}, THEN, THEN, False, False, False),
        ({**COPIED, "copied": False, "merged": True}, THEN, THEN, False, False, False),
        (COPIED, THEN, THEN, False, True, False),
        (COPIED, SINCE, THEN, False, True, False),
        (COPIED, THEN, SINCE, False, False, False),
        (COPIED, SINCE, SINCE, False, False, True),
        (COPIED, THEN, THEN, True, False, False),
        (COPIED, SINCE, THEN, True, False, True),
    ],
)
def test_what_was_copied_counts_while_the_overlay_is_as_it_was(
    record: dict[str, object], file: int, overlay: int, in_use: bool, copied: bool, forked: bool
) -> None:
    """A guest that uses one may have written to it."""
    assert copy_state(record, facts(file), facts(overlay), in_use=in_use) == (copied, forked)


def test_what_a_qemu_leaves_is_as_it_was_though_it_writes_its_tables() -> None:
    """Only while it is called so: somebody can give it its name again, and start a VM from it."""
    record = {**COPIED, "merging": "/d/top.leaving~"}
    assert copy_state(record, facts(SINCE), facts(SINCE, "/d/top.leaving~")) == (True, False)
    assert copy_state(record, facts(SINCE), facts(SINCE, "/d/top")) == (False, True)


def test_nothing_of_a_merge_is_left_after_it() -> None:
    merge = {"name": "s1", "heir": "s2", "heir_leaf": True, "merged": True, **COPIED}
    assert set(after_merge(merge)) == {"name", "date", "leaf", "settled", "overlays", "size", "mtime_ns"}
    assert after_merge({key: value for key, value in merge.items() if key != "heir"}) == {}
    assert set(no_merge(merge)) == {"name", "size", "mtime_ns"}


def test_what_was_copied_of_one_overlay_says_nothing_of_another(tmp_path: Path) -> None:
    base, top, other = (str(tmp_path / name) for name in ("base", "top", "other"))
    for path in (base, top, other):
        Path(path).write_bytes(b"x")
        os.utime(path, (THEN, THEN))
    begin_merge(base, top)
    note_merged(base)
    assert (is_copied(base, top), is_copied(base, other)) == (True, False)
    begin_merge(base, top)
    assert not is_copied(base, top)


def point(tmp_path: Path) -> str:
    path = str(tmp_path / "point")
    Path(path).write_bytes(b"x")
    note_point(path, "s1")
    settle_point(path)
    return path


def frozen(path: str) -> bool:
    return snapshot_of(path).get("mtime_ns") == os.stat(path).st_mtime_ns


def killed(path: str, base: str) -> None:
    """As a run that was killed while it wrote to the file, for a merge of C(base)."""
    process = os.fork()
    if process == 0:
        with rewritten(path, "s1", base):
            Path(path).write_bytes(b"header")
            os._exit(0)
    os.waitpid(process, 0)


def test_what_a_killed_merge_wrote_to_is_to_stay_as_it_is_when_that_merge_ends(tmp_path: Path) -> None:
    path = point(tmp_path)
    killed(path, "/d/base")
    assert not frozen(path)
    settle_rewritten([path], "/d/another")
    assert not frozen(path), "its merge has not ended"
    settle_rewritten([path], "/d/base")
    assert frozen(path) and "rewriting" not in snapshot_of(path)


def test_a_merge_that_is_done_again_writes_to_what_it_wrote_to(tmp_path: Path) -> None:
    path = point(tmp_path)
    killed(path, "/d/base")
    with rewritten(path, "s1", "/d/base"):
        Path(path).write_bytes(b"other header")
    assert frozen(path)


def test_what_others_have_written_to_stays_so(tmp_path: Path) -> None:
    path = point(tmp_path)
    os.utime(path, (SINCE, SINCE))
    with rewritten(path, "s1", "/d/base"):
        Path(path).write_bytes(b"header")
    settle_left([path])
    assert not frozen(path) and "mtime_ns" in snapshot_of(path)


def test_a_point_of_a_running_vm_is_settled_when_the_next_is_taken(tmp_path: Path) -> None:
    """The run was killed before it noted what the file is to stay."""
    path = point(tmp_path)
    note_point(path, "s1", settled=False)
    settle_left([path])
    assert frozen(path)
    killed(path, "/d/base")
    settle_left([path])
    assert frozen(path)
