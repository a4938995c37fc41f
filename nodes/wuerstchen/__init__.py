"""Würstchen v2 and Stable Cascade: loaders, latents of the three stages, and what hands one stage's result to the next."""
