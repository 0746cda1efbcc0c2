"""What a request means, in any format: messages, tools and settings.

Formats decode their own JSON into a Request and encode a Request into their own JSON; they meet only here.
`where` is the path of the part in the client's own body ("messages[3].content[1]"), for errors.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from droid2api.errors import RequestError
from droid2api.hub.events import State
from droid2api.hub.profiles import PLAIN, Profile
from droid2api.wire.fields import Json

PIECE = 10_000
"""Characters of a data URL that are read at once."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant"]


@dataclass(slots=True)
class Text:
    text: str
    cache: str | None = None
    """Cache breakpoint after this part: its time to live ("5m", "1h"; "" is the provider's default)."""
    where: str = field(default="", compare=False)
    state: State | None = None


@dataclass(slots=True)
class Refusal:
    text: str
    where: str = field(default="", compare=False)


@dataclass(slots=True)
class Media:
    """`data` is base64 of `media_type`, or `url` points to it."""

    media_type: str = ""
    data: str = ""
    url: str = ""
    cache: str | None = None
    where: str = field(default="", compare=False)

    @property
    def href(self) -> str:
        """The URL, a data URL for data."""
        return self.url or f"data:{self.media_type};base64,{self.data}"


@dataclass(slots=True)
class Image(Media):
    detail: str | None = None


@dataclass(slots=True)
class Document(Media):
    """A file for the model to read."""

    name: str = ""


def split_data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64 data) of a data URL, else None."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:"):
        return None
    if not head.endswith(";base64"):
        data = b64encode(_unquoted(data)).decode()
    media_type = head[len("data:") :].split(";")[0].strip().lower()
    return ("image/jpeg" if media_type == "image/jpg" else media_type or "application/octet-stream"), data


def _unquoted(text: str) -> bytes:
    """Without percent signs, piece by piece: the library makes objects of each escape, and keeps all of them."""
    out, start = bytearray(), 0
    while start < len(text):
        end = start + PIECE
        cut = text.rfind("%", end - 2, end)  # no escape is divided
        end = cut if cut > start else end
        out += unquote_to_bytes(text[start:end])
        start = end
    return bytes(out)


@dataclass(slots=True)
class Foreign:
    """Content that only the client's own format can express (audio, file ids); `kind` is its name there. `is_media`: a
    sound, a picture or a file, which a model can do without, as far as it is in the history."""

    kind: str
    where: str
    is_media: bool = False


@dataclass(slots=True)
class Reasoning:
    """`outdated`: the tools that can be called have changed since."""

    text: str
    state: State | None = None
    outdated: bool = False


@dataclass(slots=True)
class ToolCall:
    """`arguments` is JSON text of an object, or free text for a `custom` tool."""

    id: str
    name: str
    arguments: str
    custom: bool = False
    namespace: str = ""
    where: str = field(default="", compare=False)
    state: State | None = None


@dataclass(slots=True)
class ToolResult:
    call_id: str
    content: list[Part]
    is_error: bool = False
    custom: bool = False
    cache: str | None = None
    where: str = field(default="", compare=False)


Part: TypeAlias = Text | Refusal | Image | Document | Foreign | Reasoning | ToolCall | ToolResult


@dataclass(slots=True)
class Message:
    """A user message holds tool results too; formats that keep them apart split it."""

    role: Role
    parts: list[Part]


@dataclass(slots=True)
class WebSearch:
    """How a web search that the provider runs may search; None is the provider's default."""

    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    location: Json | None = None
    max_uses: int | None = None
    context_size: str | None = None
    live: bool | None = None


@dataclass(slots=True)
class Tool:
    """`kind` "custom" takes free text (`grammar` says which), "web_search" is run by the provider as `search` says.

    `native` is the client's own kind of tool, whose calls are no function calls in its format ("shell"); for everybody
    else it is a function.
    """

    name: str
    description: str = ""
    parameters: Json | None = None
    strict: bool | None = None
    kind: Literal["function", "custom", "web_search"] = "function"
    grammar: Json | None = None
    namespace: str = ""
    cache: str | None = None
    search: WebSearch | None = None
    native: str = ""


@dataclass(slots=True)
class ToolChoice:
    mode: Literal["auto", "none", "required"]
    name: str = ""
    """The one tool that must be called, with mode "required"."""
    allowed: list[str] | None = None


@dataclass(slots=True)
class OutputFormat:
    """Structured output; without a schema any JSON object."""

    schema: Json | None
    name: str = "output"
    strict: bool | None = None
    description: str | None = None


@dataclass(slots=True, frozen=True)
class Target:
    """What an encoder must know of the model that will answer; `service` is its endpoint's host."""

    id: str
    reasoning: str = "auto"
    fast: bool = False
    max_tokens: int | None = None
    service: str = ""
    profile: Profile = PLAIN
    cache: Literal["auto", "off"] = "auto"
    """Whether cache breakpoints are set where the client has set none."""

    @property
    def family(self) -> str:
        return family(self.id)

    def state(self, format: str, data: Json) -> State:
        """State of a block that this upstream, which speaks `format`, has made."""
        return State(format, self.family, data, self.service)

    def state_data(self, state: State | None, format: str) -> Json | None:
        """A state's data, where this upstream's `format`, model family and service made it; else it must not be sent.

        The service counts where both are known: a client's own state does not say it.
        """
        if state is None or (state.format, state.family) != (format, self.family):
            return None
        same = not state.service or not self.service or state.service == self.service
        return state.data if same else None


def family(model: str) -> str:
    """The leading word of a model id without its vendor: "anthropic/claude-opus-5" is "claude"."""
    found = re.match(r"[a-zA-Z]+", model.rsplit("/", 1)[-1])
    return found.group().lower() if found else ""


@dataclass(slots=True)
class Notes:
    """What became of a request: paths in the words that all formats share."""

    dropped: list[str] = field(default_factory=list, kw_only=True)
    """Paths of what this gateway, or the upstream, cannot carry ("seed", "tools.file_search")."""
    repaired: Counter[str] = field(default_factory=Counter, kw_only=True)
    """Paths of what was put in order ("messages.merged"), and how often."""
    _known: set[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._known = set(self.dropped)

    def drop(self, path: str) -> None:
        """Note that what the client's body has at `path` is not carried."""
        if path not in self._known:
            self._known.add(path)
            self.dropped.append(path)


@dataclass(slots=True)
class Request(Notes):
    model: str
    messages: list[Message]
    stream: bool | None = None
    include_usage: bool = False
    tools: list[Tool] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    effort: str | None = None
    """Reasoning effort: none, minimal, low, medium, high, xhigh, max; None leaves it to the model."""
    show_reasoning: bool | None = False
    """Whether the client asks for the text of the reasoning, as far as the model gives it. None: its format has no word
    for that, but what comes is shown."""
    output: OutputFormat | None = None
    user: str | None = None
    options: Json = field(default_factory=dict)
    """All other settings, by the name that the Chat format has for them (else the client's own name)."""
    body: Json = field(default_factory=dict)
    """The client's own JSON: a Responses answer repeats its settings."""

    def drop_rest(self, path: str, value: Json, known: frozenset[str]) -> None:
        """Note the fields of an object that nothing reads: all but the known ones, and those that say nothing."""
        for name, found in value.items():
            if name not in known and found not in (None, "", [], {}):
                self.drop(f"{path}.{name}")


def unsupported(part: Part, target: str) -> RequestError:
    """The error for content that the target format cannot express."""
    kind = part.kind if isinstance(part, Foreign) else type(part).__name__.lower()
    if isinstance(part, Media) and part.media_type:
        kind = part.media_type
    where = getattr(part, "where", "") or "messages"
    return RequestError(f"{where}: {kind} content cannot be sent to an {target} model.", param=where)
