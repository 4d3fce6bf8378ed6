"""The operator's pages: rendered here, no script, no foreign host."""
