"""Placeholder while drafting."""
def check(results, evidence): pass
