"""Format, answer and length rewards, and their mix."""
