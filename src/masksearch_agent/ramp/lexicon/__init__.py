"""What words are: titles, terms and kinds of things of this corpus, entries of manuals, word lists."""
