"""One module a stage, and the graph that does each once, resumes and shares them."""
