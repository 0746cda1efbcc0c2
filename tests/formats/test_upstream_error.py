"""An upstream's error bodies: their words and code arrive, whatever the shape, and overflows of the context too."""

import pytest

from droid2api.errors import UpstreamError
from droid2api.formats import BY_NAME
from droid2api.formats.overflow import overflow_counts
from droid2api.formats.upstream_error import MOST_MESSAGE, read_error
from droid2api.hub.events import Failed
from tests.timing import assert_quick

from .bodies import target

BODIES = [
    ([{"error": {"code": 400, "message": "boom", "status": "INVALID_ARGUMENT"}}], "boom", "400"),
    (
        {"detail": [{"loc": ["body", "messages", 0], "msg": "boom", "type": "missing"}]},
        "body.messages.0: boom",
        "missing",
    ),
    (
        {"detail": [{"loc": ["a"], "msg": "boom"}, {"loc": ["b"], "msg": "bang"}]},
        "a: boom; b: bang",
        None,
    ),
    (
        {
            "object": "error",
            "message": {"detail": [{"loc": ["body"], "msg": "boom", "type": "extra"}]},
            "type": "invalid",
        },
        "body: boom",
        "extra",
    ),
    ({"message": {"detail": ["boom"]}}, "boom", None),
    ({"errors": [{"message": "boom", "code": "E1"}]}, "boom", "E1"),
    ({"error": {"message": {"error": {"message": "boom", "code": "inner"}}, "code": "outer"}}, "boom", "inner"),
    ({"title": "Bad", "status": 400, "detail": "boom"}, "boom", "400"),
    ({"error_msg": "boom", "error_code": 336}, "boom", "336"),
    (
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"error":{"message":"boom"}}'},
            }
        },
        "Provider returned error; boom",
        "400",
    ),
    ({"error": {"code": "x", "message": ""}}, "The upstream answered with an error (x).", "x"),
    (
        {"Error": {"Message": "boom"}, "code": "E1"},
        'The upstream answered with an error ({"Error":{"Message":"boom"},"code":"E1"}).',
        "E1",
    ),
    (
        {"errors": {"model": ["boom"]}},
        'The upstream answered with an error ({"errors":{"model":["boom"]}}).',
        None,
    ),
    ({"error": "invalid_token", "error_description": "boom"}, "invalid_token; boom", None),
    ("boom", "boom", None),
    (["boom"], "boom", None),
]


@pytest.mark.parametrize(("body", "message", "code"), BODIES)
def test_error_bodies(body, message, code):
    error = read_error(body, 400)
    assert type(error) is UpstreamError
    assert (error.message, error.code, error.status) == (message, code, 400)


def test_error_bodies_have_their_limits():
    deep = {"message": "boom"}
    for _ in range(500):
        deep = {"error": deep}
    assert read_error(deep, 400).message == "The upstream answered with an error (no message)."
    unknown = read_error({"x": "y" * 5000}, 400).message
    assert unknown.startswith('The upstream answered with an error ({"x":"yyy')
    assert len(unknown) < 1100
    many = read_error({"detail": [{"msg": f"m{number}"} for number in range(1000)]}, 400).message
    assert many == "m0; m1; m2; m3; m4"
    long = read_error({"message": "y" * 1_000_000}, 400).message
    assert long == "y" * MOST_MESSAGE + "..."


def test_an_error_that_is_nested_too_deeply_to_be_shown():
    deep = []
    for _ in range(300):
        deep = [deep]
    for format in BY_NAME.values():
        assert format.read_error({"x": "words", "deep": deep}, 400).message == (
            "The upstream answered with an error (no message)."
        )
        for event in ({"error": {"x": "words", "deep": deep}}, {"type": None, "deep": deep}, {"type": 5, "deep": deep}):
            decoder = format.StreamDecoder(target(format.NAME, "m"))
            events = decoder.feed_values([event]) + decoder.close()
            assert type(events[-1]) is Failed


@pytest.mark.parametrize("words", ["exceed", "11111111", "maximum length (", "requested ", "limit of 1,"])
def test_a_long_error_is_read_in_no_time(words):
    """Some patterns take the square of what they search."""
    message = words * (500_000 // len(words))
    assert_quick(lambda: [read_error({"message": message}, 400), read_error(message, 400)], 0.5)
    assert_quick(lambda: overflow_counts(message), 0.5)


OVERFLOWS = [
    (
        "This model's maximum context length is 102400 tokens. However, you requested 107837 tokens (99645 in the "
        "messages, 8192 in the completion). Please reduce the length of the messages or completion.",
        (107837, 102400),
    ),
    (
        "This model's maximum context length is 128,000 tokens. However, your messages resulted in 130,500 tokens.",
        (130500, 128000),
    ),
    ("Your input exceeds the context window of this model. Please adjust your input and try again.", None),
    (
        "You passed 9000 input tokens and requested 1000 output tokens. However, the model's context length is only "
        "8192 tokens, resulting in a maximum input length of 7192 tokens. Please reduce the length of the prompt.",
        (10000, 8192),
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 32768 "
        "tokens and your request has 28000 input tokens (8192 > 32768 - 28000).",
        (36192, 32768),
    ),
    ("The decoder prompt (length 40000) is longer than the maximum model length of 32768.", (40000, 32768)),
    ("Input length (9000) exceeds model's maximum context length (8192).", (9000, 8192)),
    ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it", (9000, 8192)),
    ("the request exceeds the available context size, try increasing it", None),
    (
        "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context "
        "length of only 4096 tokens, which is not enough.",
        (5000, 4096),
    ),
    ("prompt too long; exceeded max context length by 123 tokens", None),
    ("prompt is too long: 210000 tokens > 200000 maximum", (210000, 200000)),
    (
        "input length and `max_tokens` exceed context limit: 199000 + 20000 > 200000, decrease input length or "
        "`max_tokens` and try again",
        (219000, 200000),
    ),
    (
        "The input token count (1050000) exceeds the maximum number of tokens allowed (1048576).",
        (1050000, 1048576),
    ),
    ("Input is too long for requested model.", None),
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        (40000, 32768),
    ),
    ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", (140000, 131072)),
    ("Your request exceeded model token limit: 262144 (requested: 270000)", (270000, 262144)),
    ("Range of input length should be [1, 129024]", None),
    ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", (9000, 8192)),
    (
        "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000 `inputs` tokens and 512 `max_new_tokens`",
        (9512, 8193),
    ),
    ("The prompt is too long: 140000, model maximum context length: 131071", (140000, 131071)),
    ("invalid params, context window exceeds limit (2013)", None),
    ("prompt token count of 140000 exceeds the limit of 128000", (140000, 128000)),
    ("Please reduce the length of the messages. Current length is 9000 while limit is 8192", (9000, 8192)),
    ("The context window of 8192 tokens cannot hold 9000 tokens", (9000, 8192)),
    ("Token limit exceeded", None),
    ("tokens in request more than max tokens allowed", None),
    ("The prompt contains 9000 tokens but the limit is 8192 tokens", (9000, 8192)),
    ("The total number of tokens in the request (9000) exceeds the context (8192)", (9000, 8192)),
    ("This model's maximum context length is 8192 tokens, and gpt-4-0613 was asked on 2024-06-13", None),
]


@pytest.mark.parametrize(("message", "counts"), OVERFLOWS)
def test_overflows_of_the_context(message, counts):
    error = read_error({"error": {"message": message, "type": "x", "code": 400}}, 400)
    assert error.code == "context_length_exceeded"
    assert overflow_counts(message) == counts
    told = BY_NAME["anthropic"].encode_error(error)["error"]["message"]
    expected = "prompt is too long" + (f": {counts[0]} tokens > {counts[1]} maximum" if counts else "")
    assert told == (message if message.startswith("prompt is too long") else expected)


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Rate limit reached for x on tokens per min (TPM): Limit 30000, Used 29000, Requested 5000.", 429),
        ("Too many tokens, please wait before trying again.", 400),
        ("Too many tokens per day", 400),
        ("max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens", 400),
        ("The number of output tokens exceeds 64000", 400),
        ("Token limit exceeded for your organization per minute", 429),
        ("messages: text content blocks must be non-empty", 400),
        ("You exceeded your current quota", 429),
    ],
)
def test_other_errors_are_no_overflow(message, status):
    assert read_error({"error": {"message": message, "type": "x"}}, status).code == "x"


@pytest.mark.parametrize(
    "name", ["context_length_exceeded", "exceed_context_size_error", "model_max_prompt_tokens_exceeded"]
)
def test_overflows_by_their_code(name):
    assert read_error({"error": {"message": "No.", "type": name}}, 400).code == "context_length_exceeded"
