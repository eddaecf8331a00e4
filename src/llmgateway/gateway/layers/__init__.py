"""What every call passes, whoever makes it: each a target around the next."""
