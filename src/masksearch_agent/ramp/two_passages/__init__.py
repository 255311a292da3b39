"""Questions over two passages: facts by rule (`facts.py`), and the chains and comparisons that they make."""
