"""A sentence, or an entry of a manual, as a question; or the reason why it makes none.

`clauses.py` takes a sentence apart, `word_order.py` puts its parts as English asks, `from_sentences.py` makes the
question. It is dropped where it could mean two things (`unambiguous.py`) or cannot be asked without its passage
(`standalone.py`).
"""
