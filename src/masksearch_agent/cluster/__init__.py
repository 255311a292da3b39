"""The pipeline on many machines: work is cut into shards, workers do them, and the driver keeps the results."""
