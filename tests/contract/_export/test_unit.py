"""systemd's own reader finds nothing wrong with the units of exports."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from ansible_collections.platter.qemu.plugins.module_utils._export import definition, places, servers, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE

SPEC = ExportSpec("web1", "/run/platter/web1.sock", "/srv/a.qcow2", "qcow2")
ODD = "/srv/a b%n$HOME${x};'\"\\\u00e9\n[Service]\nExecStart=/bin/false\\"
SPECS = (
    SPEC,
    replace(SPEC, name="w", read_only=False, shared=1, cache="writethrough"),
    replace(SPEC, name="Odd.1_-", image=ODD, socket=ODD, description=ODD, snapshot=ODD),
    replace(SPEC, name="x" * 63, socket=None, bind="192.0.2.1", tls=TlsSpec("/etc/pki/qemu", ('CN=a, "b" %x',))),
    replace(SPEC, name="keys", socket=None, bind="::1", port=809, tls=TlsSpec(psk_file="/etc/keys.psk")),
    replace(SPEC, name="usr", read_only=False, image="/usr/a"),
    replace(SPEC, name="kit", format="raw", server="nbdkit", read_only=False, cow=True, socket=ODD),
    replace(SPEC, name="in", server="storage_daemon", daemon="lots"),
    replace(SPEC, name="tcp", server="storage_daemon", daemon="far", socket=None, bind="::1"),
)


def write(directory: Path, spec: ExportSpec) -> Path:
    server = "qemu_nbd" if spec.server == "auto" else spec.server
    program = shutil.which(servers.PROGRAMS[server])
    assert program
    ground = Ground(str(spec.image), False, program, "/var/lib/platter/nbd/x", "systemd", server)
    ours = ("/usr/bin/python3", "-I", ODD)
    made = definition.define(spec, ground._replace(holder=ours, loader=ours, monitor="/run/platter/x.qmp"))
    name = places.host_name(made.daemon) if made.host else spec.name
    path = directory / unit.unit_name(name)
    path.write_text(unit.as_unit(name, made.host or made, "" if made.host else str(spec.image)).text)
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
    path.write_text(path.read_text().replace("ProtectSystem=", "ProtectSystm="))
    assert "ProtectSystm" in complaints(path)
