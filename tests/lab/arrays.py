"""Arrays of a guest over servers of this machine: attached, looked at and compared as tests need it."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from ansible_collections.platter.qemu.tests.lab import array_model
from ansible_collections.platter.qemu.tests.lab.array_guest import ArrayGuest
from ansible_collections.platter.qemu.tests.lab.sequence import BLOCK, Layout, in_raw
from ansible_collections.platter.qemu.tests.lab.stores import Store

#: fits in what is left of a leg of 16 MiB
LAYOUT = Layout(slots=96)
#: where mdadm has the data of small disks begin
DATA = 1 << 20
#: tells a file of the guest
ALARM = ["/bin/sh", "-c", "cat >>/run/alarms; echo >>/run/alarms"]
END_WRITER = "kill $(cat /run/writer.pid); while kill -0 $(cat /run/writer.pid) 2>/dev/null; do usleep 10000; done"
WRITER = f"python3 -I -S /writer.py {LAYOUT.slots} {LAYOUT.spacing}"


class Array:
    """One array of a guest. C(servers): those of its legs, in their order."""

    def __init__(self, guest: ArrayGuest, name: str, uuid: str, servers: Sequence[Store], **more: Any) -> None:
        self.guest, self.name, self.uuid, self.servers = guest, name, uuid, list(servers)
        self.more = more
        self._last = 0

    @property
    def link(self) -> str:
        """Where it is found in the guest."""
        return f"/dev/md/{self.name}"

    def device(self, number: int) -> str:
        """What the leg of that number is called as a device of the guest."""
        return f"{self.name}-{number}"

    def attach(self, *numbers: int, **options: Any) -> dict[str, Any]:
        """The result of C(host_device) for legs, of all without numbers."""
        identity = {"signature": ["none", "linux_raid_member"], "uuid": self.uuid, "size": "16M"}
        chosen = numbers or range(len(self.servers))
        devices = [{"name": self.device(each), "source": self.servers[each].uri} for each in chosen]
        task = {"devices": devices, "read_only": False, "io_timeout": 10, "identity": identity, "timeout": 20}
        return self.guest.call("host_device", **{**task, **options})

    def detach(self) -> None:
        """None of the legs is a device any more."""
        devices = [{"name": self.device(each)} for each in range(len(self.servers))]
        told = self.guest.call("host_device", devices=devices, state="absent")
        assert not told.get("failed"), told["msg"]

    def options(self) -> dict[str, Any]:
        """Of C(md_array)."""
        legs = [
            {"device": f"/dev/platter/{self.device(each)}", "server": store.name}
            for each, store in enumerate(self.servers)
        ]
        return {"name": self.name, "uuid": self.uuid, "legs": legs, **self.more}

    def call(self, **options: Any) -> dict[str, Any]:
        """The result of C(md_array), a failed one too."""
        return self.guest.call("md_array", **{**self.options(), **options})

    def converge(self, **options: Any) -> dict[str, Any]:
        """Four beats, with a change."""
        checked = self.call(check=True, **options)
        real = self.call(**options)
        for result in (checked, real):
            assert not result.get("failed") and result["changed"], result.get("msg", result)
        assert checked["actions"] == real["actions"]
        assert checked["diff"] == real["diff"]
        for check in (False, True):
            again = self.call(check=check, **options)
            assert not again.get("failed") and not again["changed"], again
        return real

    def refused(self, reason: str, **options: Any) -> str:
        """The message, the same with and without check mode."""
        told = [self.call(check=check, **options) for check in (True, False)]
        for each in told:
            assert (each.get("reason"), each["changed"]) == (reason, False), each.get("msg", each)
        assert told[0]["msg"] == told[1]["msg"]
        return str(told[1]["msg"])

    def keep(self, **options: Any) -> dict[str, Any]:
        """The result of C(md_keeper), a failed one too."""
        legs = [{"name": self.device(each), "source": store.uri, "server": store.name} for each, store in self._legs()]
        task = {"name": self.name, "uuid": self.uuid, "legs": legs, "size": "16M", "io_timeout": 10, "interval": 1}
        return self.guest.call("md_keeper", **{**task, "alarm": ALARM, "timeout": 20, **self.more, **options})

    def kept(self, *conditions: str) -> None:
        """Wait until its keeper says so."""
        file = f"/run/platter.qemu/arrays/{self.name}.json"
        words = "|".join(conditions)
        found = f'grep -cE \'"condition": "({words})"\' {file} 2>/dev/null || true'
        log = f"cat /var/lib/platter/arrays/{self.name}/log {file} /proc/mdstat"
        try:
            self.guest.wait(lambda: self.guest.run(found).strip() == "1", f"the keeper says {words}")
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.guest.run(log)}") from exc

    def _legs(self) -> Iterator[tuple[int, Store]]:
        return iter(enumerate(self.servers))

    def wait(self, *conditions: str) -> None:
        """Until md says that it is so, by its own file."""
        self.guest.wait(lambda: self.condition() in conditions, f"the array is {conditions}")

    def condition(self) -> str:
        """As the module tells it."""
        return str(self.call(check=True)["array"]["condition"])

    def begin_writing(self) -> None:
        """The sequence, from where it was ended before, until it is ended; what goes wrong is in a log."""
        self.guest.run(
            f"rm -f /run/written; AFTER={self._last} {WRITER} {self.link} >/run/writer.log 2>&1 & echo $! >/run/writer.pid"
        )
        self.written_past(0)

    def written_past(self, number: int) -> int:
        """Wait for the writer to be there; how far it is."""
        self.guest.wait(lambda: self.written() > number, "the writer goes on")
        return self.written()

    def written(self) -> int:
        """The last number that is on the array."""
        return int(self.guest.run("cat /run/written 2>/dev/null || echo 0").strip() or 0)

    def end_writing(self) -> int:
        """How far it came; it must not have seen an error."""
        said = self.guest.run(f"{END_WRITER}; cat /run/writer.log")
        assert not said.strip(), said
        self._last = self.written()
        return self._last

    def refused_writing(self) -> None:
        """The writer has ended by an error of the disk, which it must be told."""
        self.guest.wait(lambda: "Errno 5" in self.guest.run("cat /run/writer.log"), "the writer is told")
        self._last = self.written()

    def stop(self) -> None:
        """The array, and its devices."""
        told = self.call(state="absent")
        assert not told.get("failed"), told["msg"]
        self.detach()

    def equal_legs(self) -> int:
        """Fails unless all legs hold the same, and a beginning of the sequence; how far that goes."""
        held = [store.image.read_bytes()[DATA:] for store in self.servers]
        assert all(each == held[0] for each in held), "the legs differ"
        image = self.servers[0].image.with_suffix(".data")
        image.write_bytes(held[0])
        return in_raw(image, LAYOUT)

    def as_due(self) -> int:
        """Fails unless each leg holds what it has to by the sequence, byte for byte; how far that goes. Nobody writes."""
        self.guest.wait(lambda: self.md("degraded", "sync_action") == ["0", "idle"], "md says that all legs are equal")
        size, chunk, offset = map(int, self.md("component_size", "chunk_size", "rd0/offset"))
        size, offset, level = size << 10, offset << 9, str(self.more.get("level", "raid1"))
        held = [store.image.read_bytes()[offset : offset + size] for store in self.servers]
        # the last number may be on the disk before the writer has said so
        for last in (self._last, self._last + 1):
            due = array_model.legs(level, len(held), chunk, size, LAYOUT.content(last))
            if held == due:
                return last
        raise AssertionError(f"written up to {self._last}: {list(map(_difference, held, due))}")

    def md(self, *names: str) -> list[str]:
        """What md says in these files of its own."""
        return self.guest.run(
            f"cd /sys/block/$(basename $(readlink -f {self.link}))/md && cat {' '.join(names)}"
        ).split()


def _difference(held: bytes, due: bytes) -> str:
    wrong = [at for at in range(0, len(held), BLOCK) if held[at : at + BLOCK] != due[at : at + BLOCK]]
    return f"{len(wrong)} blocks, the first at {wrong[0]}: {held[wrong[0] :][:16]!r}" if wrong else "as due"
