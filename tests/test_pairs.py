import pytest

from tests.pairs import READMES, written


@pytest.mark.parametrize("language", sorted(READMES))
def test_the_table_in_the_readme_is_what_the_gateway_does(language):
    """`python -m tests.pairs` writes it anew."""
    text = READMES[language].read_text()
    assert written(text, language) == text
