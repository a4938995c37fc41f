"""Nodes: primitives."""
