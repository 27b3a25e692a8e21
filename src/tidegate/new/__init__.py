"""``tidegate new``: a second workload written from a file's own columns."""
