"""Profiles: what is known of a service and a model, what is not, and what its owner says of it."""

import re
from dataclasses import FrozenInstanceError, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droid2api.errors import RequestError
from droid2api.hub import profile_table
from droid2api.hub.profile_table import EFFORTS, OPENAI_EXTRAS, ROWS
from droid2api.hub.profiles import Profile, nearest_effort, normalized, profile_of, read_overrides

LOCAL = "127.0.0.1"
FORMATS = ("chat", "responses", "anthropic", "gemini")


def claude(id, host="api.anthropic.com"):
    return profile_of(host, id, "anthropic")


def chat(id, host=LOCAL):
    return profile_of(host, id, "chat")


# -- the table -------------------------------------------------------------------------------------------------------


def test_every_row_has_its_source_above_it():
    lines = Path(profile_table.__file__).read_text().splitlines()
    above = [before for before, line in pairwise(lines) if line.startswith("    _row(")]
    assert len(above) == len(ROWS)
    assert [line for line in above if not re.match(r"    # \S+", line)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.models[0]} {row.hosts[0]} {row.formats[0]}")
def test_every_row_has_facts_that_a_config_could_have(row):
    assert row.facts
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in row.facts.items()}
    assert read_overrides(plain, "") == dict(row.facts)
    assert replace(Profile(), **row.facts)
    assert set(row.formats) <= {*FORMATS, "*"}


def test_efforts_are_listed_weakest_first():
    for row in ROWS:
        efforts = [effort for effort in row.facts.get("efforts") or () if effort in EFFORTS]
        assert efforts == sorted(efforts, key=EFFORTS.index)
        assert "none" not in efforts


def test_a_model_that_cannot_be_told_not_to_reason_has_a_weakest_effort_or_none_at_all():
    for row in ROWS:
        if row.facts.get("off") == "weakest":
            assert row.facts["reasons"] == "always"


def test_an_unknown_id_gets_the_common_subset():
    for format in ("chat", "responses", "anthropic"):
        assert profile_of(LOCAL, "llama-5-70b", format) == profile_of("gpu.example.org", "house-model", format)
    unknown = chat("house-model")
    assert unknown.efforts is None  # an effort is passed on, since nobody knows better
    assert unknown.system_messages == "first"
    assert (unknown.extras, unknown.service_tiers, unknown.refused_options) == ((), (), ())
    assert (unknown.sampling, unknown.stops, unknown.most_stops) == ("taken", "any", 4)
    assert (unknown.limit_field, unknown.ids, unknown.off, unknown.reasons) == ("max_tokens", "kept", "none", "asked")
    messages = profile_of(LOCAL, "house-model", "anthropic")
    assert (messages.thinking, messages.off, messages.system_messages) == ("budget", "omit", "first")
    assert messages.unsigned_thinking
    assert not messages.prefill_space


def test_an_unknown_format_gets_the_plain_profile():
    assert profile_of(LOCAL, "house-model", "toy") == Profile()


def test_profiles_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Profile().off = "omit"


@given(st.text(), st.text(), st.sampled_from([*FORMATS, "toy"]))
def test_any_host_and_id_has_a_profile(host, id, format):
    assert isinstance(profile_of(host, id, format), Profile)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-opus-5-5[1m]", "claude-opus-5-5"),
        ("anthropic/claude-opus-4.8", "claude-opus-4-8"),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", "claude-opus-4-1"),
        ("us.anthropic.claude-opus-4-8-v1:0", "claude-opus-4-8"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("us-gov.openai.gpt-oss-120b-1:0", "gpt-oss-120b-1"),
        ("moonshotai.kimi-k2.5", "kimi-k2.5"),
        ("accounts/fireworks/models/glm-5p1", "glm-5.1"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("GPT-5.5", "gpt-5.5"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("deepseek/deepseek-v4-pro:free", "deepseek-v4-pro"),
        ("deepseek-v4-flash-0731", "deepseek-v4-flash-0731"),
        ("glm-4.6", "glm-4.6"),
        ("", ""),
    ],
)
def test_names_are_normalized(given, expected):
    assert normalized(given) == expected
    assert normalized(expected) == expected


# -- efforts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "efforts", "expected"),
    [
        ("high", None, "high"),
        ("default", None, None),  # Groq's own word stops at Groq's door
        ("high", (), None),
        ("medium", ("low", "medium", "high"), "medium"),
        ("minimal", ("low", "medium", "high"), "low"),
        ("xhigh", ("low", "medium", "high"), "high"),
        ("max", ("low", "medium", "high", "xhigh"), "xhigh"),
        ("xhigh", ("low", "medium", "high", "max"), "max"),  # as near as high: the stronger
        ("medium", ("low", "high", "max"), "high"),
        ("low", ("high", "max"), "high"),
        ("none", ("minimal", "low"), "minimal"),
        ("default", ("default",), "default"),
        ("high", ("default",), "default"),
        ("default", ("low", "high"), None),
        ("ultra", ("low", "high"), None),
    ],
)
def test_the_nearest_effort(wanted, efforts, expected):
    assert nearest_effort(wanted, efforts) == expected


@given(st.sampled_from(EFFORTS), st.lists(st.sampled_from(EFFORTS[1:]), unique=True).map(tuple))
def test_no_effort_of_the_list_is_nearer(wanted, efforts):
    def far(effort):
        return abs(EFFORTS.index(effort) - EFFORTS.index(wanted))

    found = nearest_effort(wanted, efforts)
    assert (found in efforts) if efforts else (found is None)
    assert not found or all(far(found) <= far(effort) for effort in efforts)


@pytest.mark.parametrize(
    ("id", "host", "format", "efforts", "off", "reasons"),
    [
        ("claude-opus-5-5", LOCAL, "anthropic", "low medium high xhigh max", "weakest", "always"),
        ("claude-sonnet-5-5", LOCAL, "anthropic", "low medium high xhigh max", "between_tools", "unless_off"),
        ("claude-haiku-5-5", LOCAL, "anthropic", "low medium high xhigh max", "disabled", "unless_off"),
        ("claude-opus-5", LOCAL, "anthropic", "low medium high xhigh max", "disabled", "unless_off"),
        ("claude-fable-5.1", LOCAL, "anthropic", "low medium high xhigh max", "weakest", "always"),
        ("claude-opus-4-7", LOCAL, "anthropic", "low medium high xhigh max", "omit", "asked"),
        ("claude-sonnet-4-6", LOCAL, "anthropic", "low medium high max", "omit", "asked"),
        ("claude-haiku-4-5-20251001", LOCAL, "anthropic", "low medium high", "omit", "asked"),
        ("gpt-4.1", LOCAL, "chat", "", "omit", "never"),
        ("gpt-4o-mini", LOCAL, "responses", "", "omit", "never"),
        ("o4-mini", LOCAL, "responses", "low medium high", "weakest", "always"),
        ("gpt-5-mini", LOCAL, "chat", "minimal low medium high", "weakest", "always"),
        ("gpt-5-codex", LOCAL, "responses", "low medium high", "weakest", "always"),
        ("gpt-5.1", LOCAL, "responses", "low medium high", "none", "asked"),
        ("gpt-5.1-codex-max", LOCAL, "responses", "low medium high xhigh", "weakest", "always"),
        ("gpt-5.2", LOCAL, "responses", "low medium high xhigh", "none", "asked"),
        ("gpt-5.5", LOCAL, "responses", "low medium high xhigh", "none", "unless_off"),
        ("gpt-5.5-pro", LOCAL, "responses", "medium high xhigh", "weakest", "always"),
        ("gpt-5.6-terra", LOCAL, "responses", "low medium high xhigh max", "none", "unless_off"),
        ("gpt-6-astra", LOCAL, "responses", "low medium high xhigh max", "weakest", "always"),
        ("gemini-2.5-flash", LOCAL, "gemini", "low medium high", "disabled", "unless_off"),
        ("gemini-2.5-flash", "generativelanguage.googleapis.com", "chat", "low medium high", "none", "unless_off"),
        ("gemini-2.5-pro", LOCAL, "gemini", "low medium high", "weakest", "always"),
        ("gemini-3.5-flash", LOCAL, "gemini", "minimal low medium high", "weakest", "always"),
        ("gemini-3.1-pro-preview", LOCAL, "gemini", "low medium high", "weakest", "always"),
        ("grok-4.5", LOCAL, "chat", "low medium high", "weakest", "always"),
        ("grok-4.7", LOCAL, "chat", "low medium high xhigh", "weakest", "always"),
        ("deepseek-v4-pro", "api.deepseek.com", "chat", "low high max", "disabled", "unless_off"),
        ("deepseek-v4-pro", "api.factory.ai", "chat", "low high max", "none", "unless_off"),
        ("glm-5.3", "api.z.ai", "chat", "low high max", "weakest", "always"),
        ("glm-5.2", "api.z.ai", "chat", "high max", "disabled", "unless_off"),
        ("glm-4.6", "api.z.ai", "chat", "", "disabled", "unless_off"),
        ("glm-4.6", "api.factory.ai", "chat", "", "none", "asked"),
        ("kimi-k3", "api.factory.ai", "chat", "low high max", "none", "unless_off"),
        ("kimi-k3", "api.moonshot.ai", "chat", "low high max", "weakest", "always"),
        ("kimi-k2.6", "api.moonshot.cn", "chat", "", "disabled", "unless_off"),
        ("qwen/qwen3-32b", "api.groq.com", "chat", "default", "none", "unless_off"),
        ("openai/gpt-oss-120b", "api.groq.com", "chat", "low medium high", "weakest", "always"),
    ],
)
def test_what_models_take(id, host, format, efforts, off, reasons):
    profile = profile_of(host, id, format)
    assert (profile.efforts, profile.off, profile.reasons) == (tuple(efforts.split()), off, reasons)


@pytest.mark.parametrize(
    ("profile", "wanted", "expected"),
    [
        (Profile(), "none", "none"),
        (Profile(off="disabled"), "none", "none"),
        (Profile(off="between_tools"), "none", "none"),
        (Profile(off="omit"), "none", None),
        (Profile(off="weakest", efforts=("low", "high")), "none", "low"),
        (Profile(off="weakest"), "none", None),
        (Profile(off="weakest", efforts=()), "none", None),
        (Profile(off="omit"), "high", "high"),
        (Profile(efforts=("low",)), "high", "low"),
        (Profile(efforts=()), "high", None),
    ],
)
def test_the_effort_to_send(profile, wanted, expected):
    assert profile.effort(wanted) == expected


@pytest.mark.parametrize(
    ("profile", "effort", "expected"),
    [
        (Profile(), None, False),
        (Profile(), "low", True),
        (Profile(), "none", False),
        (Profile(reasons="never"), "low", False),
        (Profile(reasons="unless_off"), None, True),
        (Profile(reasons="unless_off"), "none", False),
        (Profile(reasons="unless_off", off="omit"), "none", True),
        (Profile(reasons="always"), "none", True),
    ],
)
def test_when_a_model_reasons(profile, effort, expected):
    assert profile.is_reasoning(effort) is expected


# -- facts that reports are about --------------------------------------------------------------------------------------


def test_only_named_claude_models_take_system_messages_between_turns():
    taken = "opus-4-8 opus-5 opus-5-5 opus-5-5-fast sonnet-5-5 haiku-5-5 fable-5 fable-5-1 mythos-5"
    assert {claude(f"claude-{name}").system_messages for name in taken.split()} == {"after_user"}
    others = "opus-4-7 sonnet-4-6 sonnet-5 opus-4-1-20250805 haiku-4-5 sonnet-6 opus-6"
    assert {claude(f"claude-{name}").system_messages for name in others.split()} == {"first"}


def test_claude_since_4_6_takes_no_prefill_at_any_host():
    assert claude("claude-opus-4-5").prefill
    for id in ("claude-opus-4-6", "claude-sonnet-5", "claude-opus-5-5"):
        assert not claude(id).prefill
        assert not chat(f"anthropic/{id}", "openrouter.ai").prefill


def test_claudes_ways_of_thinking():
    assert claude("claude-opus-4-5").thinking == "budget"
    assert claude("claude-opus-4-6").thinking == "adaptive"
    assert (claude("claude-opus-4-6").sampling, claude("claude-opus-4-7").sampling) == ("without_reasoning", "refused")
    assert not claude("claude-sonnet-4-6").thinking_hidden
    assert claude("claude-opus-4-7").thinking_hidden
    assert claude("claude-opus-5").forced_tools == "without_reasoning"
    assert claude("claude-opus-5-5").forced_tools == "refused"
    assert claude("claude-fable-5-1").bound_thinking
    assert not claude("claude-opus-5").bound_thinking


def test_only_claude_refuses_unsigned_thinking():
    assert not claude("claude-haiku-4-5", LOCAL).unsigned_thinking
    assert profile_of("api.minimax.io", "minimax-m3", "anthropic").unsigned_thinking


def test_reasoning_goes_back_to_deepseek_and_kimi_whoever_made_it():
    for id in ("deepseek-v4-pro", "accounts/fireworks/models/kimi-k2.6", "kimi-k3"):
        assert chat(id).replay == "always"
    assert chat("glm-4.6").replay == "own"


def test_openai_beside_tools_and_its_extras():
    assert chat("gpt-5.2").effort_beside_tools
    for id in ("gpt-5.4", "gpt-5.5", "gpt-5.6-sol"):
        assert not chat(id, "api.openai.com").effort_beside_tools
        assert profile_of("api.openai.com", id, "responses").effort_beside_tools
    assert chat("gpt-5.5").extras == OPENAI_EXTRAS
    assert chat("gpt-oss-120b").extras == ()
    assert chat("ft:anything", "api.openai.com").extras == OPENAI_EXTRAS


def test_openais_models_that_reason():
    for id in ("o3", "gpt-5", "gpt-5.5", "gpt-6-luna", "openai/gpt-7", "gpt-12"):
        profile = chat(id)
        assert (profile.stops, profile.limit_field) == ("none", "max_completion_tokens")
        assert profile.sampling != "taken"
    assert chat("gpt-4.1").limit_field == "max_tokens"
    assert chat("gpt-5-chat-latest").sampling == "taken"


@pytest.mark.parametrize(
    ("id", "most"), [("gpt-5.5", 0), ("gpt-5.6-sol", 3), ("gpt-6-luna", 3), ("gpt-10", 3), ("glm-4.6", 0)]
)
def test_cache_breakpoints(id, most):
    assert chat(id).cache_breakpoints == most


def test_what_only_groq_has_stays_there():
    groq = chat("llama-4", "api.groq.com")
    assert "on_demand" in groq.service_tiers
    assert "on_demand" not in chat("gpt-5.5").service_tiers
    assert groq.extras == ()
    assert {"logprobs", "top_k", "min_p"} <= set(groq.refused_options)
    assert "top_k" in chat("llama-4", "api.cerebras.ai").refused_options


def test_ids_that_mistral_takes():
    assert chat("mistral-large").ids == chat("any", "api.mistral.ai").ids == "nine"
    assert chat("kimi-k2.6").ids == "kept"


def test_gemini_by_generation():
    assert profile_of(LOCAL, "gemini-2.5-pro", "gemini").thinking == "budget"
    assert profile_of(LOCAL, "gemini-3-pro-preview", "gemini").thinking == "level"
    assert profile_of(LOCAL, "gemini-3-pro-preview", "chat").signed_calls
    assert not profile_of(LOCAL, "gemini-2.5-pro", "gemini").signed_calls
    assert not profile_of(LOCAL, "gemini-4-neon", "gemini").prefill


# -- what a config says ------------------------------------------------------------------------------------------------


def test_every_field_can_be_overridden():
    hints = get_type_hints(Profile)
    values: dict[str, object] = {}
    for field in fields(Profile):
        hint = hints[field.name]
        if choices := [choice for choice in get_args(hint) if isinstance(choice, str)]:
            values[field.name] = choices[-1]
        elif hint is bool:
            values[field.name] = not field.default
        elif hint is float or "int" in str(hint):
            values[field.name] = 7
        else:
            values[field.name] = {"efforts": ["low", "max"], "extras": ["store"]}.get(field.name, ["image/png"])
    overridden = replace(Profile(), **read_overrides(values, ""))
    for name, value in values.items():
        assert getattr(overridden, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"colour": 1}, "profile.colour: is no field of a profile. Fields: efforts, off, "),
        ({"off": "never"}, "profile.off: must be one of omit, none, disabled, between_tools, weakest, not 'never'."),
        ({"off": None}, "profile.off: must be one of omit, none"),
        ({"off": ["none"]}, "profile.off: must be one of omit, none"),
        ({"efforts": "high"}, "profile.efforts: must be a list of strings, not a string."),
        ({"efforts": ["low", "hgih"]}, "profile.efforts[1]: must be one of minimal, low, medium, high, xhigh, max, "),
        ({"efforts": ["none"]}, "profile.efforts[0]: must be one of minimal, "),
        ({"efforts": [1]}, "profile.efforts[0]: must be a string, not an integer."),
        ({"extras": ["storage"]}, "profile.extras[0]: must be one of store, metadata, "),
        ({"media": None}, "profile.media: must be a list of strings, not null."),
        ({"prefill": "yes"}, "profile.prefill: must be true or false, not a string."),
        ({"prefill": 1}, "profile.prefill: must be true or false, not an integer."),
        ({"most_stops": True}, "profile.most_stops: must be an integer or null, not true or false."),
        ({"most_stops": -1}, "profile.most_stops: must be 0 or more, not -1."),
        ({"max_output_tokens": 0}, "profile.max_output_tokens: must be 1 or more, not 0."),
        ({"max_output_tokens": 1.5}, "profile.max_output_tokens: must be an integer or null, not a number."),
        ({"highest_temperature": "2"}, "profile.highest_temperature: must be a number, not a string."),
        ({"highest_temperature": -0.1}, "profile.highest_temperature: must be 0 or more, not -0.1."),
    ],
)
def test_what_a_config_must_not_say(overrides, message):
    with pytest.raises(RequestError) as refused:
        read_overrides(overrides, "profile.")
    assert refused.value.message.startswith(message)


def test_null_makes_unknown_what_may_be_unknown():
    assert read_overrides({"efforts": None, "max_output_tokens": None}, "") == {
        "efforts": None,
        "max_output_tokens": None,
    }
