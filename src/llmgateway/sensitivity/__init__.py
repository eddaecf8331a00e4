"""What in a text must not be seen by everyone: finding it, and putting something else in its place. Pure."""
