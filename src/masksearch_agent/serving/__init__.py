"""Starting a model server: which one, how it is waited for, and how it ends."""
