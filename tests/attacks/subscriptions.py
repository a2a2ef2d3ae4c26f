"""Subscriptions of a superuser and of ordinary roles, in databases that are copies of their publisher and so have its keys."""

from dataclasses import dataclass

import owners_code
from harness import paths
from ways import Attack, secret_rows

TABLES = """CREATE TYPE pair AS (a encrypted_text, b int); CREATE DOMAIN named AS encrypted_text;
    CREATE TABLE honest (id int PRIMARY KEY, v encrypted_text, a encrypted_text[], p pair, d named, c encrypted_text('email', 'searchable'));
    CREATE UNIQUE INDEX ON honest (c encrypted_text_unique_ops); CREATE TABLE stolen (id int, name encrypted_text);"""


@dataclass(frozen=True)
class Subscription:
    """name: of its database and slot, too. role: whose it is. run_as_owner: whether its owner's rights count, and not those of
    a table's owner; before 16 it is always so. parallel: whether other workers apply what is streamed, and all is."""

    name: str
    role: str = "postgres"
    run_as_owner: bool = True
    parallel: bool = False

    def __str__(self):
        return f"a subscription of {self.role}{'' if self.run_as_owner else ', as the owner of the table'}{', in parallel' if self.parallel else ''}"


class Subscribed(Attack):
    conf = {"wal_level": "'logical'", "max_logical_replication_workers": "24", "max_worker_processes": "40",
            "max_sync_workers_per_subscription": "8", "max_replication_slots": "60", "max_wal_senders": "60", "wal_retrieve_retry_interval": "'500ms'"}
    db = "publisher"
    schema = TABLES + secret_rows("stolen") + "INSERT INTO honest SELECT id, name, ARRAY[name], ROW(name, 1)::pair, name, name FROM stolen;"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stolen = cls.cluster.psql("SELECT name, encode(name::bytea, 'hex') FROM stolen WHERE id = 2", db=cls.db).split("|")
        # So that functions can note in which process they run.
        cls.cluster.psql("GRANT pg_read_all_stats TO owner, load")

    def copy_publisher(self, subscription):
        self.cluster.psql(f'CREATE DATABASE "{subscription.name}" TEMPLATE "{self.db}" OWNER db_owner')
        self.cluster.psql("GRANT ALL ON SCHEMA public TO owner; GRANT USAGE ON SCHEMA prism_crypt TO owner; TRUNCATE honest; ALTER TABLE honest OWNER TO owner;"
                          f"SET ROLE owner; GRANT ALL ON honest TO {subscription.role}; {owners_code.NOTES} {owners_code.NOTHING}", db=subscription.name)
        if subscription.role == "load" and not subscription.run_as_owner:
            # What PostgreSQL asks for: he has to be able to become the tables' owner.
            self.cluster.psql("GRANT owner TO load")
            self.addCleanup(self.cluster.psql, "REVOKE owner FROM load")

    def subscribe(self, subscription, publication):
        """Its owner makes it; it begins when he is no superuser (any more)."""
        name, role = subscription.name, subscription.role
        before = after = ""
        connection = f"host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres"
        # A slot of the same cluster has to be there before.
        options = f"slot_name = '{name}', create_slot = false, enabled = false"
        if paths.PG_MAJOR >= 16:
            options += f", run_as_owner = {subscription.run_as_owner}, streaming = {'parallel' if subscription.parallel else 'off'}"
        if subscription.parallel:
            connection += " options=''-c debug_logical_replication_streaming=immediate''"
        if role != "postgres" and paths.PG_MAJOR >= 16:
            before = f"GRANT pg_create_subscription TO {role}; GRANT CREATE ON DATABASE {name} TO {role};"
            connection += " password=unused"
            options += ", connect = false"
            # Nobody asks for the password here, and only a superuser allows that.
            after = f"ALTER SUBSCRIPTION {name} SET (password_required = false);"
        elif role != "postgres":
            before, after = f"ALTER ROLE {role} SUPERUSER;", f"ALTER ROLE {role} NOSUPERUSER;"
        self.cluster.psql(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')", db=self.db)
        self.cluster.psql(f"{before} SET ROLE {role}; CREATE SUBSCRIPTION {name} CONNECTION '{connection}' PUBLICATION {publication} WITH ({options}); RESET ROLE; {after}", db=name)
        self.addCleanup(self.drop, name)
        self.assertEqual(self.cluster.psql(f"SELECT rolname, rolsuper FROM pg_subscription JOIN pg_roles ON pg_roles.oid = subowner WHERE subname = '{name}'"),
                         f"{role}|{'t' if role == 'postgres' else 'f'}")
        self.cluster.psql(f"ALTER SUBSCRIPTION {name} ENABLE; ALTER SUBSCRIPTION {name} REFRESH PUBLICATION", db=name)

    def drop(self, name):
        """Returns when nobody is connected to the publisher, so that it can be copied again."""
        self.cluster.psql(f"ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (slot_name = NONE); DROP SUBSCRIPTION {name}", db=name)
        self.cluster.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.db}'", "0")
        self.cluster.psql(f"SELECT pg_drop_replication_slot('{name}')")

    def wait_copied(self, subscription):
        self.cluster.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=subscription.name)
