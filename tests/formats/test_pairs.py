import pytest

from tests.formats.pairs import PAGES, written


@pytest.mark.parametrize("language", sorted(PAGES))
def test_the_table_in_the_docs_is_what_the_gateway_does(language):
    """`python -m tests.formats.pairs` writes it anew."""
    text = PAGES[language].read_text()
    assert written(text, language) == text
