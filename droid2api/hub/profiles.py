"""What services and models differ in, as data: one Profile for each configured model, found by its host and its id.

Encoders ask the profile and never look at a name. `profile_table` holds the facts and their sources; `models[].profile`
of config.json overrides them.
"""

import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from droid2api.errors import RequestError
from droid2api.hub.profile_table import EFFORTS, OPENAI_EXTRAS, ROWS
from droid2api.hub.schema import Dialect
from droid2api.wire.fields import Json, wrong


@dataclass(frozen=True, slots=True)
class Profile:
    """What one model at one service takes. The plain one is for a service of which nothing is known."""

    efforts: tuple[str, ...] | None = None
    """Reasoning efforts taken, weakest first, without "none". Empty: the model takes no effort. None: not known."""
    off: Literal["omit", "none", "disabled", "between_tools", "weakest"] = "none"
    """How "do not reason" is said: `omit` every field, effort `none`, thinking `disabled` (a budget of 0 for Gemini) or
    `between_tools` (Claude Sonnet 5.5), or the `weakest` effort where reasoning cannot be switched off."""
    reasons: Literal["never", "asked", "unless_off", "always"] = "asked"
    """When the model reasons: never, when it is asked to, unless it is told not to, or always."""
    thinking: Literal["budget", "adaptive", "level"] = "budget"
    """How thinking is asked for: by a token budget, adaptive with an effort (Claude), or by a level (Gemini)."""
    effort_beside_tools: bool = True
    """False: beside tools the only effort that is taken is "none", and it must be said."""
    thinking_hidden: bool = False
    """True: the text of thinking comes only when summaries of it are asked for."""
    replay: Literal["own", "always", "never"] = "own"
    """Reasoning of earlier turns that goes back: the model's own; always, on each turn that called tools, whoever
    made it; or never."""
    unsigned_thinking: bool = False
    """True: thinking blocks without a signature stay in the history."""
    bound_thinking: bool = False
    """True: earlier thinking is refused when the system prompt, the tools or earlier messages have changed."""
    signed_calls: bool = False
    """True: tool calls in the history must carry the thought signature that came with them, or a stand-in."""

    system_messages: Literal["anywhere", "first", "after_user"] = "first"
    """Where system messages may stand: anywhere, only before all others (and one only), or right after user turns."""
    prefill: bool = True
    """False: the history must not end with the assistant."""
    prefill_space: bool = True
    """False: an assistant's text at the end of the history must not end in white space."""
    ids: Literal["kept", "safe", "nine"] = "safe"
    """Ids of tool calls: kept as sent; letters, digits, "_" and "-"; or exactly nine letters and digits."""
    longest_id: int = 64
    """Most characters of a safe id."""
    media: tuple[str, ...] = ("*/*",)
    """Patterns of the media types that content may have."""

    forced_tools: Literal["taken", "without_reasoning", "refused"] = "taken"
    """Whether the model can be forced to call a tool."""
    strict_tools: bool = True
    """False: tools must not have `strict`."""
    tool_schema: Dialect = "plain"
    """The JSON Schema dialect of a tool's parameters."""
    output_schema: Dialect = "plain"
    """The JSON Schema dialect of structured output, and of strict tools for Claude."""

    sampling: Literal["taken", "without_reasoning", "refused"] = "taken"
    """Whether `temperature`, `top_p` and `top_k` are taken."""
    one_sampling: bool = False
    """True: only one of `temperature` and `top_p` is taken."""
    highest_temperature: float = 2
    stops: Literal["any", "printable", "none"] = "any"
    """Stop sequences taken: any, those with more than white space, or none."""
    most_stops: int | None = None
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field of a Chat request for the most tokens of an answer."""
    max_output_tokens: int | None = None
    """Most tokens that an answer may be asked to have. None: not known."""
    extras: tuple[str, ...] = ()
    """Those of OpenAI's extra settings that are taken."""
    refused_options: tuple[str, ...] = ()
    """Settings that are refused although most services of the format take them."""
    service_tiers: tuple[str, ...] = ()
    """Values of `service_tier` that are taken, in the words of the Chat format."""
    cache_breakpoints: int = 0
    """Most cache breakpoints in a request."""

    def effort(self, wanted: str) -> str | None:
        """The effort to send for the wanted one; None sends none. "none" is to be said as `off` tells."""
        if wanted != "none":
            return nearest_effort(wanted, self.efforts)
        if self.off == "omit":
            return None
        if self.off == "weakest":
            return nearest_effort("none", self.efforts) if self.efforts else None
        return "none"

    def is_reasoning(self, effort: str | None) -> bool:
        """Whether the model reasons when this effort is sent (None: nothing is said of it)."""
        if effort == "none":
            return self.reasons == "always" or (self.reasons == "unless_off" and self.off in ("omit", "weakest"))
        return self.reasons in ("unless_off", "always") or (self.reasons == "asked" and effort is not None)


PLAIN = Profile()


def nearest_effort(wanted: str, efforts: tuple[str, ...] | None) -> str | None:
    """The effort of the list that is nearest to the wanted one, the stronger of two.

    None: there is no such effort, or the word is one that only another service has. Without a list (None) every word
    that several services have is taken.
    """
    if efforts is None or wanted in efforts:
        return wanted if efforts is not None or wanted in EFFORTS else None
    if wanted not in EFFORTS or not efforts:
        return None
    place = EFFORTS.index(wanted)
    places = {word: EFFORTS.index(word) if word in EFFORTS else EFFORTS.index("medium") for word in efforts}
    return min(efforts, key=lambda word: (abs(places[word] - place), -places[word]))


@lru_cache
def profile_of(host: str, model_id: str, format_name: str) -> Profile:
    """The profile of a model at a host (without port) that speaks a format."""
    model, host = normalized(model_id), host.lower()
    facts: dict[str, Any] = {}
    for row in ROWS:
        if row.matches(host, model, format_name):
            facts |= row.facts
    return replace(PLAIN, **facts)


_VENDORS = "anthropic|google|minimax|mistral|moonshot|moonshotai|openai|qwen|xai|zai"
"""How Amazon's ids begin."""


def normalized(model_id: str) -> str:
    """A model's id without vendor, date, "[1m]" and the like, in the way that the table has it.

    "us.anthropic.claude-opus-4-1-20250805-v1:0" and "anthropic/claude-opus-4.1" are both "claude-opus-4-1".
    """
    id = model_id.lower().rsplit("/", 1)[-1]
    id = re.sub(r"\[1m\]$", "", id).split(":")[0].split("@")[0]
    id = re.sub(rf"^([\w-]+\.)?({_VENDORS})\.", "", id)
    id = re.sub(r"(?<=\d)p(?=\d)", ".", id)  # Fireworks has no dots
    id = re.sub(r"-(20\d{6}|20\d\d-\d\d-\d\d)(-v\d+)?$", "", id)
    return re.sub(r"-v\d+$", "", id).replace(".", "-") if id.startswith("claude-") else id


def read_overrides(value: Json, where: str) -> Json:
    """Fields of a profile from config.json, checked. Raises RequestError that names the wrong one and what it takes."""
    known = _fields()
    for name in value:
        if name not in known:
            raise RequestError(f"{where}{name}: is no field of a profile. Fields: {', '.join(known)}.")
    return {name: _checked(given, known[name], name, f"{where}{name}") for name, given in value.items()}


def override_schema() -> Json:
    """The JSON Schema of what `read_overrides` takes."""
    fields = {name: _field_schema(kind, name) for name, kind in _fields().items()}
    return {"type": "object", "properties": fields, "additionalProperties": False}


@cache
def _fields() -> Json:
    return get_type_hints(Profile)


def _field_schema(kind: Any, name: str) -> Json:
    choices = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    if len(choices) > 1:
        return {
            "anyOf": [{"type": "null"} if choice is NoneType else _field_schema(choice, name) for choice in choices]
        }
    if get_origin(kind) is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if get_origin(kind) is tuple:
        words = _LISTED.get(name)
        return {"type": "array", "items": {"type": "string"} | ({"enum": list(words)} if words else {})}
    if kind is bool:
        return {"type": "boolean"}
    return {"type": "integer" if kind is int else "number", "minimum": _least(name)}


_LISTED = {"efforts": (*EFFORTS[1:], "default"), "extras": OPENAI_EXTRAS}
"""The words that fields with lists take, where not all are taken."""


def _least(name: str) -> int:
    return 1 if name == "max_output_tokens" else 0


def _checked(value: object, kind: Any, name: str, where: str) -> object:
    choices = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    if value is None and NoneType in choices:
        return None
    kind = choices[0]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RequestError(f"{where}: must be one of {', '.join(get_args(kind))}, not {str(value)[:40]!r}.")
        return value
    if get_origin(kind) is tuple:
        return _checked_list(value, name, where)
    if type(value) is not kind and not (kind is float and type(value) is int):
        expected = {bool: "true or false", int: "an integer", float: "a number"}[kind]
        raise wrong(where, expected + (" or null" if NoneType in choices else ""), value)
    if kind is not bool and cast(float, value) < _least(name):
        raise RequestError(f"{where}: must be {_least(name)} or more, not {value}.")
    return value


def _checked_list(value: object, name: str, where: str) -> tuple[str, ...]:
    if type(value) is not list:
        raise wrong(where, "a list of strings", value)
    allowed = _LISTED.get(name)
    for index, item in enumerate(value):
        if type(item) is not str:
            raise wrong(f"{where}[{index}]", "a string", item)
        if allowed and item not in allowed:
            raise RequestError(f"{where}[{index}]: must be one of {', '.join(allowed)}, not {item[:40]!r}.")
    return tuple(value)
