"""Which deployment of a model a call goes to: filters, then a strategy."""
