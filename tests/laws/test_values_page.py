"""docs/values.md says what the table of kinds and the dialects' columns do."""

from tests.values_page import PAGE, page


def test_the_page_is_what_the_table_of_kinds_says():
    assert PAGE.read_text() == page(), "write it anew: python -m tests.values_page"
