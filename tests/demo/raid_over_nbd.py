"""What becomes of a VM when its storage server dies: playbooks/raid_over_nbd.yml on two servers and a guest of this machine,
and a timeline of what happens. Nothing of it is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, os.environ["ANSIBLE_COLLECTIONS_PATH"])  # where tests/tools/run_in_venv.py has put this checkout

from ansible_collections.platter.qemu.tests.lab.ports import free_port
from ansible_collections.platter.qemu.tests.lab.sequence import Layout, in_raw
from ansible_collections.platter.qemu.tests.lab.ssh_guest import SshGuest, running_ssh
from ansible_collections.platter.qemu.tests.lab.stores import HOST

ROOT = Path(__file__).resolve().parents[2]
SIZE, DATA = "20M", 1 << 20
STATUS = "/run/platter.qemu/arrays/data.json"
LAYOUT = Layout(slots=256)
SECONDS = 300.0


class Timeline:
    """Says what happens, and when."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        sys.stdout.write(f"{time.monotonic() - self.started:7.1f} s  {text}\n")
        sys.stdout.flush()


class Demo:
    """C(directory): for all that it needs, servers' images too."""

    def __init__(self, directory: Path, guest: SshGuest, line: Timeline) -> None:
        self.directory, self.guest, self.say = directory, guest, line.say
        self.ports = {name: free_port() for name in ("store1", "store2")}
        self.inventory = directory / "inventory.json"
        self.inventory.write_text(json.dumps(self._hosts()))

    def _hosts(self) -> dict[str, object]:
        """An inventory."""
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        server = {
            **here,
            "raid_bind": "127.0.0.1",
            "raid_address": HOST,
            "raid_directory": str(self.directory / "images"),
        }
        servers = {name: {**server, "raid_port": port} for name, port in self.ports.items()}
        shared = {"raid_size": SIZE, "nbd_raid_interval": 1, "nbd_raid_packages_install": False}
        groups = {
            "raid_storage": {"hosts": servers},
            "raid_clients": {"hosts": {"vm1": self.guest.variables()}},
        }
        return {"all": {"vars": shared, "children": groups}}

    def play(self, *more: str, quiet: bool = False) -> None:
        """The playbook; what it says is shown only if it fails."""
        command = ["ansible-playbook", "-i", str(self.inventory), str(ROOT / "playbooks/raid_over_nbd.yml"), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{done.stdout}\n{done.stderr}")
        if quiet:
            return
        for result in done.stdout.rpartition("PLAY RECAP")[2].splitlines()[1:]:
            if result.strip():
                words = result.split()
                self.say(f"    {words[0]}: {words[2]} {words[3]} {words[5]}")

    def clear(self) -> None:
        """What is left of the servers."""
        self.play("-e", "raid_state=absent", "--limit", "raid_storage", quiet=True)

    def written(self) -> int:
        """How many blocks the VM knows to be on its disk."""
        return int(self.guest.run("cat /run/written 2>/dev/null || echo 0").strip() or 0)

    def condition(self) -> str:
        """What the keeper in the VM says of its array."""
        told = self.guest.run(f"grep '\"condition\"' {STATUS} 2>/dev/null || true")
        return told.partition(": ")[2].strip(' ",\n')

    def wait(self, fact: Callable[[], object], what: str) -> None:
        """Until it is so."""
        end = time.monotonic() + SECONDS
        while not fact():
            if time.monotonic() >= end:
                raise SystemExit(f"{what}: not within {SECONDS:g} s\n{self.guest.run('cat ' + STATUS)}")
            time.sleep(0.2)

    def lose_power(self, name: str) -> None:
        """As if the machine had: the server of the export is killed, and before that what would start it again."""
        told = subprocess.run(
            ["ss", "-Hltnp", f"sport = :{self.ports[name]}"], capture_output=True, text=True, check=True
        ).stdout
        server = int(told.partition("pid=")[2].partition(",")[0])
        parent = int(Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[1])
        if parent > 1:
            os.kill(parent, signal.SIGKILL)
        os.kill(server, signal.SIGKILL)

    def compare(self) -> int:
        """The legs, byte by byte; how far the sequence of the VM goes on both."""
        held = [(self.directory / "images" / f"{name}.raw").read_bytes()[DATA:] for name in self.ports]
        if held[0] != held[1]:
            raise SystemExit("the legs differ")
        (self.directory / "data").write_bytes(held[0])
        return in_raw(self.directory / "data", LAYOUT)


def show(demo: Demo) -> None:
    """All of it."""
    say, guest = demo.say, demo.guest
    say("the playbook: two servers with a leg each, RAID1 over both in the VM, and a keeper")
    demo.play()
    demo.wait(lambda: demo.condition() == "clean", "the legs are equal")
    say("the array is clean")
    guest.run(
        f"python3 -I -S /writer.py {LAYOUT.slots} {LAYOUT.spacing} /dev/md/data >/run/writer.log 2>&1 & echo $! >/run/pid"
    )
    demo.wait(lambda: demo.written() > 50, "the VM writes")
    say(f"the VM writes block after block, each on the disk before the next: {demo.written()} so far")
    demo.lose_power("store2")
    at, killed = demo.written(), time.monotonic()
    say("store2 has lost its power")
    demo.wait(lambda: demo.written() > at + 1, "the VM goes on")
    say(f"the VM has written on {time.monotonic() - killed:.1f} s later, and has seen no error")
    demo.wait(lambda: demo.condition() == "degraded", "the keeper has noticed")
    say("the keeper: degraded, leg-store2 is away (an alarm would be raised now)")
    demo.wait(lambda: demo.written() > at + 100, "the VM writes meanwhile")
    say(f"the VM has written {demo.written() - at} blocks that store2 does not have")
    demo.play("--limit", "store2")
    say("store2 is back, with what it had")
    demo.wait(lambda: demo.condition() in ("recovering", "clean"), "the leg is back")
    demo.wait(lambda: demo.condition() == "clean", "the leg is filled")
    say(f"the keeper: clean; it has found the leg to be the right one, added and filled it ({demo.written()} blocks)")
    said = guest.run("kill $(cat /run/pid); cat /run/writer.log").strip()
    if said:
        raise SystemExit(f"the writer: {said}")
    last = demo.written()
    say("the playbook with raid_state=absent: keeper, array, devices and exports go")
    demo.play("-e", "raid_state=absent")
    held = demo.compare()
    say(f"both legs are equal byte for byte, with all {last} blocks of the VM ({held}); it saw no error")


def main() -> int:
    """A guest, the demo, and nothing left."""
    line = Timeline()
    # so that what is begun is also ended where somebody else ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="platter-raid.") as name, contextlib.ExitStack() as afterwards:
        line.say("a VM boots (no disk of its own, no KVM)")
        with running_ssh(Path(name)) as guest:
            demo = Demo(Path(name), guest, line)
            # whatever happens: by then the servers have no clients
            afterwards.callback(demo.clear)
            show(demo)
    line.say("nothing of it is left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
