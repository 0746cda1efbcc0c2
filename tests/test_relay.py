from tests.harness import BY_TYPE, demo_gateway


async def test_all_nine_pairs_answer(tmp_path):
    bodies = {
        "/v1/messages": {"max_tokens": 100, "messages": [{"role": "user", "content": "你好 world 🌍"}]},
        "/v1/responses": {"input": "你好 world 🌍"},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "你好 world 🌍"}]},
    }
    async with demo_gateway(tmp_path) as gateway:
        for path, body in bodies.items():
            for model in BY_TYPE.values():
                for stream in (False, True):
                    status, headers, content = await gateway.ask(path, body | {"model": model, "stream": stream})
                    assert status == 200, content
                    assert "🌍" in content.decode(), (path, model, stream)
