"""Many hosts at once: each gets its own disk and no other, and of those that want the same one for writing one gets it."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import devices, exports
from ansible_collections.platter.qemu.tests.lab.amounts import amount
from ansible_collections.platter.qemu.tests.lab.hosts import ADDRESS, Hosts, hosts, under
from ansible_collections.platter.qemu.tests.lab.loops import HAVE_LOOPS
from ansible_collections.platter.qemu.tests.lab.modules import call, process
from ansible_collections.platter.qemu.tests.lab.oracle import create
from ansible_collections.platter.qemu.tests.lab.zygote import RACE_SECONDS, Zygote

HAVE_FUSE = os.path.exists("/dev/fuse")
pytestmark = pytest.mark.skipif(not (HAVE_LOOPS and HAVE_FUSE), reason="needs root, loop devices and FUSE")
Count = t.Callable[[str, int], None]
Task = t.Mapping[str, t.Any]
MIB = 1 << 20
CLIENTS = amount(2, 20)
WHERE = {"bind": ADDRESS, "port": 10809}


def on(host: str, module: str, options: Task) -> dict[str, t.Any]:
    """The result of a module on one host."""
    return together([(host, options)], module)[0]


def together(tasks: t.Sequence[tuple[str, Task]], module: str = "host_device") -> list[dict[str, t.Any]]:
    """The results of all of them, begun at once."""
    begun = [process(module, under=under(host), **options) for host, options in tasks]
    printed = [each.communicate(timeout=300) for each in begun]
    assert all(out.strip() for out, _err in printed), printed
    return [dict(json.loads(out.splitlines()[-1])) for out, _err in printed]


@contextlib.contextmanager
def detached(names: t.Mapping[str, str]) -> t.Iterator[None]:
    """Devices (by host) go with the block, there and then here, and nothing of them is left."""
    with devices.cleaned(*names.values()):
        try:
            yield
        finally:
            together([(host, {"name": name, "state": "absent"}) for host, name in names.items()])


@contextlib.contextmanager
def served(there: Hosts, *names: str, **options: t.Any) -> t.Iterator[None]:
    """Exports of the server end with the block."""
    try:
        with exports.cleaned(*names):
            result = on(there.server, "nbd_export", options)
            assert result.get("changed"), result.get("msg")
            yield
    finally:
        assert not [each for name in names for each in exports.leftovers(name)]


def test_each_host_gets_its_own_disk(place: Path, count: Count) -> None:
    name = exports.new_name()
    keys = call("nbd_keys", directory=str(place / "pki"), server=[ADDRESS], clients=[f"c{n}" for n in range(CLIENTS)])
    keys = keys["nbd_keys"]
    entries = [{"name": f"{name}-{n}", "image": str(create(place / f"{n}.raw", "raw", "1M"))} for n in range(CLIENTS)]
    for n, entry in enumerate(entries):
        Path(entry["image"]).write_bytes(bytes([n + 1]) * MIB)
    tls = {"x509_dir": keys["x509_dir"], "authorized": keys["authorized"]}
    options = {**WHERE, "daemon": name, "format": "raw", "tls": tls, "shared": 2 * CLIENTS, "exports": entries}
    with hosts(CLIENTS) as there, served(there, *(entry["name"] for entry in entries), **options):
        names = dict(zip(there.clients, (entry["name"] for entry in entries), strict=True))
        tasks = [
            (host, {"source": f"nbds://{ADDRESS}/{each}", "tls_certificates": keys["clients"][f"c{n}"]})
            for n, (host, each) in enumerate(names.items())
        ]
        with detached(names):
            results = together(tasks)
            assert [result.get("msg") for result in results] == [None] * CLIENTS
            assert len({result["device"]["path"] for result in results}) == CLIENTS
            for n, result in enumerate(results):
                assert Path(result["device"]["link"]).read_bytes() == bytes([n + 1]) * MIB
            assert not any(result["changed"] for result in together(tasks))
    count("devices claimed at once by hosts", CLIENTS)


def test_of_hosts_that_want_one_disk_for_writing_one_gets_it(place: Path, count: Count) -> None:
    name, image = exports.new_name(), create(place / "one.raw", "raw", "1M")
    options = {"name": name, "image": str(image), "format": "raw", "read_only": False, "shared": 1}
    more = {**WHERE, "insecure_plaintext": True}
    with hosts(CLIENTS) as there, served(there, name, **options, **more):
        names = {host: f"{name}-{n}" for n, host in enumerate(there.clients)}
        claim = {"source": f"nbd://{ADDRESS}/{name}", "read_only": False}
        with detached(names):
            # all who do not get it wait for so long, and on a busy machine all
            for seconds in (amount(10, 20), 60, 180):
                results = together([(host, dict(claim, name=each, timeout=seconds)) for host, each in names.items()])
                winners = [result for result in results if not result.get("failed")]
                if winners:
                    break
            assert len(winners) == 1, [result.get("msg") for result in results]
            reasons = {result["reason"] for result in results if result.get("failed")}
            # the last: they have one lock here, as they are one machine in all but the network
            assert reasons <= {"export_unresponsive", "server_failed", "lock_timeout"}, results
            assert [each for each in names.values() if devices.servers(each)] == [winners[0]["device"]["name"]]
    count("hosts that wanted one disk", CLIENTS)


# --- one host, many tasks at once


def test_of_many_tasks_for_one_export_one_starts_it(zygote: Zygote, place: Path, count: Count) -> None:
    name, image = exports.new_name(), create(place / "a.qcow2", "qcow2", "1M")
    tasks = [{"name": name, "image": str(image), "format": "qcow2", "supervisor": "process"}] * amount(4, 20)
    with exports.cleaned(name):
        results = [child.result() for child in _at_once(zygote, tasks)]
        assert [result.get("msg") for result in results] == [None] * len(tasks)
        assert sum(result["changed"] for result in results) == 1 and exports.server_of(name)
    count("exports asked for at once", len(tasks))


def test_of_many_exports_that_write_to_one_image_one_is_served(zygote: Zygote, place: Path, count: Count) -> None:
    image = create(place / "a.qcow2", "qcow2", "1M")
    names = [exports.new_name() for _each in range(amount(4, 20))]
    more = {"image": str(image), "format": "qcow2", "read_only": False, "supervisor": "process"}
    with exports.cleaned(*names):
        results = [child.result() for child in _at_once(zygote, [{"name": name, **more} for name in names])]
        assert sum(result["changed"] for result in results) == 1, results
        assert {result.get("reason") for result in results} == {None, "image_in_use"}
    count("exports asked for at once", len(names))


def _at_once(zygote: Zygote, tasks: t.Sequence[Task]) -> t.Sequence[t.Any]:
    patient = {"lock_timeout": RACE_SECONDS}
    children = [zygote.start("nbd_export", {**each, **patient}, stopped=True) for each in tasks]
    for child in children:
        child.go_on()
    for child in children:
        child.wait()
    return children
