"""Places in a text, in bytes and in characters, against counting them one by one."""

import pytest

from droid2api.wire.places import bytes_before, characters_before


@pytest.mark.parametrize("text", ["", "abc", "aé€😀b", "😀" * 3])
def test_each_place(text):
    sizes = [len(text[:place].encode()) for place in range(len(text) + 1)]
    assert bytes_before(text, set(range(len(text) + 1))) == dict(enumerate(sizes))
    offsets = {*sizes, -1, -7, sizes[-1] + 1, 10**9}
    assert characters_before(text.encode(), offsets) == {size: place for place, size in enumerate(sizes)}
