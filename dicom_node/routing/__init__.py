"""Decisions over facts alone: no clock, no chance, no wire, no disk."""
