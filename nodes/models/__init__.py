"""Models: what a file is, how its tensors are read, and the networks made of them.

Nothing here declares nodes. `detection` says what a file is, `recipes` describes the networks in it, `pool` makes modules
of recipes.
"""
