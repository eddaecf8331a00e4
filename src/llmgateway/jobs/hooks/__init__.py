"""Tells whoever ordered a job of its end: a signed POST to the address that came with the order."""
