"""Language models: the servers that run them, and what stands in where there is none."""
