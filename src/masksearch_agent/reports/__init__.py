"""Typed report records, and the pages made of them."""
