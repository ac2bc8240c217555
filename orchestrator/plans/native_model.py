"""The shape of our own plan format, as pydantic models. The rules on its contents are ``orchestrator.domain.planning``.

Imported only once such a plan is read: pydantic costs start-up time.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.plans.sources import priority_of

# A wave's stories and the top lists are validated entry by entry, so that one bad entry hides no other.
SEPARATE = ("waves", "stories")


def _priority(value: Any) -> Any:
    return priority_of(value) if isinstance(value, str) else value


def _criterion(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CriterionModel(_Strict):
    """An acceptance criterion."""

    text: str
    id: str | None = None


Criteria = list[Annotated[CriterionModel, BeforeValidator(_criterion, json_schema_input_type=str | CriterionModel)]]
Priority = Annotated[int, BeforeValidator(_priority, json_schema_input_type=int | str)]


class StoryModel(_Strict):
    """A story inside a wave."""

    code: str
    title: str
    domain: str
    description: str | None = None
    type: str = "feature"
    priority: Priority = 1
    points: int = 1
    criteria: Criteria = Field(default_factory=list)
    after: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class TopStoryModel(StoryModel):
    """A story of the top-level list, which names its wave."""

    wave: str


class WaveModel(_Strict):
    """A wave, with its stories."""

    code: str
    name: str
    description: str | None = None
    priority: Priority = 1
    after: list[str] = Field(default_factory=list)
    start: Literal["auto", "manual"] = "auto"
    stories: list[StoryModel] = Field(default_factory=list)


class PlanModel(_Strict):
    """A plan file."""

    maf: Literal[1]
    waves: list[WaveModel] = Field(default_factory=list)
    stories: list[TopStoryModel] = Field(default_factory=list)


M = TypeVar("M", bound=_Strict)


def validate(model: type[M], raw: Any) -> tuple[M | None, list[tuple[tuple[str | int, ...], str]]]:
    """``raw`` as ``model``, or every error in its shape as (path below ``raw``, message)."""
    if isinstance(raw, dict):
        raw = {key: [] if key in SEPARATE and isinstance(value, list) else value for key, value in raw.items()}
    try:
        return model.model_validate(raw), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=True)
        return None, [(one["loc"], _message(model, dict(one))) for one in errors]


def json_schema() -> dict[str, Any]:
    """The format as a JSON Schema document, for editors."""
    return PlanModel.model_json_schema(mode="validation")


_WANTED = {
    "string_type": "a text",
    "list_type": "a list",
    "string_unicode": "a text in valid Unicode",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "",
}


def _message(model: type[BaseModel], error: dict[str, Any]) -> str:
    kind, given = error["type"], error["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        inside = CriterionModel if "criteria" in error["loc"] else model
        return unknown_field(str(error["loc"][-1]), list(inside.model_fields))
    if kind == "literal_error":
        return f"must be {error['ctx']['expected'].replace(chr(39), '')}, not {_shown(given)}"
    if kind in _WANTED:
        wanted = _WANTED[kind]
        if error["loc"] and error["loc"][-1] == "priority":
            wanted = "a whole number from 1, or P0, P1 and so on"
        elif len(error["loc"]) > 1 and error["loc"][-2] == "criteria":
            wanted = "a text, or a mapping of id and text"
        quote = "; put it in quotes" if kind == "string_type" and isinstance(given, int | float) else ""
        return f"must be {wanted}, not {_shown(given)}{quote}"
    return str(error["msg"])


def unknown_field(name: str, fields: list[str]) -> str:
    """The refusal of a field, with the one that was probably meant."""
    near = difflib.get_close_matches(name, fields, n=1)
    meant = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
    return f"unknown field {name[:60]!a}; {meant}"


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return ascii(value)[:60]
