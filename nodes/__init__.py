"""The built-in node pack: image generation with diffusion models.

Its entry point in the group `nodegraph.nodes` is `nodes.pack:PACK`.
"""
