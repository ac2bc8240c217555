"""YAML into a ``Builder``, event by event: nothing is constructed but text, numbers, true, false and null.

Scalars are read by YAML 1.2's core schema, so ``no``, ``1:30`` and ``2026-01-01`` stay the texts they look like.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from orchestrator.plans.documents import BrokenDocument, Builder, Document, Listed, Mapped

# What YAML calls not printable; beside tab, line feed, carriage return and next line.
_NOT_PRINTABLE = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: value for value, words in ((True, "true True TRUE"), (False, "false False FALSE")) for word in words.split()
}
_TEXT_TAG = "tag:yaml.org,2002:str"


def resolve(plain: str) -> Any:
    """The value of an unquoted scalar. ValueError, with what is wrong: a number that JSON has no place for."""
    if plain in _WORDS:
        return _WORDS[plain]
    if _INTEGER.match(plain):
        if len(plain) > 1000:
            raise ValueError("the number is too long")
        return int(plain, {"0o": 8, "0x": 16}.get(plain[:2], 10))
    if _NOT_FINITE.match(plain):
        raise ValueError(f"{plain} is not JSON")
    return float(plain) if _FLOAT.match(plain) else plain


def read_yaml(document: Document, text: str, builder: Builder) -> None:
    """Feed the one YAML document in ``text`` to ``builder``. BrokenDocument: not YAML, or not one document."""
    bad = _NOT_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise BrokenDocument(
            document.problem(line, "", f"the control character U+{ord(bad.group()):04X} is not allowed in YAML")
        )
    # libyaml where the wheel has it: ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _feed(document, yaml.parse(text, Loader=loader), builder)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = mark.line + 1 if mark else None
        raise BrokenDocument(document.problem(where, "", f"not valid YAML: {error.problem or error.context}")) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an escape beyond Unicode's range
        raise BrokenDocument(document.problem(None, "", f"not valid YAML: {error}")) from None


def _feed(document: Document, events: Any, builder: Builder) -> None:
    anchors: dict[str, Any] = {}
    open_anchors: list[tuple[str | None, Any]] = []
    documents = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise BrokenDocument(document.problem(line, "", "holds more than one YAML document ('---')"))
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                builder.refuse(f"the alias *{event.anchor} has no finished anchor before it", line)
            else:
                builder.alias(anchors[event.anchor], line)
        elif isinstance(event, yaml.ScalarEvent):
            _scalar(event, line, builder, anchors)
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.tag not in {None, "!"}:
                builder.add(line, f"the tag {event.tag} is not supported")
            container = Mapped() if isinstance(event, yaml.MappingStartEvent) else Listed()
            builder.begin(container, line)
            open_anchors.append((event.anchor, container))
            anchors.pop(event.anchor or "", None)  # a second one of the name; unfinished until its end
        elif isinstance(event, yaml.CollectionEndEvent):
            builder.end()
            anchor, finished = open_anchors.pop()
            if anchor is not None:
                anchors[anchor] = finished


def _scalar(event: Any, line: int, builder: Builder, anchors: dict[str, Any]) -> None:
    try:
        value = _value(event)
    except ValueError as error:
        builder.refuse(str(error), line)
        return
    if event.anchor is not None:
        anchors[event.anchor] = value
    builder.scalar(value, line)


def _value(event: Any) -> Any:
    if event.tag not in {None, "!", _TEXT_TAG}:
        raise ValueError(f"the tag {event.tag} is not supported")
    if event.implicit[0]:
        return resolve(event.value)
    if _SURROGATE.search(event.value):  # libyaml refuses it by itself
        raise ValueError("the escape is half a surrogate pair; write the character itself")
    return event.value
