"""Passages to masked tasks and questions (Retrieval-Augmented Mask Prediction). Begin with `tasks.py`.

A folder imports only what stands above it here; a test asserts that.

| part | duty |
| --- | --- |
| `spans.py`, `hops.py` | what a fact of a passage is, and how it can be looked up |
| `lexicon/` | what words are: titles, terms and kinds of things of this corpus, entries of manuals, word lists |
| `questions/` | a sentence, or an entry of a manual, as a question; or the reason why it makes none |
| `extraction/` | who finds spans (spaCy, GLiNER, a chat model), and the rules that spans have to pass |
| `two_passages/` | facts by rule, and the chains and comparisons that they make |
| `tasks.py` and the rest | which spans are masked, which tasks can be answered, what they are like, a dataset of them |
"""
