"""``tidegate doctor``: how far a project is on the way to automated delivery, and whether this machine can run it."""
