"""Modules of the collection in a guest: run by a warm Python that is told what by a pipe, as its start takes seconds there."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Mapping

import ansible

from ansible_collections.platter.qemu.tests.lab import modules
from ansible_collections.platter.qemu.tests.lab.cpio import Archive
from ansible_collections.platter.qemu.tests.lab.initramfs import add_python
from ansible_collections.platter.qemu.tests.lab.vm import Guest

PROGRAM = "/modules.py"
#: where the module's imports are found, here and there alike
_PATHS = [str(Path(ansible.__file__).parents[1]), str(Path(modules.__file__).parents[5])]
#: imports all that a run of a module can need
_EVERYTHING = f"""
import concurrent.futures.thread, ctypes, encodings.idna, encodings.ascii, encodings.latin_1, glob, importlib, os, sys
sys.path[:0] = {_PATHS!r}
from {modules.__name__} import call
for name in %r:
    importlib.import_module("ansible_collections.platter.qemu.plugins.modules." + name)
for path in glob.glob(sys.path[1] + "/ansible_collections/platter/qemu/plugins/module_utils/%s/*.py"):
    importlib.import_module(os.path.relpath(path, sys.path[1])[: -len(".py")].replace("/", "."))
"""
#: prints the files of that
_IMPORTED = """
# Ansible looks for parts of its own by their names
files = glob.glob(sys.path[0] + "/ansible/module_utils/**/*.py", recursive=True)
files += filter(None, (getattr(module, "__file__", None) for module in list(sys.modules.values())))
print(*files, sep="\\n")
"""
#: runs a module for whoever writes options into a pipe
_SERVER = """
import json, signal, traceback
for name in ("/run/ask", "/run/answer"):
    os.mkfifo(name)
while True:
    with open("/run/ask") as ask:
        options = json.load(ask)
    with open("/run/answer", "w") as answer:
        if os.fork() == 0:
            os.environ.update(options.pop("environment"))
            if options["killed_after"]:
                signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
                signal.setitimer(signal.ITIMER_REAL, options["killed_after"])
            del options["killed_after"]
            try:
                print(json.dumps(call(options.pop("module"), **options)), file=answer, flush=True)
            except BaseException:
                traceback.print_exc(file=answer)
                answer.flush()
            os._exit(0)
        os.wait()
"""


def add_modules(archive: Archive, *names: str, packages: str = "*") -> None:
    """Python, the modules of these names with all that they need, and the program that runs them. C(packages): a pattern
    of those that they need; all others take the guest a minute where it gets half a processor.
    """
    everything = _EVERYTHING % (names, packages)
    archive.file(PROGRAM, (everything + _SERVER).encode())
    add_python(archive, everything + _IMPORTED)


def ask(
    guest: Guest,
    module: str,
    *,
    check: bool = False,
    environment: Mapping[str, str] | None = None,
    killed_after: float = 0.0,
    **options: Any,
) -> dict[str, Any]:
    """The result of a module in the guest, a failed one too. C(killed_after): seconds; then there may be none."""
    more = {"check": check, "environment": dict(environment or {}), "killed_after": killed_after}
    asked = json.dumps(dict(options, module=module, **more))
    guest.wait(lambda: guest.run("ls /run").split().count("answer"), "the server of modules is ready", 300)
    told = guest.run(f"echo {shlex.quote(asked)} >/run/ask; cat /run/answer", timeout=400)
    if killed_after and not told:
        return {}
    assert told.startswith("{"), told
    return dict(json.loads(told))
