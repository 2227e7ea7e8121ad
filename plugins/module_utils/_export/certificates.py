# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""Whether a server would start with the certificates that it is given. Read-only."""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.platter.qemu.plugins.module_utils._tools import openssl, process


def problem(run: process.RunCommand, directory: str) -> t.Optional[t.Tuple[str, str, str]]:
    """What would keep it from starting, as (reason, fact, way out). Without openssl on the host less of it is seen."""
    certificate, key, ca = (os.path.join(directory, name + ".pem") for name in ("server-cert", "server-key", "ca-cert"))
    if not openssl.belong_together(certificate, key):
        return "tls_files", "%s is not the certificate of %s" % (certificate, key), "Put both there."
    program = shutil.which("openssl")
    said = openssl.Openssl(run, program).why_invalid(certificate, ca) if program else ""
    if said:
        fact = "%s is not valid with %s (%s)" % (certificate, ca, said)
        return "tls_files", fact, "Have it renewed, and put it there with the certificate of its CA."
    return None
