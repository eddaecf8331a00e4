"""A catalog made of what was read: text with its lines, accounts, models, and the names that hold them together."""
