"""The events of one item of an answer for a client that speaks the Responses format."""

from typing import Any

import orjson

from droid2api.formats.responses.request import NAME
from droid2api.hub.events import BlockEnd, BlockStart, Citation, State
from droid2api.wire import sse
from droid2api.wire.fields import Json


class NumberedEvents:
    """The events that wait to be sent, and the `next` one's sequence number."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.waiting: list[bytes] = []

    def send(self, kind: str, /, **fields: Any) -> None:
        event = {"type": kind, **fields, "sequence_number": self.next}
        self.next += 1
        self.waiting.append(sse.encode(kind.encode(), orjson.dumps(event)))


class ItemWriter:
    """An item of the answer while it is written. `fields` are the item, `head` begins each event of the part that is
    open, up to the text; b"" where none is open.
    """

    def __init__(self, out: NumberedEvents, index: int, fields: Json) -> None:
        self.fields = fields
        self.head = b""
        self._out = out
        self._index = index
        out.send("response.output_item.added", output_index=index, item=fields)

    def goes_on(self, block: BlockStart, own: Json) -> bool:
        """Whether a block is a part of this message: it takes all text that comes in a row, but for text that has
        other state. `own` is the block's phase.
        """
        if self.fields["type"] != "message":
            return False
        if block.kind == "refusal":
            return block.state is None
        return block.kind == "text" and bool(block.state) == bool(own) and own.get("phase") == self.fields.get("phase")

    def open_part(self, kind: str) -> None:
        """Begin a part of a message: "text" or "refusal"."""
        part: Json = {"type": "refusal", "refusal": ""}
        if kind == "text":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        number = len(self.fields["content"])
        self._out.send("response.content_part.added", **self._place(content_index=number), part=part)
        extra: Json = {"logprobs": []} if kind == "text" else {}
        name = "response.output_text.delta" if kind == "text" else "response.refusal.delta"
        self._set_head(name, content_index=number, **extra)

    def open_summary(self) -> bytes:
        """Begin the text of reasoning, which has none before its first delta; gives the head."""
        part = {"type": "summary_text", "text": ""}
        self._out.send("response.reasoning_summary_part.added", **self._place(summary_index=0), part=part)
        return self._set_head("response.reasoning_summary_text.delta", summary_index=0)

    def open_call(self) -> None:
        self._set_head(f"response.{self.fields['type']}_{self._argument}.delta")

    def end_part(self, kind: str, end: BlockEnd, text: str) -> None:
        place = self._place(content_index=len(self.fields["content"]))
        if kind == "refusal":
            part: Json = {"type": "refusal", "refusal": text}
            self._out.send("response.refusal.done", **place, refusal=text)
        else:
            annotations = [_encode_citation(citation, len(text)) for citation in end.citations]
            for number, annotation in enumerate(annotations):
                fields = {"annotation_index": number, "annotation": annotation}
                self._out.send("response.output_text.annotation.added", **place, **fields)
            part = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
            self._out.send("response.output_text.done", **place, text=text, logprobs=[])
        self._out.send("response.content_part.done", **place, part=part)
        self.fields["content"].append(part)

    def end_summary(self, text: str) -> None:
        if text:
            place, part = self._place(summary_index=0), {"type": "summary_text", "text": text}
            self._out.send("response.reasoning_summary_text.done", **place, text=text)
            self._out.send("response.reasoning_summary_part.done", **place, part=part)
            self.fields["summary"] = [part]

    def end_call(self, text: str) -> None:
        self.fields[self._argument] = text
        kind = f"response.{self.fields['type']}_{self._argument}.done"
        self._out.send(kind, **self._place(), **{self._argument: text})

    def end(self, status: str) -> None:
        """Announce the item as done. Reasoning has a status only where it was cut."""
        if "status" in self.fields or status != "completed":
            self.fields["status"] = status
        self._out.send("response.output_item.done", output_index=self._index, item=self.fields)

    @property
    def _argument(self) -> str:
        return "input" if self.fields["type"] == "custom_tool_call" else "arguments"

    def _place(self, **index: int) -> Json:
        return {"item_id": self.fields["id"], "output_index": self._index, **index}

    def _set_head(self, name: str, **fields: Any) -> bytes:
        head = orjson.dumps({"type": name, "item_id": self.fields["id"], "output_index": self._index, **fields})
        self.head = b'event: %b\ndata: %b,"delta":' % (name.encode(), head[:-1])
        return self.head


def own_phase(state: State | None) -> Json:
    """The field that a message has for the format's own state of text; nothing for another's."""
    own = state and state.format == NAME and "phase" in state.data
    return {"phase": state.data["phase"]} if state and own else {}


def _encode_citation(citation: Citation, length: int) -> Json:
    start, end = citation.start or 0, length if citation.end is None else citation.end
    named = {"type": "url_citation", "url": citation.url, "title": citation.title}
    return named | {"start_index": start, "end_index": end}
