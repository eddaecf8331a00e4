"""Jobs in the database: the truth about each of them, under a lease."""
