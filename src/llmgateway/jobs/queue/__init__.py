"""How workers hear that there is work: a broker by its URL, or this process alone. The database has the truth."""
