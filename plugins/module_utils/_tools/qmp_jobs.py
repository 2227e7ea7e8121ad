# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Jobs of a running QEMU: start, watch, complete, finalize, dismiss; also those that an earlier run left behind.

C(qapi/job.json): created, running, (paused), ready (a mirror that has caught up, until job-complete), waiting (for the
others of its transaction), pending (until job-finalize), aborting, concluded (until job-dismiss), null.
Their ids are the caller's, so that a later run finds them again.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools.qmp import Qmp

#: these have no C(auto-finalize) and C(auto-dismiss): they finalize themselves and always wait to be dismissed
_SELF_FINALIZING = frozenset(("blockdev-create", "snapshot-save", "snapshot-load", "snapshot-delete"))
#: seconds between two looks where no event comes: jobs of a backing file's node send none on some versions
_LOOK_AGAIN = 0.5
GONE = "null"


@dataclass(frozen=True)
class Job:
    """One look at a job. C(progress) and C(total) are bytes, mostly. C(error) is QEMU's text once it has failed."""

    id: str
    kind: str
    status: str
    progress: int = 0
    total: int = 0
    error: t.Optional[str] = None
    #: ok, failed or nospace, for block jobs that wait for somebody to mend it
    io_status: str = "ok"

    @property
    def failed(self) -> bool:
        """Whether it has ended without doing its work."""
        return self.error is not None


def start_job(qmp: Qmp, command: str, job_id: str, **arguments: t.Any) -> None:
    """Start a job that will wait to be finalized and dismissed. C(_) in the names of C(arguments) means C(-)."""
    given = {name.replace("_", "-"): value for name, value in arguments.items()}
    if command not in _SELF_FINALIZING:
        given.update({"auto-finalize": False, "auto-dismiss": False})
    qmp.execute(command, {"job-id": job_id, **given})


def find_jobs(qmp: Qmp) -> t.Dict[str, Job]:
    """All jobs there are, whoever started them, by their ids."""
    block = {each["device"]: each for each in qmp.execute("query-block-jobs")}
    return {each["id"]: _job(each, block.get(each["id"], {})) for each in qmp.execute("query-jobs")}


def _job(seen: t.Mapping[str, t.Any], block: t.Mapping[str, t.Any]) -> Job:
    return Job(
        id=seen["id"],
        kind=seen["type"],
        status=seen["status"],
        progress=seen.get("current-progress", 0),
        total=seen.get("total-progress", 0),
        error=seen.get("error"),
        io_status=block.get("io-status", "ok"),
    )


def find_job(qmp: Qmp, job_id: str) -> t.Optional[Job]:
    """The job of this id, for one that an earlier run may have started; None if there is none."""
    return find_jobs(qmp).get(job_id)


def wait_job(qmp: Qmp, job_id: str, until: t.Container[str], deadline: float) -> Job:
    """The job as soon as its status is one of C(until), or it is concluded or gone (C(GONE)).

    Raises JobTimeoutError at the C(deadline) (C(time.monotonic())).
    """
    while True:
        job = find_job(qmp, job_id) or Job(job_id, "", GONE)
        if job.status in until or job.status in ("concluded", GONE):
            return job
        if time.monotonic() >= deadline:
            raise errors.JobTimeoutError(job_id, job.status)
        qmp.wait_event(lambda event: _concerns(event, job_id), min(deadline, time.monotonic() + _LOOK_AGAIN))


def _concerns(event: t.Mapping[str, t.Any], job_id: str) -> bool:
    return bool(event["event"] == "JOB_STATUS_CHANGE" and event["data"]["id"] == job_id)


def finish_job(qmp: Qmp, job_id: str, deadline: float) -> Job:
    """C(end_job), and dismiss it; gives the last look before that."""
    job = end_job(qmp, job_id, deadline)
    dismiss_ended(qmp, job)
    return job


def end_job(qmp: Qmp, job_id: str, deadline: float) -> Job:
    """Bring a job to its end from wherever it is; it stays there until it is dismissed.

    A C(ready) job is completed, a C(pending) one finalized; of a transaction's jobs the first that is pending brings
    the others along. The caller looks at C(failed), and at C(GONE): of that job nobody knows how it ended.
    Raises JobTimeoutError; the job is then still there.
    """
    acting = {"ready": complete_job, "pending": finalize_job}
    waited_for = set(acting)
    while True:
        job = wait_job(qmp, job_id, waited_for, deadline)
        if job.status not in acting:
            break
        _unless_moved_on(qmp, acting[job.status], job_id)
        waited_for.discard(job.status)
    return job


def dismiss_ended(qmp: Qmp, job: Job) -> None:
    """Dismiss a job that C(end_job) has brought to its end; somebody else may have done so."""
    if job.status == "concluded":
        _unless_moved_on(qmp, dismiss_job, job.id)


def _unless_moved_on(qmp: Qmp, act: t.Callable[[Qmp, str], None], job_id: str) -> None:
    """A job can change between the look and the command: it is looked at again, the error is not the last word."""
    before = find_job(qmp, job_id)
    try:
        act(qmp, job_id)
    except errors.QmpCommandError:
        if find_job(qmp, job_id) == before:
            raise


def complete_job(qmp: Qmp, job_id: str) -> None:
    """Let a ready job switch over."""
    qmp.execute("job-complete", {"id": job_id})


def finalize_job(qmp: Qmp, job_id: str) -> None:
    """Let a pending job make its changes of the graph."""
    qmp.execute("job-finalize", {"id": job_id})


def dismiss_job(qmp: Qmp, job_id: str) -> None:
    """Forget a concluded job; its id can then be used again."""
    qmp.execute("job-dismiss", {"id": job_id})


def cancel_job(qmp: Qmp, job_id: str, deadline: float) -> Job:
    """Stop a job without its changes of the graph, and dismiss it. A job that has already ended is only dismissed."""
    found = find_job(qmp, job_id)
    if found and found.status not in ("concluded", "aborting"):
        _unless_moved_on(qmp, _cancel, job_id)
    job = wait_job(qmp, job_id, (), deadline)
    dismiss_ended(qmp, job)
    return job


def _cancel(qmp: Qmp, job_id: str) -> None:
    qmp.execute("job-cancel", {"id": job_id})
