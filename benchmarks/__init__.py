"""How fast the node is, beside other receivers in the same run. Figures, never checks."""
