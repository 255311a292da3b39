"""One module a retriever mode: how an index is built for it and ranked (`plugins.RETRIEVER_MODES`)."""
