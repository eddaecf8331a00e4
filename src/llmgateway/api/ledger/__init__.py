"""What the usage ledger tells: of one request, of what was used and spent, of how it went. Reads only."""
