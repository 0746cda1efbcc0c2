"""A client's body: unpacked and parsed within limits, after the guard has let the client in.

What a small body can make large (a compressed one) or slow (one of countless small values) is bounded here, and what
takes long is done beside the event loop.
"""

from __future__ import annotations

import asyncio
import zlib

import orjson
from aiohttp import web

from droid2api.errors import RequestError
from droid2api.gateway.lanes import BODY_LIMIT
from droid2api.wire.fields import MOST_VALUES, Json, count_values, has_too_many_values

MANY_VALUES = 5_000
MANY_BYTES = 1_000_000
"""From here on a body takes so long to be read that others would wait for it."""

BADLY_ENCODED = "The body is not encoded as its Content-Encoding or Transfer-Encoding says."


async def read_body(request: web.Request, patience: float) -> bytes:
    """The body as the client meant it. Raises RequestError, also when nothing comes for `patience` seconds."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "deflate"):
        supported = "identity, gzip and deflate"
        raise RequestError(
            f"Content-Encoding: must be one of {supported}, not {encoding[:40]!r}.",
            status=415,
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    content = await _read(request, patience)
    return content if encoding == "identity" else await asyncio.to_thread(_unpack, encoding, content)


def parse_body(content: bytes) -> Json:
    """Raises RequestError for what is no JSON object, or has too many values."""
    if has_too_many_values(content):
        raise RequestError(f"The body has more than {MOST_VALUES} brackets and commas.", status=413)
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise RequestError(f"The body is not valid JSON: {where}.") from None
    if type(body) is not dict:
        raise RequestError("The body must be a JSON object.")
    return body


def is_large(content: bytes) -> bool:
    return len(content) > MANY_BYTES or count_values(content) > MANY_VALUES


async def _read(request: web.Request, patience: float) -> bytes:
    if (request.content_length or 0) > BODY_LIMIT:
        raise _too_large()
    content, loop = bytearray(), asyncio.get_running_loop()
    try:
        if request.content.is_eof():  # all of it came with the head
            return request.content.read_nowait()
        async with asyncio.timeout(patience) as limit:
            while chunk := await request.content.readany():
                content += chunk
                if len(content) > BODY_LIMIT:
                    raise _too_large()
                limit.reschedule(loop.time() + patience)
    except TimeoutError:
        raise RequestError(f"Nothing more of the body came for {patience:g} seconds.", status=408) from None
    except web.RequestPayloadError:
        raise RequestError(BADLY_ENCODED) from None
    return bytes(content)


def _unpack(encoding: str, content: bytes) -> bytes:
    wrapped = content[:1] and content[0] & 0x0F == zlib.DEFLATED  # some send "deflate" without its wrapping
    mode = zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
    unpacker = zlib.decompressobj(mode)
    try:
        unpacked = unpacker.decompress(content, BODY_LIMIT + 1)
    except zlib.error:
        unpacked = b""
    if len(unpacked) > BODY_LIMIT:
        raise _too_large()
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError(BADLY_ENCODED)
    return unpacked


def _too_large() -> RequestError:
    return RequestError(f"The body has more than {BODY_LIMIT} bytes.", status=413)
