"""The QMP client and its jobs against real QEMU programs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Iterator

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import (
    JobTimeoutError,
    QmpCommandError,
    QmpConnectError,
    RefusedError,
)
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp_jobs import (
    GONE,
    cancel_job,
    find_job,
    find_jobs,
    finish_job,
    start_job,
    wait_job,
)
from ansible_collections.platter.qemu.tests.lab.guest import scribble, shows
from ansible_collections.platter.qemu.tests.lab.oracle import create, info, version
from ansible_collections.platter.qemu.tests.lab.programs import DEADLINE, wait_until
from ansible_collections.platter.qemu.tests.lab.qemu import (
    BARE,
    DAEMON,
    bare,
    given_its_socket,
    node_names,
    qcow2,
    waiting,
)

PROGRAMS = {"qemu": BARE, "daemon": DAEMON}
SIZE = 8 << 20
#: what a guest reads from C(top)
SEEN = ((0x11, 0, 64 << 10), (0x77, 1 << 20, 64 << 10), (0x22, (1 << 20) + (64 << 10), 128 << 10))


def soon(seconds: float = DEADLINE) -> float:
    return time.monotonic() + seconds


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return PROGRAMS[request.param]


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Path, Path]:
    """A base with data, and an overlay with more."""
    base = create(tmp_path / "base.qcow2", "qcow2", SIZE)
    scribble(base, "qcow2")
    top = create(tmp_path / "top.qcow2", "qcow2", "", "", "-b", base, "-F", "qcow2")
    scribble(top, "qcow2", ((0x77, 1 << 20, 64 << 10),))
    return base, top


@pytest.fixture
def qmp(tmp_path: Path, program: tuple[str, ...], chain: tuple[Path, Path]) -> Iterator[Qmp]:
    """A session in which C(base) and C(top) are open."""
    base, top = chain
    nodes = [*qcow2("base", base), *qcow2("top", top, backing="base")]
    with bare(tmp_path / "qmp", *nodes, program=program), Qmp.connect(str(tmp_path / "qmp"), DEADLINE) as session:
        yield session


def test_many_questions_are_answered_in_order_and_refusals_are_none(qmp: Qmp) -> None:
    nodes = [{"path": "/none"} if number % 3 == 0 else {"path": "/"} for number in range(120)]
    answers = qmp.ask_all([("qom-list", each) for each in nodes])
    assert [answer is None for answer in answers] == [number % 3 == 0 for number in range(120)]
    assert answers[1] == qmp.execute("qom-list", {"path": "/"}) and qmp.ask_all([]) == []


def test_greeting_version_and_errors(qmp: Qmp) -> None:
    assert qmp.version[:2] == version()
    assert {"base", "top"} <= node_names(qmp)
    with pytest.raises(QmpCommandError) as caught:
        qmp.execute("no-such-command")
    assert caught.value.error_class == "CommandNotFound"
    with pytest.raises(QmpCommandError) as caught:
        qmp.execute("block-commit", {"job-id": "j", "device": "absent"})
    assert caught.value.desc


def test_one_client_at_a_time(tmp_path: Path, qmp: Qmp) -> None:
    with pytest.raises(QmpConnectError) as caught:
        Qmp.connect(str(tmp_path / "qmp"), timeout=0.3)
    assert caught.value.reason == "qmp_timeout"
    qmp.close()
    Qmp.connect(str(tmp_path / "qmp"), DEADLINE).close()


def test_behind_others_it_waits_for_a_place(tmp_path: Path) -> None:
    with bare(tmp_path / "qmp"), waiting(tmp_path / "qmp") as others:
        with pytest.raises(QmpConnectError) as caught:
            Qmp.connect(str(tmp_path / "qmp"), timeout=0.3)
        assert caught.value.reason == "qmp_timeout"
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(Qmp.connect, str(tmp_path / "qmp"), DEADLINE)
            with pytest.raises(FutureTimeoutError):
                coming.result(0.3)
            for other in others:
                other.close()
            coming.result().close()


def test_the_process_behind_the_socket(tmp_path: Path) -> None:
    with bare(tmp_path / "qmp") as process, Qmp.connect(str(tmp_path / "qmp"), DEADLINE) as qmp:
        assert qmp.peer_pids() == {process.pid}


def test_the_process_behind_a_socket_with_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with bare(Path("qmp")) as process:
        monkeypatch.chdir("/")
        with Qmp.connect(str(tmp_path / "qmp"), DEADLINE) as qmp:
            assert qmp.peer_pids() == {process.pid}


def test_the_process_behind_a_socket_that_another_one_made(tmp_path: Path) -> None:
    with given_its_socket(tmp_path / "qmp") as process, Qmp.connect(str(tmp_path / "qmp"), DEADLINE) as qmp:
        assert qmp.peer_pids() == {process.pid}


def test_the_end_of_qemu_is_noticed_at_once(tmp_path: Path) -> None:
    with bare(tmp_path / "qmp") as process, Qmp.connect(str(tmp_path / "qmp"), DEADLINE) as qmp:
        qmp.execute("quit")
        assert qmp.wait_event(["SHUTDOWN"], soon()) is not None
        process.wait(DEADLINE)
        with pytest.raises(QmpConnectError) as caught:
            qmp.execute("query-status")
        assert caught.value.reason == "qmp_unreachable"


def test_a_socket_that_anybody_can_write_to_is_not_spoken_to(tmp_path: Path) -> None:
    with bare(tmp_path / "qmp"):
        (tmp_path / "qmp").chmod(0o666)
        ways = [path for path in tmp_path.parents if path.stat().st_mode & 0o077 == 0]
        modes = [path.stat().st_mode for path in ways]
        try:
            for path in (*ways, tmp_path):
                path.chmod(0o755)
            with pytest.raises(RefusedError) as caught:
                Qmp.connect(str(tmp_path / "qmp"))
        finally:
            for path, mode in zip(ways, modes):
                path.chmod(mode)
    assert caught.value.reason == "unsafe_qmp_socket"


def test_a_transaction_happens_whole_or_not_at_all(qmp: Qmp, tmp_path: Path) -> None:
    bitmap = {"type": "block-dirty-bitmap-add", "data": {"node": "top", "name": "b0"}}
    wrong = {"type": "block-dirty-bitmap-add", "data": {"node": "absent", "name": "b0"}}
    with pytest.raises(QmpCommandError):
        qmp.transaction([bitmap, wrong])
    qmp.transaction([bitmap])
    with pytest.raises(QmpCommandError, match="already exists"):
        qmp.transaction([bitmap])


def test_a_stream_is_finished_and_forgotten(qmp: Qmp, chain: tuple[Path, Path]) -> None:
    start_job(qmp, "block-stream", "stream0", device="top")
    assert wait_job(qmp, "stream0", ["pending"], soon()).status == "pending"
    job = finish_job(qmp, "stream0", soon())
    assert (job.status, job.kind, job.failed) == ("concluded", "stream", False)
    assert find_jobs(qmp) == {}
    end(qmp)
    assert "backing-filename" not in info(chain[1], "qcow2")
    shows(chain[1], "qcow2", SEEN)


def test_an_active_commit_is_completed(qmp: Qmp, chain: tuple[Path, Path]) -> None:
    start_job(qmp, "block-commit", "commit0", device="top", auto_finalize=True)
    assert wait_job(qmp, "commit0", ["ready"], soon()).status == "ready"
    assert not finish_job(qmp, "commit0", soon()).failed
    assert find_jobs(qmp) == {}
    end(qmp)
    shows(chain[0], "qcow2", SEEN)


def test_a_job_survives_its_session_and_is_adopted(qmp: Qmp, tmp_path: Path) -> None:
    start_job(qmp, "block-commit", "commit0", device="top")
    qmp.close()
    with Qmp.connect(str(tmp_path / "qmp"), DEADLINE) as later:
        found = find_job(later, "commit0")
        assert found is not None and found.kind == "commit"
        assert not finish_job(later, "commit0", soon()).failed
        assert find_job(later, "commit0") is None


def test_a_cancelled_job_leaves_all_as_it_was(qmp: Qmp, chain: tuple[Path, Path]) -> None:
    start_job(qmp, "block-stream", "stream0", device="top", speed=4 << 10)
    assert cancel_job(qmp, "stream0", soon()).status == "concluded"
    assert find_jobs(qmp) == {}
    assert cancel_job(qmp, "stream0", soon()).status == GONE
    end(qmp)
    assert info(chain[1], "qcow2")["backing-filename"] == str(chain[0])
    shows(chain[1], "qcow2", SEEN)


def test_a_job_that_takes_too_long_is_still_there(qmp: Qmp) -> None:
    start_job(qmp, "block-stream", "stream0", device="top", speed=4 << 10)
    with pytest.raises(JobTimeoutError) as caught:
        finish_job(qmp, "stream0", time.monotonic() + 0.3)
    assert (caught.value.facts["reason"], caught.value.status) == ("job_timeout", "running")
    cancel_job(qmp, "stream0", soon())


def test_a_failed_job_tells_why(qmp: Qmp) -> None:
    start_job(qmp, "blockdev-create", "create0", options={"driver": "qcow2", "file": "base", "size": SIZE + 1})
    job = finish_job(qmp, "create0", soon())
    assert job.failed and job.error
    assert find_jobs(qmp) == {}


def end(qmp: Qmp) -> None:
    """End the program, so that the image can be read by others."""
    pids = qmp.peer_pids()
    qmp.execute("quit")
    wait_until(lambda: not any(_runs(pid) for pid in pids), "the program ends")


def _runs(pid: int) -> bool:
    """Whether it is more than a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
