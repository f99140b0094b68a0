from experiments.families_page import PAGE, page


def test_the_page_of_families_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m experiments.families_page writes it"
