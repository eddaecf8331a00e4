"""The steps that this program knows, by name: whoever only looks where a database stands needs no library."""

# Oldest first. The steps themselves are in `versions`.
REVISIONS = ("0001", "0002", "0003", "0004")
HEAD = REVISIONS[-1]
# Another program's migrations may live in the same database.
VERSION_TABLE = "llmgateway_version"


class DatabaseNewerError(RuntimeError):
    """A newer version of this program has changed the database: this one could damage it."""


def known(revision: str | None) -> str | None:
    """Pass a revision on; `None` is before the first.

    Raises:
        DatabaseNewerError: It is one that this program does not know.
    """
    if revision is not None and revision not in REVISIONS:
        raise DatabaseNewerError(
            f"The database is at revision {revision}, this program knows up to {HEAD}: run the newer version, "
            "or restore the copy of the database from before its first start"
        )
    return revision
