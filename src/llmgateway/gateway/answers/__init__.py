"""Answers that were given before: kept, read again, and turned from a whole into a stream and back."""
