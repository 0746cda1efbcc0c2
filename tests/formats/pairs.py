"""What each pair of client and upstream format carries, found out by sending it: the table in docs/formats.md.

`python -m tests.formats.pairs` writes it there; test_pairs.py fails when it is not what the code does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from droid2api.errors import RequestError
from droid2api.formats import BY_NAME, Format
from droid2api.hub.history import normalize
from tests.formats.bodies import target

Json = dict[str, Any]

TARGETS = {
    "anthropic": target("anthropic", "claude-opus-4-5", max_tokens=64000),
    "responses": target("responses", "gpt-5.6"),
    "chat": target("chat", "glm-4.6"),
    "gemini": target("gemini", "gemini-3.5-flash"),
}
MARK = "MARKED"
PICTURE = f"data:image/png;base64,{MARK}"
PAPER = f"data:application/pdf;base64,{MARK}"
SCHEMA: Json = {"type": "object", "properties": {MARK: {"type": "string"}}}
START, END = "<!-- pairs -->", "<!-- /pairs -->"


def chat(**more: Any) -> Json:
    return {"model": "m", "messages": [{"role": "user", "content": "a"}]} | more


def chat_says(*parts: Json) -> Json:
    return chat(messages=[{"role": "user", "content": list(parts)}])


def responses(**more: Any) -> Json:
    return {"model": "m", "input": "a"} | more


def responses_says(*parts: Json) -> Json:
    return responses(input=[{"role": "user", "content": list(parts)}])


def anthropic(**more: Any) -> Json:
    return {"model": "m", "max_tokens": 9999, "messages": [{"role": "user", "content": "a"}]} | more


def anthropic_says(*blocks: Json) -> Json:
    return anthropic(messages=[{"role": "user", "content": list(blocks)}])


def chat_tool(**more: Any) -> Json:
    return chat(tools=[{"type": "function", "function": {"name": MARK, "parameters": SCHEMA}}], **more)


def responses_tool(**more: Any) -> Json:
    return responses(tools=[{"type": "function", "name": MARK, "parameters": SCHEMA}], **more)


def anthropic_tool(**more: Any) -> Json:
    return anthropic(tools=[{"name": MARK, "input_schema": SCHEMA}], **more)


def anthropic_result(**result: Any) -> Json:
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    answer = {"type": "tool_result", "tool_use_id": "c", **result}
    turns = [("user", "a"), ("assistant", [call]), ("user", [answer])]
    return anthropic(messages=[{"role": role, "content": content} for role, content in turns])


def responses_result(output: Any) -> Json:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    return responses(input=[call, {"type": "function_call_output", "call_id": "c", "output": output}])


def chat_result(content: Any) -> Json:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    return chat(messages=[*turns, {"role": "tool", "tool_call_id": "c", "content": content}])


def gemini(**more: Any) -> Json:
    return {"contents": [{"role": "user", "parts": [{"text": "a"}]}]} | more


def gemini_says(*parts: Json) -> Json:
    return gemini(contents=[{"role": "user", "parts": list(parts)}])


def gemini_config(**config: Any) -> Json:
    return gemini(generationConfig=config)


def gemini_tool(**more: Any) -> Json:
    return gemini(tools=[{"functionDeclarations": [{"name": MARK, "parametersJsonSchema": SCHEMA}]}], **more)


def gemini_result(**response: Any) -> Json:
    turns = [
        {"role": "user", "parts": [{"text": "a"}]},
        {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", **response}}]},
    ]
    return gemini(contents=turns)


def inline(media_type: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": MARK}}


def base64_source(media_type: str) -> Json:
    return {"type": "base64", "media_type": media_type, "data": MARK}


URL = f"https://example.com/{MARK}"
SYSTEM_LATER = [{"role": "user", "content": "a"}, {"role": "system", "content": MARK}, {"role": "user", "content": "b"}]
FORMAT = {"type": "json_schema", "name": "n", "schema": SCHEMA}

ROWS: list[tuple[str, str, Json]] = [
    (
        "system prompt",
        "系统提示",
        {
            "chat": chat(messages=[{"role": "system", "content": MARK}, {"role": "user", "content": "a"}]),
            "responses": responses(instructions=MARK),
            "anthropic": anthropic(system=MARK),
            "gemini": gemini(systemInstruction={"parts": [{"text": MARK}]}),
        },
    ),
    (
        "system message between turns",
        "对话中间的系统消息",
        {
            "chat": chat(messages=SYSTEM_LATER),
            "responses": responses(input=SYSTEM_LATER),
            "anthropic": anthropic(messages=SYSTEM_LATER),
        },
    ),
    (
        "picture, data",
        "图片(数据)",
        {
            "chat": chat_says({"type": "image_url", "image_url": {"url": PICTURE}}),
            "responses": responses_says({"type": "input_image", "image_url": PICTURE}),
            "anthropic": anthropic_says({"type": "image", "source": base64_source("image/png")}),
            "gemini": gemini_says(inline("image/png")),
        },
    ),
    (
        "picture, URL",
        "图片(URL)",
        {
            "chat": chat_says({"type": "image_url", "image_url": {"url": URL}}),
            "responses": responses_says({"type": "input_image", "image_url": URL}),
            "anthropic": anthropic_says({"type": "image", "source": {"type": "url", "url": URL}}),
            "gemini": gemini_says({"fileData": {"mimeType": "image/png", "fileUri": URL}}),
        },
    ),
    (
        "PDF, data",
        "PDF(数据)",
        {
            "chat": chat_says({"type": "file", "file": {"filename": "a.pdf", "file_data": PAPER}}),
            "responses": responses_says({"type": "input_file", "filename": "a.pdf", "file_data": PAPER}),
            "anthropic": anthropic_says({"type": "document", "source": base64_source("application/pdf")}),
            "gemini": gemini_says(inline("application/pdf")),
        },
    ),
    (
        "PDF, URL",
        "PDF(URL)",
        {
            "responses": responses_says({"type": "input_file", "file_url": URL}),
            "anthropic": anthropic_says({"type": "document", "source": {"type": "url", "url": URL}}),
            "gemini": gemini_says({"fileData": {"mimeType": "application/pdf", "fileUri": URL}}),
        },
    ),
    (
        "uploaded file id, audio",
        "已上传文件 id、音频",
        {
            "chat": chat_says({"type": "input_audio", "input_audio": {"data": MARK, "format": "wav"}}),
            "responses": responses_says({"type": "input_file", "file_id": MARK}),
            "anthropic": anthropic_says({"type": "document", "source": {"type": "file", "file_id": MARK}}),
            "gemini": gemini_says(inline("audio/wav")),
        },
    ),
    (
        "tool definitions",
        "工具定义",
        {"chat": chat_tool(), "responses": responses_tool(), "anthropic": anthropic_tool(), "gemini": gemini_tool()},
    ),
    (
        "forced tool",
        "强制调用工具",
        {
            "chat": chat_tool(tool_choice={"type": "function", "function": {"name": MARK}}),
            "responses": responses_tool(tool_choice={"type": "function", "name": MARK}),
            "anthropic": anthropic_tool(tool_choice={"type": "tool", "name": MARK}),
            "gemini": gemini_tool(
                toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [MARK]}}
            ),
        },
    ),
    (
        "free-text (custom) tools",
        "自由文本(custom)工具",
        {
            "chat": chat(tools=[{"type": "custom", "custom": {"name": MARK}}]),
            "responses": responses(tools=[{"type": "custom", "name": MARK}]),
        },
    ),
    (
        "tools in namespaces",
        "命名空间工具",
        {
            "responses": responses(
                tools=[{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": MARK}]}]
            )
        },
    ),
    (
        "web search by the provider",
        "服务商的网页搜索",
        {
            "responses": responses(tools=[{"type": "web_search"}]),
            "anthropic": anthropic(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
            "gemini": gemini(tools=[{"googleSearch": {}}]),
        },
    ),
    (
        "tool calls and results",
        "工具调用与结果",
        {
            "chat": chat_result(MARK),
            "responses": responses_result(MARK),
            "anthropic": anthropic_result(content=MARK),
            "gemini": gemini_result(response={"output": MARK}),
        },
    ),
    (
        "error results",
        "出错的结果",
        {
            "anthropic": anthropic_result(content=MARK, is_error=True),
            "gemini": gemini_result(response={"error": MARK}),
        },
    ),
    (
        "picture in a result",
        "结果中的图片",
        {
            "responses": responses_result([{"type": "input_image", "image_url": PICTURE}]),
            "anthropic": anthropic_result(content=[{"type": "image", "source": base64_source("image/png")}]),
            "gemini": gemini_result(response={}, parts=[inline("image/png")]),
        },
    ),
    (
        "structured output (JSON schema)",
        "结构化输出(JSON schema)",
        {
            "chat": chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}),
            "responses": responses(text={"format": FORMAT}),
            "anthropic": anthropic(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
            "gemini": gemini_config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
        },
    ),
    (
        "stop sequences",
        "停止序列",
        {
            "chat": chat(stop=[MARK]),
            "anthropic": anthropic(stop_sequences=[MARK]),
            "gemini": gemini_config(stopSequences=[MARK]),
        },
    ),
    (
        "token limit",
        "token 上限",
        {
            "chat": chat(max_completion_tokens=4321),
            "responses": responses(max_output_tokens=4321),
            "anthropic": anthropic(max_tokens=4321),
            "gemini": gemini_config(maxOutputTokens=4321),
        },
    ),
    (
        "temperature",
        "temperature",
        {
            "chat": chat(temperature=0.4321),
            "responses": responses(temperature=0.4321),
            "anthropic": anthropic(temperature=0.4321),
            "gemini": gemini_config(temperature=0.4321),
        },
    ),
    (
        "seed, penalties, logit_bias",
        "seed、penalty、logit_bias",
        {"chat": chat(seed=4321), "gemini": gemini_config(seed=4321)},
    ),
    (
        "reasoning effort",
        "推理强度",
        {
            "chat": chat(reasoning_effort="high"),
            "responses": responses(reasoning={"effort": "high"}),
            "anthropic": anthropic(thinking={"type": "enabled", "budget_tokens": 20000}),
            "gemini": gemini_config(thinkingConfig={"thinkingLevel": "HIGH"}),
        },
    ),
    (
        "user id",
        "用户 id",
        {
            n: f(**m)
            for n, f, m in [
                ("chat", chat, {"user": MARK}),
                ("responses", responses, {"safety_identifier": MARK}),
                ("anthropic", anthropic, {"metadata": {"user_id": MARK}}),
            ]
        },
    ),
    (
        "cache breakpoints",
        "缓存断点",
        {
            "chat": chat_says({"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}),
            "responses": responses_says(
                {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
            ),
            "anthropic": anthropic_says({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}),
        },
    ),
    (
        "service tier",
        "service_tier",
        {
            n: f(service_tier=t)
            for n, f, t in [
                ("chat", chat, "default"),
                ("responses", responses, "default"),
                ("anthropic", anthropic, "standard_only"),
            ]
        }
        | {"gemini": gemini(serviceTier="standard")},
    ),
    ("verbosity", "verbosity", {"chat": chat(verbosity="low"), "responses": responses(text={"verbosity": "low"})}),
    (
        "metadata, prompt_cache_key",
        "metadata、prompt_cache_key",
        {"chat": chat(prompt_cache_key=MARK), "responses": responses(prompt_cache_key=MARK)},
    ),
]

PROBES = {
    "error results": r'is_error|Error: |"error":',
    "reasoning effort": r"high|HIGH|24576",
    "cache breakpoints": r"cache_control|prompt_cache_breakpoint",
    "web search by the provider": r"web_search|googleSearch",
    "forced tool": r'"tool_choice":\{|"ANY"',
    "service tier": r"service_?[tT]ier",
    "verbosity": r"verbosity",
}
"""What shows, in the upstream's body, that a row was carried; else the mark or the number in the client's."""

WORDS = {
    "en": ("The client's format -> the model's type", "carried", "adapted", "left out and named", "refused by name"),
    "zh": ("客户端格式 -> 模型类型", "保留", "适配", "省略并注明", "指名拒绝"),
}
SIGNS = {"carried": "✓", "adapted": "≈", "left out": "–", "refused": "✗", "absent": ""}
PAIRS = [(client, other) for client in BY_NAME.values() for other in BY_NAME.values() if client is not other]


def outcome(name: str, client: Format, upstream: Format, body: Json) -> str:
    """One cell, by doing it. A value that is lost without a word is an error of the gateway."""
    sent = orjson.loads(orjson.dumps(body))
    try:
        request = normalize(client.decode_request(sent))
        encoded = upstream.encode_request(request, TARGETS[upstream.NAME])
    except RequestError as error:
        return "refused" if error.param else f"refused without a name: {error.message}"
    written = orjson.dumps(encoded.body).decode()
    found = re.search(PROBES.get(name, f"{MARK}|4321"), written)
    if found and not (encoded.dropped or encoded.repaired):
        return "carried"
    if found or encoded.local_stop:
        return "adapted"
    assert encoded.dropped, f"{name}: {client.NAME} -> {upstream.NAME} loses it"
    return "left out"


def table(language: str) -> str:
    words = WORDS[language]
    head = [f"{client.NAME} → {other.TYPE}" for client, other in PAIRS]
    lines = [f"| {words[0]} | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for english, chinese, bodies in ROWS:
        cells = [
            SIGNS[outcome(english, client, other, bodies[client.NAME]) if client.NAME in bodies else "absent"]
            for client, other in PAIRS
        ]
        lines.append(f"| {english if language == 'en' else chinese} | {' | '.join(cells)} |")
    legend = zip(SIGNS.values(), words[1:], strict=False)
    return "\n".join([*lines, "", " · ".join(f"{sign} {word}" for sign, word in legend)])


def written(text: str, language: str) -> str:
    """A page's text with the table between its markers."""
    start, end = text.index(START) + len(START), text.index(END)
    return f"{text[:start]}\n{table(language)}\n{text[end:]}"


PAGES: dict[str, Path] = {
    "en": Path(__file__).parents[2] / "docs" / "formats.md",
    "zh": Path(__file__).parents[2] / "docs" / "formats.zh-CN.md",
}

if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(written(path.read_text(), language))
