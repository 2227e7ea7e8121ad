"""What is written for libvirt is what libvirt's own schema allows: of the lines that people have written, and of many VMs.

Needs xmllint (libxml2-utils) and the schema (libvirt0, in /usr/share/libvirt/schemas, or where LIBVIRT_SCHEMAS says).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._drive import (
    contradictions,
    facts,
    libvirt_style,
    parse_arguments,
    read_spec,
)
from ansible_collections.platter.qemu.plugins.module_utils._drive.spec import DrivesSpec
from ansible_collections.platter.qemu.tests.lab.drive_corpus import lines
from ansible_collections.platter.qemu.tests.lab.drives import vms

pytestmark = pytest.mark.soak
SCHEMA = Path(os.environ.get("LIBVIRT_SCHEMAS", "/usr/share/libvirt/schemas")) / "domain.rng"
DEVICES = ("virtio-blk-pci", "scsi-hd", "scsi-cd", "ide-hd", "ide-cd", "usb-storage", "floppy")
DOMAIN = """<domain type='qemu'><name>a</name><memory>65536</memory><iothreads>9</iothreads>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>%s</devices></domain>"""


def written(spec: DrivesSpec) -> str:
    """The disks of it; nothing where libvirt has no words for them."""
    try:
        return "".join(libvirt_style.disks(spec, lossy=True))
    except errors.SpecError as exc:
        assert exc.reason == "style_cannot"
        return ""


def with_formats(spec: DrivesSpec) -> DrivesSpec:
    """As a user would say them where the line does not: raw."""
    drives = (
        replace(each, backend=replace(each.backend, driver=each.backend.driver or "raw")) if each.backend else each
        for each in spec.drives
    )
    return replace(spec, drives=tuple(drives))


def absolute(told: t.Any) -> t.Any:
    """The same with absolute paths, as libvirt has no others."""
    if isinstance(told, dict):
        paths = {key: value for key, value in told.items() if key in ("path", "filename") and isinstance(value, str)}
        moved = {key: value if value.startswith("/") else "/" + value for key, value in paths.items()}
        return {key: absolute(value) for key, value in told.items()} | moved
    return [absolute(each) for each in told] if isinstance(told, list) else told


def of_people() -> t.Iterator[str]:
    for line in lines():
        if not line.reason:
            spec = with_formats(parse_arguments.parse(parse_arguments.words(line.text)).spec)
            yield written(read_spec.read(absolute(facts.of_spec(spec))))


def of_any_vms() -> list[str]:
    found: list[str] = []

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(vms(DEVICES), st.sampled_from(("pc", "q35")))
    def collect(tasks: list[dict[str, t.Any]], machine: str) -> None:
        spec = read_spec.read(tasks, machine)
        assume(not list(contradictions.found(spec)))
        found.append(written(spec))

    collect()
    return found


@pytest.mark.parametrize("texts", [of_people, of_any_vms])
def test_libvirt_would_take_what_is_written(tmp_path: Path, texts: t.Callable[[], t.Iterable[str]]) -> None:
    xmllint = shutil.which("xmllint")
    if xmllint is None or not SCHEMA.exists():
        pytest.skip(f"xmllint or {SCHEMA} is not installed")
    # libvirt 9.0 has no ssh among its protocols; later ones have. Names of hosts have no underscores there
    known = [text.replace("my_nbd_server", "server") for text in texts() if text and 'protocol="ssh"' not in text]
    assert len(known) >= 100
    for number, text in enumerate(known):
        (tmp_path / f"{number}.xml").write_text(DOMAIN % text, encoding="utf-8")
    files = sorted(tmp_path.iterdir())
    for start in range(0, len(files), 200):
        command = [xmllint, "--noout", "--relaxng", SCHEMA, *files[start : start + 200]]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    (tmp_path / "wrong.xml").write_text(DOMAIN % known[0].replace("<target ", "<targets "), encoding="utf-8")
    command = [xmllint, "--noout", "--relaxng", SCHEMA, tmp_path / "wrong.xml"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
