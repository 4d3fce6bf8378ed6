"""DIMSE, decisions, stories, and the start."""
