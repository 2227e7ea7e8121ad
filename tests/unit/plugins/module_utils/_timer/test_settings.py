"""What a timer is told, what the units and names become, and in which order a run does what it is told."""

from __future__ import annotations

import io
import subprocess
import sys
import typing as t
import zipfile
from datetime import datetime
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._timer import settings, take, unit
from ansible_collections.platter.qemu.plugins.module_utils._timer.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._timer.spec import TimerSpec
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_zipapp

NAME = "nightly-%Y%m%d-%H%M%S"
TAKE = {"image": "/srv/a", "format": "qcow2", "name": NAME}
PRUNED = {"image": "/srv/a", "format": "qcow2", "state": "pruned", "match": "nightly-*"}
PRUNE = {**PRUNED, "retention": {"keep_last": 2, "max_age": None}}


def params(**more: t.Any) -> t.Dict[str, t.Any]:
    return {"name": "web1", "on_calendar": "02:30", "snapshots": [TAKE, PRUNE], **more}


@pytest.mark.parametrize(
    ("more", "due"),
    [
        ({"name": "a/b"}, "bad_name"),
        ({"name": ".a"}, "bad_name"),
        ({"on_calendar": "daily\nExecStart=/bin/true"}, "bad_option"),
        ({"on_calendar": "%H"}, "bad_option"),
        ({"on_calendar": None}, "bad_option"),
        ({"randomized_delay": -1}, "bad_option"),
        ({"snapshots": []}, "bad_option"),
        ({"snapshots": [dict(TAKE, name=None)]}, "bad_name"),
        ({"snapshots": [dict(TAKE, name="nightly")]}, "bad_name"),
        ({"snapshots": [dict(TAKE, name="nightly-%%Y")]}, "bad_name"),
        ({"snapshots": [dict(TAKE, name="nightly-%Y-%j")]}, "bad_name"),
        ({"snapshots": [dict(TAKE, name="%Y%m%d")]}, "bad_name"),
        ({"snapshots": [dict(TAKE, image="srv/a")]}, "bad_path"),
        ({"snapshots": [dict(TAKE, kind="external")]}, "bad_option"),
        ({"snapshots": [dict(PRUNE, name=NAME)]}, "bad_option"),
        ({"snapshots": [dict(PRUNE, retention={})]}, "bad_option"),
        ({"snapshots": [dict(PRUNE, match=None)]}, "bad_option"),
    ],
)
def test_contradictions(more: t.Dict[str, t.Any], due: str) -> None:
    with pytest.raises(errors.SpecError) as refused:
        read_spec(params(**more))
    assert refused.value.reason == due
    asked = "timer %s" % more.get("name", "web1")
    if more.get("snapshots"):  # as image_snapshot says of its own
        asked = "the options for %s" % more["snapshots"][0]["image"]
    assert refused.value.message.startswith("refused: %s: " % asked)


@pytest.mark.parametrize(
    ("name", "comes_again"),
    [
        ("a-%Y%m%d-%H%M%S", None),
        ("a-%d.%m.%Y", None),
        ("monthly-%Y-%m", None),
        ("a-%Y", None),
        ("a-%d", "%Y"),
        ("a-%H%M%S", "%Y"),
        ("a-%Y-%d", "%m"),
        ("a-%Y%m%d-%M", "%H"),
    ],
)
def test_a_name_is_never_the_same_for_another_day(name: str, comes_again: t.Optional[str]) -> None:
    """It would be taken once, and all runs would say that nothing is to do."""
    asked = params(snapshots=[dict(TAKE, name=name)])
    if comes_again is None:
        assert read_spec(asked).settings
        return
    with pytest.raises(errors.SpecError, match="as it has no %s," % comes_again) as refused:
        read_spec(asked)
    assert refused.value.reason == "bad_name"


def test_absent_needs_nothing_but_the_name() -> None:
    assert read_spec({"name": "web1", "state": "absent"}) == TimerSpec("web1", "absent")


def test_the_date_of_the_run_is_in_the_name() -> None:
    moment = datetime(2026, 3, 2, 4, 5, 6)
    assert settings.dated("a-%Y%m%d-%H%M%S", moment) == "a-20260302-040506"
    assert settings.dated("100%%-%Y \u00e9", moment) == "100%-2026 \u00e9"


def test_what_was_not_said_is_not_written_down() -> None:
    told = settings.from_params(params(snapshots=[dict(TAKE, kind=None), PRUNE]))
    assert told["snapshots"] == [TAKE, dict(PRUNE, retention={"keep_last": 2})]
    assert settings.spec_of(told["snapshots"][1], datetime(2026, 3, 2)).retention.keep_last == 2  # type: ignore[union-attr]


def test_a_path_is_written_in_one_way() -> None:
    told = settings.from_params(params(snapshots=[dict(TAKE, image="//srv/./a")]))
    assert told["snapshots"] == [TAKE]


@pytest.mark.parametrize("seconds", [0, 7])
def test_a_run_waits_as_long_as_the_task(seconds: int) -> None:
    assert settings.from_params(params(lock_timeout=seconds))["lock_timeout"] == seconds


def test_entries_of_an_image_keep_their_order_and_those_of_a_vm_are_together() -> None:
    def entry(image: str, state: str, vm: str = "") -> t.Dict[str, t.Any]:
        return {"image": image, "state": state, **({"qmp_socket": vm} if vm else {})}

    a, b, c = (entry("/a", "present", "/vm"), entry("/b", "present"), entry("/c", "present", "/vm"))
    prune = entry("/a", "pruned", "/vm")
    assert settings.rounds([a, prune, b, c]) == [[[a, c], [b]], [[prune]]]


def test_the_units() -> None:
    spec = read_spec(params(randomized_delay=600))
    timer = unit.render_timer(spec).splitlines()
    for line in ("OnCalendar=02:30", "RandomizedDelaySec=600", "Persistent=true", "WantedBy=timers.target"):
        assert line in timer
    service = unit.render_service("web1", ["/usr/bin/python3", "/x.pyz", "/x.json"]).splitlines()
    assert "ExecStart=/usr/bin/python3 /x.pyz /x.json" in service and "Type=oneshot" in service
    assert "[Install]" not in service and "UMask=0022" in service
    assert any(line.startswith("After=") and "multi-user.target" in line for line in service)


def test_the_program_is_whole_and_always_the_same(tmp_path: Path) -> None:
    made = own_zipapp.build(take)
    assert made == own_zipapp.build(take)
    path = tmp_path / "snapshots.pyz"
    path.write_bytes(made)
    names = zipfile.ZipFile(io.BytesIO(made)).namelist()
    ours = [name[:-3].replace("/", ".") for name in names if name.endswith(".py") and "/__" not in name]
    code = "import sys, importlib; sys.path.insert(0, sys.argv[1]); [importlib.import_module(n) for n in sys.argv[2:]]"
    wanted = [name for name in ours if name != "__main__"]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, path, *wanted], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert any(name.endswith("._snapshot.live_merge") for name in wanted)
    assert not any("._module." in name for name in wanted)
