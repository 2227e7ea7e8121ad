# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""How QEMU writes options in one argument: C(key=value,key=value), a comma in a value doubled. Pure.

Source: C(util/keyval.c) and C(util/qemu-option.c) of QEMU; both split alike. Nested options have dots in their keys, and
members of a list a number.
"""

from __future__ import annotations

import json
import typing as t

Tree = t.Dict[str, t.Any]


def split(text: str, first: str = "") -> t.List[t.Tuple[str, str]]:
    """The options in an argument, in order. C(first): the key of a first value without one.

    A key without a value means C(on), with C(no) before it C(off), as QEMU's older options have it. Raises ValueError
    (a sentence) for what QEMU would not take.
    """
    found: t.List[t.Tuple[str, str]] = []
    for position, part in enumerate(_parts(text)):
        key, equals, value = part.partition("=")
        if equals:
            found.append((key, value))
        elif position == 0 and first:
            found.append((first, part))
        elif part.startswith("no") and len(part) > 2 and not part.startswith("node"):
            found.append((part[2:], "off"))
        else:
            found.append((part, "on"))
        if not found[-1][0]:
            raise ValueError("an option without a name in %r" % text)
    return found


def mapping(text: str, first: str) -> Tree:
    """What an argument says, in JSON or as C(split) has it. Raises ValueError (a sentence)."""
    if not text.startswith("{"):
        return dict(split(text, first))
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ValueError("%r is no JSON (%s)" % (text, exc)) from exc
    return t.cast(Tree, value)


def _parts(text: str) -> t.Iterator[str]:
    """The text at its single commas, with two of them taken for one."""
    part, position = "", 0
    while position < len(text):
        comma = text.find(",", position)
        if comma < 0:
            part += text[position:]
            break
        part += text[position:comma]
        if text[comma + 1 : comma + 2] == ",":
            part, position = part + ",", comma + 2
            continue
        yield part
        part, position = "", comma + 1
    if part:
        yield part


def join(pairs: t.Iterable[t.Tuple[str, t.Any]]) -> str:
    """One argument that QEMU splits into these options."""
    return ",".join("%s=%s" % (key, escaped(value)) for key, value in pairs)


def escaped(value: t.Any) -> str:
    """A value as it stands in an argument among others."""
    return text_of(value).replace(",", ",,")


def text_of(value: t.Any) -> str:
    """A value as it stands in an argument. Raises ValueError (a sentence) for what none can hold."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        raise ValueError("null can only be written in JSON")
    return plain(value)


def plain(value: t.Any) -> str:
    """A value as text. Raises ValueError (a sentence) for what no argument and no name of a file can hold."""
    text = str(value)
    if "\0" in text:
        raise ValueError("a zero byte cannot stand in an argument")
    return text


def flatten(tree: t.Any, prefix: str = "") -> t.Iterator[t.Tuple[str, t.Any]]:
    """The leaves of a tree of dicts and lists, by their dotted keys, in order. An empty dict or list has none."""
    if isinstance(tree, t.Mapping):
        items: t.Iterable[t.Tuple[t.Any, t.Any]] = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    else:
        yield prefix, tree
        return
    for key, value in items:
        yield from flatten(value, "%s.%s" % (prefix, key) if prefix else str(key))


def nest(pairs: t.Iterable[t.Tuple[str, t.Any]]) -> Tree:
    """The tree that dotted keys describe: a dict whose keys are all numbers, from 0 on, is a list.

    Raises ValueError (a sentence) where a key is a value and a tree at once.
    """
    tree: Tree = {}
    for key, value in pairs:
        *path, last = key.split(".")
        place = tree
        for step in path:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise ValueError("%s is a value, and %s goes below it" % (step, key))
        if isinstance(place.get(last), dict):
            raise ValueError("%s is a value, and other options go below it" % key)
        place[last] = value
    return t.cast(Tree, _with_lists(tree))


def _with_lists(tree: t.Any) -> t.Any:
    if not isinstance(tree, dict):
        return tree
    inner = {key: _with_lists(value) for key, value in tree.items()}
    if inner and sorted(inner) == sorted(map(str, range(len(inner)))):
        return [inner[str(number)] for number in range(len(inner))]
    return inner
