"""Short-lived state that processes share: counters, kept answers, claims, news."""
