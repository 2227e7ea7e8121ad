"""Runs a module of the collection as Ansible does, in this process or as a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
import typing as t

from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args

MODULES = "ansible_collections.platter.qemu.plugins.modules."
#: the systemd of the machine that tests run on is left alone
UNLESS_TOLD = {"nbd_export": {"supervisor": "process"}, "qemu_vm": {"supervisor": "process"}}


def call(which: str, /, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
    """The result of module C(which), a failed one too."""
    module = importlib.import_module(MODULES + which)
    # ansible-core gathers the warnings of a process; here one process stands for many
    getattr(warnings, "_global_warnings", {}).clear()
    printed = io.StringIO()
    arguments = dict({**UNLESS_TOLD.get(which, {}), **options}, _ansible_check_mode=check, _ansible_diff=True)
    with patch_module_args(arguments), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        module.main()
    return dict(json.loads(printed.getvalue().splitlines()[-1]))


def prepared(which: str, /, **options: t.Any) -> dict[str, t.Any]:
    """The result of a module that must not fail, as where it only prepares what a test is about."""
    result = call(which, **options)
    assert not result.get("failed"), result["msg"]
    return result


def process(which: str, /, *, under: t.Sequence[str] = (), **options: t.Any) -> subprocess.Popen[str]:
    """Module C(which) begun as a process in its own session; its result is the last line that it prints.

    C(under): a program that runs it, such as strace.
    """
    check = options.pop("check", False)
    arguments = json.dumps(dict({**UNLESS_TOLD.get(which, {}), **options}, _ansible_check_mode=check))
    code = "from ansible_collections.platter.qemu.tests.lab.modules import main; main()"
    paths = [path for path in sys.path if path]
    return subprocess.Popen(
        [*under, sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}", which, arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def main() -> None:
    """In the child of C(process)."""
    with patch_module_args(json.loads(sys.argv[2])):
        importlib.import_module(MODULES + sys.argv[1]).main()
