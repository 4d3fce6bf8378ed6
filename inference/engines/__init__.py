"""Engines: models and algorithms that read volumes."""
