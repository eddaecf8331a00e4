"""What Alembic runs to migrate: on the connection that it was given."""

from alembic import context

from llmgateway.storage.migrations.document_tables import jobs
from llmgateway.storage.migrations.revisions import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=jobs.metadata,
    version_table=VERSION_TABLE,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
