"""Diffusion mathematics: parametrisations, schedules, noise, guidance and samplers; no nodes, no models."""
