"""What qemu-img fails at by chance is tried again, and nothing else."""

from __future__ import annotations

import time
import typing as t

import pytest

from ansible_collections.platter.qemu.plugins.module_utils._core import errors
from ansible_collections.platter.qemu.plugins.module_utils._tools.qemu_img import QemuImg

BY_CHANCE = "qemu-img: a.luks: Unable to get accurate CPU usage"
NODE = {"driver": "luks", "file": {"driver": "file", "filename": "/i/a.luks"}}
VERBS: t.Dict[str, t.Callable[[QemuImg], None]] = {
    "create": lambda tool: tool.create("/i/a.luks", "luks", 1 << 20),
    "convert": lambda tool: tool.convert(NODE, "/i/b.luks", "luks"),
    "amend": lambda tool: tool.amend(NODE, ["state=active"]),
}


class Recorded:
    """A RunCommand that answers with these messages, one after the other; an empty one is success."""

    def __init__(self, *messages: str) -> None:
        self.messages, self.verbs = list(messages), []

    def __call__(self, argv: t.Sequence[str], **_how: t.Any) -> t.Tuple[int, str, str]:
        self.verbs.append(argv[1])
        message = self.messages.pop(0) if len(self.messages) > 1 else self.messages[0]
        return (1 if message else 0), "", message


@pytest.mark.parametrize("verb", VERBS)
def test_a_failure_by_chance_is_tried_again(verb: str) -> None:
    run = Recorded(*[BY_CHANCE] * 5, "")
    VERBS[verb](QemuImg(run, "qemu-img"))
    assert run.verbs == [verb] * 6


@pytest.mark.parametrize("verb", VERBS)
def test_not_for_ever(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Recorded(BY_CHANCE)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(errors.ToolError, match="accurate CPU usage"):
        VERBS[verb](QemuImg(run, "qemu-img"))
    assert run.verbs == [verb] * 100
    assert pauses[:2] == [0.0007, 0.0014] and pauses[-1] == max(pauses) == 0.02 and len(pauses) == 99


@pytest.mark.parametrize("verb", VERBS)
def test_another_failure_is_told_at_once(verb: str) -> None:
    run = Recorded("qemu-img: No space left on device")
    with pytest.raises(errors.ToolError, match="No space left"):
        VERBS[verb](QemuImg(run, "qemu-img"))
    assert run.verbs == [verb]
