# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""Every error that is raised on purpose. Raised low, caught once (C(_module/run.py)).

EngineError                   message + facts (keys of the failed result)
+-- RefusedError              nothing was changed: reason (a stable code), evidence, one way out
|   +-- SpecError             the options contradict each other or the format
+-- ToolError                 a program failed: cmd, rc, stdout, stderr
|   +-- ImageLockedError      QEMU's image lock said no
|   +-- ToolTimeoutError      killed at its time limit
+-- ToolOutputError           exit 0, unreadable answer
+-- HeaderError               bytes that are not a well-formed header of the format
+-- WireError                 bytes that an NBD server may not send
+-- NbdError                  an NBD server cannot be spoken to, or says no
+-- FailedError               something was begun: says what was done and what is there now
"""

from __future__ import annotations

import typing as t


class EngineError(Exception):
    """Base of all. C(facts) become keys of the module's failed result."""

    def __init__(self, message: str, **facts: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class RefusedError(EngineError):
    """Nothing was changed, because of a fact that can be shown."""

    def __init__(
        self,
        asked: str,
        path: str,
        fact: str,
        *,
        reason: str,
        way_out: str,
        evidence: t.Optional[t.Mapping[str, t.Any]] = None,
        joined: str = "for",
    ) -> None:
        """C(joined): the word between what was asked and the path."""
        subject = " ".join(part for part in (asked, joined, path) if part)
        text = "refused: %s: %s. Nothing was changed. %s" % (subject, fact.rstrip("."), way_out)
        super().__init__(text, reason=reason, evidence=dict(evidence or {}), path=path)

    @property
    def reason(self) -> str:
        """The stable snake_case code of this refusal."""
        return str(self.facts["reason"])


def refused_state(
    noun: str,
    state: str,
    name: str,
    reason: str,
    fact: str,
    way_out: str,
    evidence: t.Optional[t.Mapping[str, t.Any]] = None,
) -> RefusedError:
    """A refusal of a state that a task asks of the thing C(name), which is a C(noun)."""
    asked = "state=%s of %s" % (state, noun)
    return RefusedError(asked, name, fact, reason=reason, way_out=way_out, evidence=evidence, joined="")


class SpecError(RefusedError):
    """The options contradict each other, the format, or the installed QEMU."""


class ToolError(EngineError):
    """A program ended with a failure."""

    def __init__(self, cmd: t.Sequence[str], rc: int, stdout: str, stderr: str, message: str = "") -> None:
        said = (stderr or stdout).strip()
        text = message or "%s failed with exit status %d: %s" % (" ".join(cmd[:2]), rc, said)
        super().__init__(text, cmd=list(cmd), rc=rc, stdout=stdout, stderr=stderr)
        self.rc = rc
        self.stdout = stdout
        self.stderr = stderr


class ImageLockedError(ToolError):
    """QEMU's own image lock is held by another process (seen on QEMU 7.2: C(Failed to get "write" lock))."""


class ToolTimeoutError(ToolError):
    """The program was killed at its limit of time; C(why): what it had not done by then. C(stdout): what it had printed."""

    def __init__(self, cmd: t.Sequence[str], why: str, stdout: str = "") -> None:
        super().__init__(cmd, -9, stdout, "", "%s was ended: %s" % (" ".join(cmd[:2]), why))
        self.facts["reason"] = "tool_timeout"


class ToolOutputError(EngineError):
    """The program succeeded, but what it printed cannot be understood."""


class HeaderError(EngineError):
    """The bytes are not a well-formed header of that format (or go beyond what is read)."""


class FailedError(EngineError):
    """Something was begun and did not end; the message says what was done and what is there now."""


class WireError(EngineError):
    """What an NBD server sent breaks the protocol. The client says which server (NbdError)."""


class NbdError(EngineError):
    """An NBD server: C(reason) is a code, C(evidence) what it is known by. Nothing was changed there or here."""

    def __init__(self, server: str, fact: str, *, reason: str, way_out: str, **evidence: t.Any) -> None:
        super().__init__(
            "NBD server %s: %s. %s" % (server, fact.rstrip("."), way_out),
            reason=reason,
            evidence=dict(evidence, server=server),
        )

    @property
    def reason(self) -> str:
        """The stable snake_case code."""
        return str(self.facts["reason"])


class QmpError(EngineError):
    """A running QEMU cannot be spoken to, or says no."""


class QmpConnectError(QmpError):
    """Nobody speaks QMP at the socket: C(reason) is C(qmp_unreachable) or C(qmp_timeout)."""

    def __init__(self, path: str, fact: str, *, reason: str) -> None:
        super().__init__("QMP on %s: %s" % (path, fact), reason=reason, path=path)
        self.reason = reason


class QmpCommandError(QmpError):
    """QEMU refused a command; C(desc) is its own text, C(error_class) mostly C(GenericError)."""

    def __init__(self, command: str, error_class: str, desc: str) -> None:
        super().__init__("QEMU refused %s: %s" % (command, desc), qmp_command=command, qmp_class=error_class)
        self.command = command
        self.error_class = error_class
        self.desc = desc


class JobTimeoutError(QmpError):
    """A job did not come as far as it should in time. It is still there: C(job_id), C(status)."""

    def __init__(self, job_id: str, status: str) -> None:
        super().__init__(
            "the job %s is still %s at its limit of time" % (job_id, status),
            reason="job_timeout",
            job_id=job_id,
            status=status,
        )
        self.status = status


class GuestAgentError(EngineError):
    """The agent in the guest: C(reason) is C(agent_unreachable), C(agent_timeout) or C(freeze_failed)."""

    def __init__(self, path: str, fact: str, *, reason: str) -> None:
        super().__init__("guest agent on %s: %s" % (path, fact), reason=reason, path=path)
        self.reason = reason
