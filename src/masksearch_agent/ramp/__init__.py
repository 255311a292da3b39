"""Passages to masked tasks (Retrieval-Augmented Mask Prediction)."""
