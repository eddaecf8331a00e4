"""What all entities share: who sees and changes them, and how their rows are read and written."""
