"""Writes the words that are frequent in texts of every kind, which no term is made of (`ramp.lexicon.glossary`).

    python training/general_words.py wikipedia.jsonl.gz /usr/share/doc/postgresql-doc-15/html \
        /usr/share/doc/debian-handbook/html/en-US > src/masksearch_agent/ramp/lexicon/general_words.txt

A word is general if it stands in small letters in one of 1,000 passages of the first corpus, or in five of 1,000 of
each of the others. The file in the package was made of 26,235 passages of Wikipedia articles and of the Debian packages
postgresql-doc-15 (15.18) and debian-handbook (11.20220922); the same corpora give the same file.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from masksearch_agent.corpus.readers import read_passages

_WORD = re.compile(r"(?<![\w'-])[a-z]{3,}(?![\w'-])")
_SHARE_OF_FIRST, _SHARE_OF_OTHERS = 0.001, 0.005


def frequent_words(corpus: Path, share: float) -> set[str]:
    """Return the words that stand in at least this share of the passages of a corpus."""
    counts, total = Counter[str](), 0
    for passage in read_passages(corpus):
        counts.update(set(_WORD.findall(passage.text)))
        total += 1
    return {word for word, count in counts.items() if count >= share * total}


def main(first: str, second: str, *others: str) -> None:
    """Print the words, one a line."""
    technical = [frequent_words(Path(other), _SHARE_OF_OTHERS) for other in (second, *others)]
    words = frequent_words(Path(first), _SHARE_OF_FIRST) | set.intersection(*technical)
    sys.stdout.write("\n".join(["# Made by training/general_words.py", *sorted(words), ""]))


if __name__ == "__main__":
    main(*sys.argv[1:])
