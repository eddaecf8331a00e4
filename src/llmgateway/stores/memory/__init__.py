"""The same state in the memory of one process: for one that has no Redis, and while Redis is away."""
