"""An overflow of a model's context, in the wordings that services have for it, and the two numbers it may tell."""

import re

MOST_SEARCHED = 2000
"""Characters of a message in which an overflow is looked for: some patterns take the square of what they search."""


def _compiled(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(pattern, re.IGNORECASE) for pattern in patterns]


_OVERFLOW = _compiled(
    r"(prompt|input|request|conversation|messages?) (is|are|was) too (long|large) for",
    r"(prompt|input) is too long|prompt too long|reduce the length",
    r"maximum context|available context|context[ _](length|window|size|limit)",
    r"max(imum)? (model|prompt|input) length|max(imum)? size: [\d,]+ tokens",
    r"exceed\w* (the )?(model('s)? |max(imum)? )*(token|length|prompt) ?(limit|length)",
    r"exceed\w* max(imum)? (message )?(length|tokens)",
    r"maximum number of (input )?tokens allowed|token count .{0,60}exceeds",
    r"(input|prompt) (length|tokens?) .{0,40}(exceed|too (long|large)|should be)",
    r"too many (input |total )?tokens",
    r"token limit (was |has been )?exceeded|tokens in request more than max tokens",
    r"number of tokens .{0,60}exceeds|[\d,]+ tokens,? but the (limit|max(imum)?) is",
    r"max_new_tokens. must be|must have less than [\d,]+ tokens",
)
_THROTTLED = re.compile(r"rate.?limit|per[ -](min|day|hour)|quota|please wait|\bTPM\b", re.IGNORECASE)
_OVERFLOW_NAMES = frozenset(
    "context_length_exceeded context_window_exceeded exceed_context_size_error model_max_prompt_tokens_exceeded "
    "tokens_limit_reached context_too_long context_limit_exceeded".split()
)


def is_overflow(message: str, names: list[str], status: int) -> bool:
    """Whether the request was too long for the model's context, in any of the wordings that services have for it."""
    if not _OVERFLOW_NAMES.isdisjoint(names):
        return True
    if status in (401, 402, 403, 404, 429) or _THROTTLED.search(message):
        return False
    return any(pattern.search(message, 0, MOST_SEARCHED) for pattern in _OVERFLOW)


_N = r"\(?(\d[\d,_]*)"
_LIMITS = _compiled(
    rf"exceeds? context limit: [\d,]+ \+ [\d,]+ > {_N}",
    rf"context (?:length|window|size|limit)(?: of this model)?(?: \w+){{0,3}}? (?:is|of)(?: only)? {_N}",
    rf"context (?:length|window|size|limit):? {_N}",
    rf"{_N} (?:tokens? )?max(?:imum)? context",
    rf"max(?:imum)? (?:model |prompt |input |sequence )?length(?: of the model)?(?: is| of|:)? {_N}",
    rf"tokens allowed:? {_N}",
    rf"token limit: ?{_N}",
    rf"must be <= {_N}",
    rf"less than {_N} tokens",
    rf"should be \[\d+, ?{_N}\]",
    rf"> {_N}",
    rf"limit (?:is|of|for this model is) {_N}",
)
_TOTALS = _compiled(rf"requested (?:about |a total of )?{_N} tokens", rf"requested: ?{_N}", rf"{_N} tokens in total")
_INPUTS = _compiled(
    rf"{_N} tokens? > ",
    rf"context limit: {_N} \+",
    rf"(?:resulted in|contains?|passed|has|have|request|input|inputs|prompt|sent|got) {_N} (?:\w+ )?tokens",
    rf"(?:prompt|input|request) \(length {_N}",
    rf"token count(?: of)? {_N}",
    rf"too long: {_N}",
    rf"(?:current length is|length|given:|using) {_N}(?! tokens? max)",
    rf"first {_N} tokens",
)
_OUTPUTS = _compiled(
    rf"requested {_N} output tokens",
    rf"and {_N} .max_new_tokens",
    rf"is too large: {_N}",
    rf"context limit: [\d,]+ \+ {_N}",
)
_EXCESSES = _compiled(rf"exceed\w* by {_N} tokens")


def overflow_counts(message: str) -> tuple[int, int] | None:
    """(tokens sent, tokens allowed) as an overflow's message tells them; None when it does not, or not clearly."""
    message = message[:MOST_SEARCHED]
    limit, total = _first(_LIMITS, message), _first(_TOTALS, message)
    if total is None and (total := _first(_INPUTS, message)) is not None:
        total += _first(_OUTPUTS, message) or 0
    if limit is not None and (excess := _first(_EXCESSES, message)) is not None:
        return limit + excess, limit
    if limit is not None and total is not None:
        return (total, limit) if total > limit else None
    counts = sorted({_count(found) for found in re.findall(r"(?<![\w.:/-])\d[\d,_]*(?![\w:/-]|\.\d)", message)})
    if len(counts) == 2 and counts[0] >= 100 and "token" in message.lower():
        return counts[1], counts[0]
    return None


def _first(patterns: list[re.Pattern[str]], message: str) -> int | None:
    return next((_count(found.group(1)) for pattern in patterns if (found := pattern.search(message))), None)


def _count(digits: str) -> int:
    return int(re.sub(r"\D", "", digits)[:18])
