"""MedVersa inference, our own implementation: needs the extra `medversa` and weights that a site fetches itself."""
