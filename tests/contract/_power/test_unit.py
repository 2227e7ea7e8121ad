"""systemd's own reader finds nothing wrong with the units of VMs."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._power import definition, unit
from ansible_collections.platter.qemu.plugins.module_utils._power.spec import PowerSpec
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

SPEC = PowerSpec("web1", "/etc/platter/vm/web1", "/run/platter/web1.qmp", stop_timeout=0.5)
ODD = "/srv/a b%n$HOME${x};'\"\\\u00e9\n[Service]\nExecStart=/bin/false\\"
SPECS = (SPEC, replace(SPEC, vm="Odd.1_-", config=ODD, qmp_socket=ODD), replace(SPEC, vm="x" * 48, stop_timeout=86400))


def write(directory: Path, spec: PowerSpec) -> Path:
    made = definition.define(spec, "systemd", spec.config + "/start", ("-qmp", f"unix:{spec.qmp_socket},server=on"))
    path = directory / unit.unit_name(spec.vm)
    path.write_text(unit.as_unit(made, ("/usr/bin/python3", "-I", ODD), spec.stop_timeout).text)
    return path


def complaints(*paths: Path) -> str:
    """What systemd-analyze(1) says of these units."""
    argv = ["systemd-analyze", "verify", "--man=no", *map(str, paths)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)
    told = [line for line in done.stderr.splitlines() if "platter" in line]
    return "\n".join(told) or ("" if done.returncode == 0 else done.stderr)


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    assert complaints(*(write(tmp_path, spec) for spec in SPECS)) == ""


def test_it_would_say_so(tmp_path: Path) -> None:
    path = write(tmp_path, SPEC)
    path.write_text(path.read_text().replace("SendSIGKILL=", "SendSIGKIL="))
    assert "SendSIGKIL" in complaints(path)
