from __future__ import annotations

from masksearch_agent.viewer.markup import Markup, join, tag


def test_text_is_escaped_and_markup_is_not() -> None:
    assert tag("p", "a < b & c", tag("b", "d")) == "<p>a &lt; b &amp; c<b>d</b></p>"
    assert join(("<i>", Markup("<i>"))) == "&lt;i&gt;<i>"


def test_an_attribute_cannot_be_left() -> None:
    assert tag("td", title='"><script>') == '<td title="&quot;&gt;&lt;script&gt;"></td>'


def test_attribute_names_are_written_as_in_html() -> None:
    assert tag("td", class_="a", data_value=0.5, aria_label=None) == '<td class="a" data-value="0.5"></td>'
