"""Units of exports: what was written is read back, nothing in a name becomes a directive, and images stay in reach."""

from __future__ import annotations

import re
import typing as t
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.platter.qemu.plugins.module_utils._export import definition, unit
from ansible_collections.platter.qemu.plugins.module_utils._export.ground import Ground
from ansible_collections.platter.qemu.plugins.module_utils._export.spec import ExportSpec, TlsSpec
from ansible_collections.platter.qemu.plugins.module_utils._export.state import Definition

SPEC = ExportSpec("web1", "/run/platter/web1.sock", "/i/a.qcow2", "qcow2")
#: what systemd, a shell or a reader of lines could take for more; and a byte that is no UTF-8
ODD = st.text("%${}\"'\\; \t\n\r\x00\x7f[]=#:a\u00e9\u2028\udcff", max_size=12)
SPECS = st.builds(
    replace,
    st.just(SPEC),
    socket=ODD.map(lambda text: "/s/" + text),
    image=ODD.map(lambda text: "/i/" + text),
    description=st.none() | ODD,
    snapshot=st.none() | ODD,
    read_only=st.booleans(),
)


def unit_of(spec: ExportSpec) -> Definition:
    ground = Ground(str(spec.image), False, "/usr/bin/qemu-nbd", "/var/lib/platter", "systemd")
    return unit.as_unit(spec.name, definition.define(spec, ground), str(spec.image))


def directives(made: Definition, key: str) -> t.List[str]:
    return [line[len(key) + 1 :] for line in made.text.splitlines() if line.startswith(key + "=")]


def words_of(line: str) -> t.List[str]:
    """As systemd takes a command line apart: quotes and C escapes first, then its own specifiers, then variables."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    return [_meant(quoted or bare) for quoted, bare in words]


def _meant(word: str) -> str:
    data = re.sub(
        rb"\\(x[0-9a-f]{2}|.)",
        lambda m: bytes([int(m[1][1:], 16)]) if len(m[1]) == 3 else m[1],
        word.encode(),
        flags=re.DOTALL,
    )
    text = data.decode("utf-8", "surrogateescape")
    assert not re.search(r"(?<!%)(%%)*%(?!%)|(?<!\$)(\$\$)*\$(?!\$)", text), text
    return text.replace("%%", "%").replace("$$", "$")


@given(SPECS)
def test_what_is_written_is_read_back_whatever_the_names(spec: ExportSpec) -> None:
    made = unit_of(spec)
    assert unit.parse(made.text) == made
    (line,) = directives(made, "ExecStart")
    assert words_of(line) == [
        word.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for word in made.argv
    ]


@given(SPECS)
def test_no_name_becomes_a_directive(spec: ExportSpec) -> None:
    plain = unit_of(replace(SPEC, socket="/s/s", read_only=spec.read_only)).text
    keys = [line.partition("=")[0] for line in plain.splitlines()]
    text = unit_of(spec).text
    assert [line.partition("=")[0] for line in text.split("\n")[:-1]] == keys
    assert len(text.splitlines()) == len(keys)


@pytest.mark.parametrize(
    "text", ["", "[X-Platter]\nDefinition=", '# x\n[X-Platter]\nDefinition={"argv": 1}\n', "[Service]"]
)
def test_a_unit_of_others_is_none_of_ours(text: str) -> None:
    assert unit.parse(text) is None


def test_a_writable_server_is_never_killed_and_one_that_only_reads_writes_nothing() -> None:
    reads, writes = unit_of(SPEC), unit_of(replace(SPEC, read_only=False))
    assert directives(reads, "ProtectSystem") == ["strict"] and not directives(reads, "SendSIGKILL")
    assert directives(writes, "ProtectSystem") == ["full"] and directives(writes, "SendSIGKILL") == ["no"]
    assert directives(reads, "DeviceAllow") == ["block-* r"]
    assert directives(unit_of(replace(SPEC, socket="/tmp/s")), "ReadWritePaths") == ["-/tmp"]


@pytest.mark.parametrize("image", ["/usr/local/a", "/etc/a", "/boot/a"])
def test_an_image_among_the_system_can_be_written_to(image: str) -> None:
    assert not directives(unit_of(replace(SPEC, image=image, read_only=False)), "ProtectSystem")


@pytest.mark.parametrize(
    "hides", ["ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateNetwork", "InaccessiblePaths"]
)
def test_nothing_is_hidden_from_it(hides: str) -> None:
    assert not directives(unit_of(SPEC), hides)


def test_it_waits_for_the_file_systems_of_all_that_it_needs() -> None:
    tls = TlsSpec(x509_dir="/t/pki", authorized=("CN=a",))
    made = unit_of(replace(SPEC, socket=None, bind="192.0.2.1", tls=tls, image="/i/b c/\u00e9/a.qcow2"))
    assert directives(made, "RequiresMountsFor") == ["/i /t/pki"]
    assert directives(made, "After") == ["network-online.target"]
    assert not directives(unit_of(replace(SPEC, socket=None, bind="127.0.0.1")), "After")


def test_a_stop_timeout_is_that_of_the_unit() -> None:
    assert directives(unit_of(replace(SPEC, stop_timeout=7.0)), "TimeoutStopSec") == ["7"]
    assert unit_of(replace(SPEC, stop_timeout=7.0)) != unit_of(SPEC)


def test_a_low_port_needs_a_capability() -> None:
    low = unit_of(replace(SPEC, socket=None, bind="127.0.0.1", port=809))
    assert "CAP_NET_BIND_SERVICE" in directives(low, "CapabilityBoundingSet")[0]


def test_a_unit_tells_whose_it_is() -> None:
    for name in ("web1", ":lot", "platter-nbd-x.service"):
        assert unit.name_in(unit.unit_name(name)) == name
    assert unit.name_in("sshd.service") == ""
