"""What was sampled, exactly: the recorder, the trace tree, the store, the training rows."""
