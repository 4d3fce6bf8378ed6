"""The floor of the house: settings, checked values and the root error. Imports nothing of ours."""
