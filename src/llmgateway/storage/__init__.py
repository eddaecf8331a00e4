"""What must outlive a restart: the usage ledger and its journal. The only room that imports SQLAlchemy."""
