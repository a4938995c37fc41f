"""Models: what a file is, how its tensors are read, and the networks made of them.

Nothing here declares nodes. `detection` reads a file's header into recipes, `pool` makes modules of recipes.
"""
