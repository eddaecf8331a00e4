"""Whose key it is: from the header of a request to its caller."""
