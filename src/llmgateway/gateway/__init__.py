"""What every call passes through, whoever makes it."""
