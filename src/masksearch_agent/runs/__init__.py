"""Plans over stages: pretraining on your documents, self-evolution."""
