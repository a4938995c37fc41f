"""Stable Diffusion: loaders, text encoding, the autoencoder's nodes."""
