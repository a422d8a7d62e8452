"""Pages: the same blocks as Markdown and as HTML, whatever characters are in them."""

from html.parser import HTMLParser

from distilbert.pages import Details, Table, to_html, to_markdown

TABLE = Table(["task", "model", "accuracy"], [["a & b", "<script>", 90.5]], num_left=2)


class Text(HTMLParser):
    """Gathers the text of a page, and the names of its tags."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_markdown_aligns_words_left_and_numbers_right():
    """A title, a paragraph and a table, with a blank line between them."""
    page = to_markdown("Title", ["Words.", TABLE])
    assert page == ("# Title\n\nWords.\n\n| task | model | accuracy |\n|---|---|--:|\n| a & b | <script> | 90.5 |\n")


def test_html_shows_text_as_it_is():
    """Markup in a cell, a title or a text is text; nothing is loaded from elsewhere."""
    page = to_html("1 < 2", ["<b>", TABLE, Details("more <i>", '{"key": "<u>"}')])
    parsed = Text(page)
    assert {"script", "b", "i", "u", "link", "img"}.isdisjoint(parsed.tags)
    for text in ("1 < 2", "<b>", "a & b", "<script>", "90.5", "more <i>", '{"key": "<u>"}'):
        assert text in parsed.text
    assert page.count('class="left"') == 4
