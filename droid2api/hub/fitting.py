"""Fits what a request asks for to what the upstream takes, as its profile says, and notes what that costs.

The encoders of all formats ask here, each for the fields that its format has; none of them knows a model by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeGuard

from droid2api.hub.encoded import Encoded
from droid2api.hub.media import takes_media, text_in
from droid2api.hub.profile_table import OPENAI_EXTRAS
from droid2api.hub.profiles import Profile
from droid2api.hub.reasoning import SMALLEST_BUDGET
from droid2api.hub.request import (
    Document,
    Foreign,
    Image,
    Message,
    OutputFormat,
    Part,
    Request,
    Target,
    Text,
    Tool,
    ToolResult,
)
from droid2api.hub.schema import Dialect, fit, obeys_strict
from droid2api.wire.fields import Json

SAMPLING = ("temperature", "top_p", "top_k")
CONTINUE = "Continue."
"""Said by the user where a history ends with the assistant and the model takes no such end."""


MOST_PATHS = 20
"""Paths of one schema that are named each; the others are counted."""


# -- settings -------------------------------------------------------------------------------------------------------


def options_for(encoded: Encoded, request: Request, target: Target, known: frozenset[str]) -> Json:
    """The options that the upstream takes, among those that its format has. `sampling_for` has temperature and such."""
    taken: Json = {}
    for name, value in request.options.items():
        if name in SAMPLING:
            continue
        if name in known and _takes(target.profile, name, value):
            taken[name] = value
        else:
            encoded.drop(name)
    return taken


def _takes(profile: Profile, name: str, value: object) -> bool:
    if name == "service_tier":
        return value in profile.service_tiers
    return takes_option(profile, name) and (name not in OPENAI_EXTRAS or name in profile.extras)


def takes_option(profile: Profile, name: str) -> bool:
    return name not in profile.refused_options


def sampling_for(
    encoded: Encoded, request: Request, target: Target, effort: str | None, known: tuple[str, ...] = SAMPLING
) -> Json:
    """The sampling parameters that the upstream takes when it is sent this reasoning effort."""
    profile = target.profile
    reasons = profile.sampling == "without_reasoning" and profile.is_reasoning(effort)
    refused = profile.sampling == "refused" or reasons
    taken: Json = {}
    for name in SAMPLING:
        if name not in request.options:
            continue
        if refused or name not in known or not takes_option(profile, name):
            encoded.drop(name)
        else:
            taken[name] = request.options[name]
    if taken.get("temperature", 0) > profile.highest_temperature:
        taken["temperature"] = profile.highest_temperature
        encoded.repair("temperature")
    if profile.one_sampling and "temperature" in taken and "top_p" in taken:
        del taken["top_p"]
        encoded.drop("top_p")
    return taken


def effort_for(encoded: Encoded, request: Request, target: Target, has_tools: bool = False) -> str | None:
    """The reasoning effort to send, the nearest that the model takes: the owner's level where there is one.

    "none" is to be said in the way of `profile.off`; None: nothing is said of it.
    """
    profile = target.profile
    wanted = level_of(target) if target.reasoning != "auto" else request.effort
    sent = None if wanted is None else profile.effort(wanted)
    if has_tools and not profile.effort_beside_tools:
        sent = "none"
    if target.reasoning != "auto" or request.effort is None or sent == request.effort:
        return sent
    if sent is not None:
        encoded.repair("reasoning_effort")
    elif request.effort != "none" or profile.is_reasoning(None):
        encoded.drop("reasoning_effort")
    return sent


def level_of(target: Target) -> str | None:
    """The effort that a fixed level of config.json means; "off" is only said where the model reasons unless told."""
    if target.reasoning == "off":
        told = target.profile.reasons == "unless_off" and target.profile.off not in ("omit", "weakest")
        return "none" if told else None
    return target.reasoning


def stops_for(encoded: Encoded, request: Request, target: Target) -> list[str]:
    """The stop sequences for the upstream; `encoded.local_stop` gets those that it does not take."""
    profile = target.profile
    stops = [stop for stop in request.stop if stop]
    if len(stops) < len(request.stop):
        encoded.repair("stop")
    if profile.stops == "none" or (profile.most_stops is not None and len(stops) > profile.most_stops):
        encoded.local_stop = stops
        return []
    if profile.stops == "any":
        return stops
    encoded.local_stop = [stop for stop in stops if not stop.strip()]
    return [stop for stop in stops if stop.strip()]


def limit_for(encoded: Encoded, request: Request, target: Target, least: int = 0) -> int | None:
    """The most tokens to ask for: the client's wish within what the model gives and what the format takes."""
    if request.max_tokens is None:
        return None
    most = target.max_tokens or target.profile.max_output_tokens or request.max_tokens
    limit = max(min(request.max_tokens, most), least)
    if limit != request.max_tokens:
        encoded.repair("max_tokens")
    return limit


def room_for(target: Target, limit: int, budget: int) -> tuple[int, int]:
    """The most tokens and the budget for thinking where the former include the latter and leave no room beside it: they
    are raised above it, or the budget is lowered where the model gives no more.
    """
    limit = min(budget + limit, target.max_tokens or target.profile.max_output_tokens or budget + limit)
    return limit, budget if limit > budget else max(SMALLEST_BUDGET, limit - SMALLEST_BUDGET)


def cache_lives(request: Request) -> list[str]:
    """The time to live of each cache breakpoint; "" is the provider's default."""
    parts = [part for message in request.messages for part in message.parts]
    parts += [item for part in parts if isinstance(part, ToolResult) for item in part.content]
    return [cache for part in [*parts, *request.tools] if (cache := getattr(part, "cache", None)) is not None]


Takes: TypeAlias = Callable[[Image | Document, Target], bool]
"""Whether a format can say such media to a target, which takes them."""


def result_for(encoded: Encoded, result: ToolResult, target: Target, takes: Takes = takes_media) -> list[Part]:
    """What a tool gave back, with a note in place of media that the target does not take.

    The model can go on without them, while a refusal would end the session: they are in its history from now on.
    """
    shown: list[Part] = []
    for part in result.content:
        if _is_media(part) and not _is_taken(part, target, takes):
            if text_in(part) is None:
                encoded.drop(f"messages.tool_result.{_kind(part)}")
            part = _noted(part)
        shown.append(part)
    return shown


def history_for(
    encoded: Encoded, messages: list[Message], target: Target, takes: Takes = takes_media, in_answers: bool = False
) -> list[Message]:
    """The messages, with a note in place of media of earlier turns that the target does not take.

    Another model has read them, and a refusal would end the session. Those of the newest user message stay: what is
    asked now is refused by whoever encodes it. `in_answers`: whether an answer may have media in this format.
    """
    newest = next((message for message in reversed(messages) if message.role == "user"), None)
    fitted: list[Message] = []
    for message in messages:
        taken = in_answers or message.role != "assistant"
        parts: list[Part] = []
        for part in message.parts:
            if _is_media(part) and message is not newest and not (taken and _is_taken(part, target, takes)):
                if text_in(part) is None:
                    encoded.drop(f"messages.{_kind(part)}")
                encoded.repair("messages.media")
                part = _noted(part)
            parts.append(part)
        fitted.append(message if parts == message.parts else Message(message.role, parts))
    return fitted


def _is_media(part: Part) -> TypeGuard[Image | Document | Foreign]:
    return isinstance(part, Image | Document) or (isinstance(part, Foreign) and part.is_media)


def _is_taken(part: Image | Document | Foreign, target: Target, takes: Takes) -> bool:
    """No format takes media that only another one can express."""
    return not isinstance(part, Foreign) and takes(part, target)


def _kind(part: Image | Document | Foreign) -> str:
    return part.kind if isinstance(part, Foreign) else part.media_type or type(part).__name__.lower()


def _noted(part: Image | Document | Foreign) -> Text:
    """What stands for media that the model cannot read: the text of a text file, else a note."""
    text, name = text_in(part), part.name if isinstance(part, Document) else ""
    cache = None if isinstance(part, Foreign) else part.cache
    if text is None:
        return Text(f"[{_kind(part)} left out: this model cannot read it]", cache)
    return Text(f"{name}\n\n{text}" if name else text, cache)


# -- schemas --------------------------------------------------------------------------------------------------------


def parameters_for(encoded: Encoded, tool: Tool, target: Target, strict: bool = False) -> Json:
    """A function's parameters as a schema that the upstream takes, a strict one as those of its output too.

    Raises RequestError for one that is too deep.
    """
    given = tool.parameters or {"type": "object", "properties": {}}
    if "$schema" in given:  # says which draft it follows: some services refuse the word
        given = {name: value for name, value in given.items() if name != "$schema"}
        encoded.repair("tools.parameters.$schema")
    profile = target.profile
    dialects = (profile.tool_schema, profile.output_schema) if strict else (profile.tool_schema,)
    return _fitted(encoded, given, dialects, "tools", "tools.parameters")


def output_schema_for(encoded: Encoded, output: OutputFormat, target: Target) -> Json:
    """The schema of structured output. Raises RequestError for one that is nested too deep."""
    dialects = (target.profile.output_schema,)
    return _fitted(encoded, output.schema or {}, dialects, "response_format", "response_format.schema")


def drop_output_names(encoded: Encoded, output: OutputFormat) -> None:
    """For formats that have a schema of the output, but no words about it."""
    if output.name != OutputFormat(None).name:
        encoded.drop("response_format.name")
    if output.description:
        encoded.drop("response_format.description")


def _fitted(encoded: Encoded, schema: Json, dialects: tuple[Dialect, ...], where: str, path: str) -> Json:
    repaired: dict[str, None] = {}
    for dialect in dialects:
        schema, paths = fit(schema, dialect, where)
        repaired |= dict.fromkeys(paths)
    for each in list(repaired)[:MOST_PATHS]:
        encoded.repair(f"{path}.{each}")
    if len(repaired) > MOST_PATHS:
        encoded.repair(path, len(repaired) - MOST_PATHS)
    return schema


def strict_for(encoded: Encoded, strict: bool | None, schema: Json, target: Target, path: str) -> bool | None:
    """Whether OpenAI's services can be asked to obey the schema strictly; None: nothing is said of it."""
    if not strict:
        return strict
    if not target.profile.strict_tools and path == "tools.strict":
        encoded.drop(path)
        return None
    if obeys_strict(schema):
        return True
    encoded.repair(path)
    return False


# -- the choice of tools --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Choice:
    """A choice among the tools that are offered: `name` is the upstream's name of the one that must be called.

    `allowed` are the upstream's names of those that may be. `said` is what the model is told where it cannot be forced.
    """

    mode: Literal["auto", "none", "required"]
    name: str = ""
    tool: Tool | None = None
    allowed: set[str] | None = None
    said: str = ""


def choice_for(
    encoded: Encoded, request: Request, target: Target, effort: str | None, named: list[tuple[str, Tool]]
) -> Choice | None:
    """The client's choice among the tools that go out, each with its name for the upstream.

    What names a tool that does not go out goes too: nothing is forced then.
    """
    wanted = request.tool_choice
    if wanted is None:
        return None
    if not named:
        if wanted.mode == "required" or wanted.allowed is not None:
            encoded.drop("tool_choice")
        return None
    choice = Choice(wanted.mode)
    if wanted.allowed is not None:
        allowed = set(wanted.allowed)
        offered = {tool.name for _, tool in named}
        choice.allowed = {name for name, tool in named if tool.name in allowed}
        if not allowed <= offered:
            encoded.drop("tool_choice.allowed_tools")
    if wanted.name:
        choice.name, choice.tool = next(((name, tool) for name, tool in named if tool.name == wanted.name), ("", None))
        if not choice.tool:
            encoded.drop("tool_choice")
            choice.mode = "auto"
    _unforce(encoded, choice, target.profile, effort)
    return choice


def _unforce(encoded: Encoded, choice: Choice, profile: Profile, effort: str | None) -> None:
    """Where the model cannot be forced to call a tool, it is told to."""
    refused = profile.forced_tools == "refused"
    if profile.forced_tools == "without_reasoning":
        refused = profile.is_reasoning(effort)
    if refused and choice.mode == "required":
        encoded.repair("tool_choice")
        choice.said = f"Call {f'the tool {choice.name}' if choice.name else 'one of the tools'} now."
        choice.mode, choice.name, choice.tool = "auto", "", None
