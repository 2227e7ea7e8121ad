# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""From what is so to what is asked of a directory of keys. Pure; what must not be done is refused here."""

from __future__ import annotations

import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._core.plan import Action
from ansible_collections.platter.qemu.plugins.module_utils._keys import actions
from ansible_collections.platter.qemu.plugins.module_utils._keys.spec import CA, CERTIFICATES, KeysSpec
from ansible_collections.platter.qemu.plugins.module_utils._keys.state import KeysReading, KeysState

Plan = t.List[Action[KeysState]]


def plan_keys(spec: KeysSpec, state: KeysState, reading: KeysReading) -> Plan:
    """The steps to what C(spec) asks: what is missing is made, what is there stays unless it is to be renewed."""
    if reading.directory_problem:
        reason, fact, way_out = reading.directory_problem
        raise _refused(spec, reason, fact, way_out)
    problems = [(part, reading.problems[part]) for part in spec.parts if part in reading.problems]
    if problems:
        part, (reason, fact) = problems[0]
        way_out = "Move %s/%s away to have new ones, or correct directory." % (spec.directory, part)
        if reason == "client_shut_out":
            way_out = "Take it out of clients if it is to stay out; to let it in again, move %s/%s away." % (
                spec.directory,
                part,
            )
        if reason == "key_permissions":
            way_out = "Give it to the user who runs the task, with the mode 0600."
        raise _refused(spec, reason, fact, way_out, {"part": part})
    if spec.kind != CERTIFICATES:
        return [actions.ShareKey(user) for user in spec.clients if user not in state.users]
    return _plan_certificates(spec, state, reading)


def _plan_certificates(spec: KeysSpec, state: KeysState, reading: KeysReading) -> Plan:
    plan: Plan = []
    for part in spec.parts:
        there, names = state.parts.get(part), spec.names(part)
        if there is None:
            plan.append(actions.MakeCertificate(part, names, spec.days))
        elif spec.renew and (there.names != names or not there.lasting or _renews_authority(plan)):
            plan.append(actions.RenewCertificate(part, names, spec.days))
        elif part in reading.ended:
            raise _refused(spec, "keys_ended", "the certificate in %s holds no more" % part, _RENEW, {"part": part})
        elif there.names != names:
            fact = "the certificate in %s is for %s, not for %s" % (part, ", ".join(there.names), ", ".join(names))
            raise _refused(spec, "keys_differ", fact, _RENEW, {"part": part, "names": list(there.names)})
    return plan


_RENEW = "Set renew: true to have new certificates for the same keys."


def _renews_authority(plan: Plan) -> bool:
    return bool(plan) and isinstance(plan[0], actions.RenewCertificate) and plan[0].part == CA


def warnings(spec: KeysSpec, state: KeysState) -> t.List[str]:
    """What will have to be done. C(state): that of the end of the task."""
    ending = [part for part in spec.parts if part in state.parts and not state.parts[part].lasting]
    if not ending:
        return []
    return ["Certificates in %s end within 30 days: %s. %s" % (spec.directory, ", ".join(ending), _RENEW)]


def no_openssl(spec: KeysSpec) -> errors.RefusedError:
    """It makes and reads certificates."""
    return _refused(spec, "tool_missing", "openssl is not installed", "Install it.", {"programs": ["openssl"]})


def _refused(
    spec: KeysSpec, reason: str, fact: str, way_out: str, evidence: t.Optional[t.Mapping[str, t.Any]] = None
) -> errors.RefusedError:
    return errors.RefusedError(
        "keys", spec.directory, fact, reason=reason, way_out=way_out, evidence=evidence, joined="in"
    )
