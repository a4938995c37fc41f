"""Nodes: images."""
