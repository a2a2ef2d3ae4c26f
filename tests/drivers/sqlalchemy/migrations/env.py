"""Alembic's environment: the connection comes from orm.py."""

from alembic import context

from customers import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
