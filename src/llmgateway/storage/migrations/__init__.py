"""Makes the database's tables what this version expects, one step after the other, by one process at a time.

The rules of a step (a test reads each for them):

- An index on a table that an earlier step made is built `postgresql_concurrently=True`, inside
  `with op.get_context().autocommit_block():`, so that requests go on being written meanwhile.
- Each step may be repeated after it broke off half way: `if_not_exists=True`, `if_exists=True`.
- A column is added with a default or nullable; none is renamed or dropped while the version before still writes it.
- Locks are waited for five seconds only: a step that cannot have its lock fails, holds up nobody, and is tried again.
- The new revision is added to `REVISIONS` in `revisions.py`.
"""
