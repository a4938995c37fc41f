"""What a workflow may hold at most. Whoever gives more is told the limit and the remedy before it costs time or memory."""

from __future__ import annotations

MAX_BYTES = 32 * 2**20
"""Of the text of a document."""
MAX_PICTURE_BYTES = 64 * 2**20
"""Of a picture that carries a document."""
MAX_VALUES = 500_000
"""Of a document: the values in its lists and objects, these included."""
MAX_DEPTH = 100
"""How deep lists and objects may nest."""
MAX_NODES = 20_000
MAX_NAME = 1_000
"""Characters of a node's id or type, or of an input's name."""
MAX_TITLE = 200
"""Characters of a node's title; the rest is not shown."""
MAX_PARAMETERS = 1_000
MAX_PROBLEMS = 1_000
"""How many errors of a workflow, and how many warnings, are told in full."""
