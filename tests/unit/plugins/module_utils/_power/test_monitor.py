"""What a VM is started with besides its definition."""

from __future__ import annotations

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._power import monitor

PATH = "/run/platter/web1.qmp"
MONITOR = ("-qmp", f"unix:{PATH},server=on,wait=off")
NOWHERE = ("-display", "none")


@pytest.mark.parametrize(
    "words",
    [
        ["-qmp", f"unix:{PATH},server,nowait"],
        ["--qmp", f"unix:{PATH},server=on,wait=off"],
        ["-qmp-pretty", f"unix:{PATH},server=on"],
        ["-chardev", f"socket,id=m,path={PATH},server=on,wait=off", "-mon", "chardev=m,mode=control"],
        ["-chardev", f"socket,id=m,server=on,path={PATH}", "-mon", "m,mode=control,pretty=on"],
    ],
)
def test_a_monitor_that_is_there_is_not_made_twice(words: list[str]) -> None:
    assert monitor.added(words, PATH) == NOWHERE
    assert monitor.sockets(words) == [PATH]


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "1G"],
        ["-qmp", "unix:/other,server=on,wait=off"],
        ["-qmp", "tcp:localhost:4444,server=on"],
        ["-qmp", "stdio"],
        ["-monitor", f"unix:{PATH},server=on"],
        ["-chardev", f"socket,id=m,path={PATH}", "-mon", "chardev=m,mode=readline"],
        ["-chardev", f"socket,id=m,path={PATH}", "-mon", "chardev=n,mode=control"],
        ["-mon"],
    ],
)
def test_another_is(words: list[str]) -> None:
    assert monitor.added(words, PATH) == MONITOR + NOWHERE


@pytest.mark.parametrize("option", ["-display", "-nographic", "-curses", "-sdl", "-gtk", "-vnc", "-spice", "--display"])
def test_a_display_that_is_there_stays(option: str) -> None:
    assert monitor.added([option, "x"], PATH) == MONITOR


def test_a_comma_in_the_path_stays_one() -> None:
    words = monitor.added([], "/a,b/c")
    assert words[1] == "unix:/a,,b/c,server=on,wait=off" and monitor.sockets(words) == ["/a,b/c"]


def test_what_would_leave_its_supervisor_is_known() -> None:
    assert monitor.leaves(["-m", "1G", "--daemonize"]) and not monitor.leaves(["-name", "daemonize"])
