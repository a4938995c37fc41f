"""Worker processes: they run graphs, so that a server need not; what dies with one is an attempt, not the queue."""
