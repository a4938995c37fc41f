"""Nodes: conditioning."""
