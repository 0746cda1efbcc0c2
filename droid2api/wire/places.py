"""Places in a text, in bytes of UTF-8 and in characters. Many places of one long text take one walk."""

_CONTINUED = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that begin no character."""


def characters_before(text: bytes, offsets: set[int]) -> dict[int, int]:
    """The characters before each of these offsets in bytes; none for those outside of the text."""
    places, before, characters = {0: 0}, 0, 0
    for offset in sorted(offsets):
        if 0 < offset <= len(text):
            characters += len(text[before:offset].translate(None, _CONTINUED))
            places[offset], before = characters, offset
    return places


def bytes_before(text: str, places: set[int]) -> dict[int, int]:
    """The bytes before each of these places."""
    sizes, size, before = {}, 0, 0
    for place in sorted(places):
        size, before = size + len(text[before:place].encode()), place
        sizes[place] = size
    return sizes
