"""Private PostgreSQL servers for tests, demo and benchmarks."""

from .cluster import Cluster
from .psql import PgError, Session

__all__ = ["Cluster", "PgError", "Session"]
