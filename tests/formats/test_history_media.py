"""Media of a history that the model does not take: left out by name, while those of the newest turn are refused."""

from dataclasses import replace

import pytest

from droid2api.errors import RequestError
from droid2api.wire.fields import dump

from .bodies import (
    PNG,
    anthropic,
    anthropic_call,
    anthropic_result,
    assistant,
    chat,
    convert,
    gemini,
    gemini_call,
    gemini_result,
    gemini_user,
    responses,
    responses_call,
    responses_result,
    target,
    text,
    user,
)

OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
IDS = {"chat": "llama-3.3", "responses": "gpt-5.5", "anthropic": "claude-opus-4-5", "gemini": "gemini-2.5-pro"}
MODELS = {name: target(name, id) for name, id in IDS.items()}
BLIND = {name: replace(model, profile=replace(model.profile, media=())) for name, model in MODELS.items()}

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
LINKED = {"type": "document", "title": "a.pdf", "source": {"type": "url", "url": "https://x/a.pdf"}}
INLINE = {"inlineData": {"mimeType": "image/png", "data": PNG}}
SHEET = {"type": "input_file", "filename": "a.docx", "file_data": f"data:{OFFICE};base64,UEsDBA=="}
DRAWN = {"role": "model", "parts": [INLINE]}
SAID = {"role": "model", "parts": [{"text": "ok"}]}
SHEETS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ALL = ("chat", "responses", "anthropic", "gemini")

# name: (client's format, its body, upstreams, models, what is dropped)
CASES = {
    "a picture": ("anthropic", anthropic(user([PICTURE]), assistant("ok"), user("go")), ALL, BLIND, "image/png"),
    "a picture by URL": (
        "responses",
        responses(user([{"type": "input_image", "image_url": "https://x/y.png"}]), assistant("ok"), user("go")),
        ALL,
        BLIND,
        "image",
    ),
    "a picture before a tool loop": (
        "gemini",
        gemini(gemini_user("see", INLINE), gemini_call("a"), gemini_result("a")),
        ALL,
        BLIND,
        "image/png",
    ),
    "a picture before a beginning of the answer": (
        "chat",
        chat(
            user([text("see"), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]),
            assistant("ok"),
            user("go"),
            assistant("It"),
        ),
        ALL,
        BLIND,
        "image/png",
    ),
    "office that another model has read": (
        "responses",
        responses(user([SHEET]), assistant("ok"), user("go")),
        ("anthropic", "gemini"),
        MODELS,
        OFFICE,
    ),
    "a picture that the model made": (
        "gemini",
        gemini(gemini_user("draw"), DRAWN, gemini_user("go")),
        ("chat", "responses", "anthropic"),
        MODELS,
        "image/png",
    ),
    "a file by URL": (
        "anthropic",
        anthropic(user([LINKED]), assistant("ok"), user("go")),
        ("chat",),
        MODELS,
        "application/pdf",
    ),
    "a file by URL that a tool gave": (
        "anthropic",
        anthropic(user("go"), assistant([anthropic_call("a")]), user([anthropic_result("a", [LINKED])])),
        ("chat",),
        MODELS,
        "tool_result.application/pdf",
    ),
    "a sound": (
        "chat",
        chat(
            user([{"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}}]), assistant("ok"), user("go")
        ),
        ("responses", "anthropic", "gemini"),
        MODELS,
        "input_audio",
    ),
    "what the model said aloud": (
        "chat",
        chat(user("go"), assistant(None, audio={"id": "a"}), user("go")),
        ("responses", "anthropic", "gemini"),
        MODELS,
        "audio",
    ),
    "a file by its id": (
        "responses",
        responses(user([{"type": "input_file", "file_id": "file-1"}]), assistant("ok"), user("go")),
        ("chat", "anthropic", "gemini"),
        MODELS,
        "file_id",
    ),
    "a picture by its id": (
        "anthropic",
        anthropic(user([{"type": "image", "source": {"type": "file", "file_id": "f"}}]), assistant("ok"), user("go")),
        ("chat", "responses", "gemini"),
        MODELS,
        "image file",
    ),
    "a film": (
        "gemini",
        gemini(gemini_user({"fileData": {"fileUri": "https://youtu.be/x"}}), SAID, gemini_user("go")),
        ("chat", "responses", "anthropic"),
        MODELS,
        "fileData",
    ),
    "a picture by its id that a tool gave": (
        "responses",
        responses(
            user("go"), responses_call("a"), responses_result("a", [{"type": "input_image", "file_id": "file-1"}])
        ),
        ("chat", "anthropic", "gemini"),
        MODELS,
        "tool_result.file_id",
    ),
    "a table by its URL": (
        "responses",
        responses(user([{"type": "input_file", "file_url": "https://x/a.xlsx?b=1"}]), assistant("ok"), user("go")),
        ("anthropic", "gemini"),
        MODELS,
        SHEETS,
    ),
    "office that a tool gave": (
        "responses",
        responses(user("go"), responses_call("a"), responses_result("a", [SHEET])),
        ("anthropic", "gemini"),
        MODELS,
        f"tool_result.{OFFICE}",
    ),
}


@pytest.mark.parametrize(
    ("name", "upstream"), [(name, upstream) for name, case in CASES.items() for upstream in case[2]]
)
def test_media_of_the_history_do_not_end_the_session(name, upstream):
    client, body, _, models, kind = CASES[name]
    encoded = convert(client, body, upstream, models[upstream])
    assert f"messages.{kind}" in encoded.dropped
    assert encoded.repaired["messages.media"] == (0 if kind.startswith("tool_result.") else 1)
    shown = kind.removeprefix("tool_result.")
    assert f"[{shown} left out: this model cannot read it]" in dump(encoded.body).decode()
    assert PNG not in dump(encoded.body).decode()


@pytest.mark.parametrize("upstream", ALL)
def test_a_text_file_of_the_history_is_text(upstream):
    source = {"type": "base64", "media_type": "text/csv", "data": "YSxi"}
    file = {"type": "document", "title": "t.csv", "source": source}
    encoded = convert("anthropic", anthropic(user([file]), assistant("ok"), user("go")), upstream, BLIND[upstream])
    assert "a,b" in dump(encoded.body).decode()
    assert "t.csv" in dump(encoded.body).decode()
    assert "messages.text/csv" not in encoded.dropped


@pytest.mark.parametrize("upstream", ["anthropic", "gemini"])
@pytest.mark.parametrize(
    ("url", "kind"),
    [("https://x/a.xlsx", SHEETS), ("https://x/a.pdf", ""), ("https://x.y/a", ""), ("https://x/a?b.xlsx", "")],
)
def test_a_file_is_what_its_url_ends_in(url, kind, upstream):
    body = responses(user([{"type": "input_file", "file_url": url}]))
    if not kind:
        assert url in dump(convert("responses", body, upstream, MODELS[upstream]).body).decode()
        return
    with pytest.raises(RequestError) as raised:
        convert("responses", body, upstream, MODELS[upstream])
    assert kind in raised.value.message


def test_what_nobody_knows_is_refused_in_the_history_too():
    with pytest.raises(RequestError) as raised:
        convert(
            "chat", chat(user([{"type": "hologram"}]), assistant("ok"), user("go")), "anthropic", MODELS["anthropic"]
        )
    assert raised.value.param == "messages[0].content[0]"


@pytest.mark.parametrize("upstream", ALL)
@pytest.mark.parametrize(
    ("client", "body", "where"),
    [
        ("anthropic", anthropic(user("hi"), assistant("ok"), user([PICTURE])), "messages[2].content[0]"),
        (
            "anthropic",
            anthropic(user("go"), assistant([anthropic_call("a")]), user([anthropic_result("a"), PICTURE])),
            "messages[2].content[1]",
        ),
        ("anthropic", anthropic(user([PICTURE]), assistant("It")), "messages[0].content[0]"),
        ("gemini", gemini(gemini_user("a"), gemini_user(INLINE), gemini_user("b")), "contents[1].parts[0]"),
    ],
)
def test_media_of_the_newest_turn_are_refused(client, body, where, upstream):
    with pytest.raises(RequestError) as raised:
        convert(client, body, upstream, BLIND[upstream])
    assert (raised.value.status, raised.value.param) == (400, where)
