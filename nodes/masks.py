"""Nodes: masks."""
