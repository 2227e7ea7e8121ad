"""What a keeper is told, and what it consists of."""

from __future__ import annotations

import io
import subprocess
import sys
import typing as t
import zipfile
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._keeper import settings, unit, watch
from ansible_collections.platter.qemu.plugins.module_utils._keeper.read_spec import read_spec
from ansible_collections.platter.qemu.plugins.module_utils._tools import own_zipapp

UUID = "6f9b0c1e-6f0c-4c43-9a5e-0f4b3a0d7c11"


def params(**more: t.Any) -> t.Dict[str, t.Any]:
    legs = [{"name": name, "source": "nbd://%s.example.org/x" % name} for name in "ab"]
    return {"name": "data", "uuid": UUID, "legs": legs, "size": "16M", "io_timeout": 7, "timeout": 30, **more}


def test_a_leg_is_the_blank_or_own_export_of_that_size() -> None:
    device = settings.device_of(settings.from_params(params()), "b")
    assert (device.source, device.read_only, device.io_timeout) == ("nbd://b.example.org:10809/x", False, 7)
    assert (device.identity.size, device.identity.uuid) == (16 << 20, UUID)
    assert set(device.identity.signature) == {"none", "linux_raid_member"}
    array = settings.array_of(settings.from_params(params()))
    assert [leg.server for leg in array.legs] == ["a.example.org", "b.example.org"]


def test_of_two_legs_that_have_gone_on_alone_none_is_chosen() -> None:
    assert not settings.may_go_without("leg_diverged", runs=False)
    assert settings.may_go_without("leg_diverged", runs=True)
    assert settings.may_go_without("leg_foreign", runs=False)


@pytest.mark.parametrize(
    ("more", "due"),
    [
        ({"name": "a/b"}, "bad_name"),
        ({"alarm": ["mail"]}, "bad_option"),
        ({"legs": [{"name": name, "source": "nbd://one/x"} for name in "ab"]}, "legs_share_server"),
        ({"legs": [{"name": "a", "source": "/srv/a"}, {"name": "b", "source": "nbd://b/x"}]}, "bad_option"),
        ({"legs": [{"name": "a", "source": "gopher://a"}, {"name": "b", "source": "nbd://b/x"}]}, "bad_path"),
    ],
)
def test_contradictions(more: t.Dict[str, t.Any], due: str) -> None:
    with pytest.raises(errors.SpecError) as refused:
        read_spec(params(**more), systemd_runs=False)
    assert refused.value.reason == due


def test_the_supervisor_is_systemd_where_that_runs() -> None:
    assert read_spec(params(), systemd_runs=True).supervisor == "systemd"
    assert read_spec(params(supervisor="process"), systemd_runs=True).supervisor == "process"
    assert "ExecStart=/usr/bin/python3 /x.pyz /x.json\n" in unit.render(
        "data", ["/usr/bin/python3", "/x.pyz", "/x.json"]
    )


def test_the_program_is_whole_and_always_the_same(tmp_path: Path) -> None:
    made = own_zipapp.build(watch)
    assert made == own_zipapp.build(watch)
    path = tmp_path / "keeper.pyz"
    path.write_bytes(made)
    names = zipfile.ZipFile(io.BytesIO(made)).namelist()
    ours = [name[:-3].replace("/", ".") for name in names if name.endswith(".py") and "/__" not in name]
    code = "import sys, importlib; sys.path.insert(0, sys.argv[1]); [importlib.import_module(n) for n in sys.argv[2:]]"
    wanted = [name for name in ours if name != "__main__"]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, path, *wanted], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(wanted) > 50
