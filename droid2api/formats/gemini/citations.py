"""What a text of an answer cites: pages that a search found, and works that the model repeats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TypeAlias

from droid2api.hub.events import Citation
from droid2api.wire.fields import Json, inner, inners, number, word
from droid2api.wire.places import characters_before

MOST_CITATIONS = 5000
LONGEST_URL, LONGEST_TITLE = 8000, 1000
"""Of one text: a search names each page once and its places by numbers, and what is cited is written for each place."""

_Source: TypeAlias = tuple[str, str, int, int]
"""URL, title, and the bytes of the text that it is for, -1 where it does not say."""


class Citations:
    """Notes what candidates tell of their sources, until the end of the text that these are for."""

    def __init__(self) -> None:
        self._grounding: Json = {}
        self._cites: list[Json] = []
        self._bytes_before = 0

    def note(self, candidate: Json) -> None:
        """The last search counts, and every work."""
        cited = inner(candidate, "citationMetadata")
        self._cites += [*inners(cited, "citations"), *inners(cited, "citationSources")]
        self._grounding = inner(candidate, "groundingMetadata") or self._grounding

    def take(self, said: str) -> list[Citation]:
        """Those of a text that ends. Their places are bytes of all text that was said, ours are characters of this."""
        text, before = said.encode(errors="replace"), self._bytes_before
        self._bytes_before += len(text)
        told = chain(_grounded(self._grounding), (_source(cite, cite) for cite in self._cites))
        sources = list(islice((source for source in told if 0 < len(source[0]) <= LONGEST_URL), MOST_CITATIONS))
        self._grounding, self._cites = {}, []
        places = characters_before(text, {offset - before for *_, start, end in sources for offset in (start, end)})
        cited = []
        for url, title, start, end in sources:
            place = places.get(start - before), places.get(end - before)
            cited.append(Citation(url, title) if None in place else Citation(url, title, *place))
        return cited


def _grounded(grounding: Json) -> Iterator[_Source]:
    """The sources of a search, each once for each piece of text that it supports."""
    chunks = [
        inner(chunk, "web") or inner(chunk, "retrievedContext") or inner(chunk, "maps")
        for chunk in inners(grounding, "groundingChunks")
    ]
    supporting: set[int] = set()
    for support in inners(grounding, "groundingSupports"):
        indices = support.get("groundingChunkIndices")
        for index in indices if type(indices) is list else ():
            if type(index) is int and 0 <= index < len(chunks):
                supporting.add(index)
                yield _source(chunks[index], inner(support, "segment"))
    yield from (_source(chunk, {}) for index, chunk in enumerate(chunks) if index not in supporting)


def _source(page: Json, segment: Json) -> _Source:
    end = number(segment, "endIndex")
    place = (-1, -1) if end is None else (number(segment, "startIndex") or 0, end)
    return word(page, "uri"), word(page, "title")[:LONGEST_TITLE], *place
