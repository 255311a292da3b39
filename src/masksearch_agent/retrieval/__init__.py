"""Passages to search results: indexes, the leak guard, the cache, the search tool."""
