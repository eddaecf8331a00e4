"""Documents: text in, questions to a model out. Pure: no HTTP, database, queue or provider."""
