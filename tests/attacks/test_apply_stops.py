"""F29: where an apply worker refuses what a table's owner gives it, and nothing catches the error, the subscription stops."""

import unittest

import owners_code
from harness import paths
from harness.scenario import wait_until
from subscriptions import Subscribed, Subscription
from ways import SECRET

DENIED = "permission denied to load ciphertext"
NOT_DEFERRED = "cannot fire deferred trigger within security-restricted operation"
since_16 = unittest.skipIf(paths.PG_MAJOR < 16, "before PostgreSQL 16 the rights of the subscription's owner count")


class ApplyStops(Subscribed):
    def said_since(self, start, message):
        """The errors in the log from start on that have the message; waits for the first."""
        def errors():
            return [line for line in self.cluster.log()[start:].splitlines() if "ERROR:" in line and message in line]
        return "\n".join(wait_until(errors, f"no {message!r} in the log"))

    def inline(self, subscription):
        """A generated column whose SQL function becomes part of the expression, and has nothing to catch an error."""
        db = subscription.name
        self.copy_publisher(subscription)
        make = f"CREATE TABLE inlined_{db} (id int PRIMARY KEY, note text);"
        self.cluster.psql(f"{make} CREATE PUBLICATION p_{db} FOR TABLE inlined_{db}", db=self.db)
        self.cluster.psql(f"""SET ROLE owner; {make} GRANT ALL ON inlined_{db} TO {subscription.role};
            CREATE FUNCTION load(note text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS 'SELECT public.encrypted_text_in(note::cstring, 0, -1)';
            ALTER TABLE inlined_{db} ADD g encrypted_text GENERATED ALWAYS AS (load(note)) STORED""", db=db)
        self.subscribe(subscription, f"p_{db}")
        self.wait_copied(subscription)
        start = len(self.cluster.log())
        self.cluster.psql(f"INSERT INTO inlined_{db} VALUES (1, '{self.stolen[0]}')", db=self.db)
        said = self.said_since(start, DENIED)
        got = self.cluster.psql(f"SELECT try_decrypt_field(g) FROM inlined_{db}", db=db)
        self.judge(f"a generated column that is inlined, {subscription}", "stolen ciphertext is stored" if got == SECRET else "", said)

    def defer(self, subscription):
        """PostgreSQL puts no trigger off until other rights count than the table's owner's, unless this owner can become the subscription's."""
        db, name = subscription.name, f"fed_{subscription.name}"
        self.copy_publisher(subscription)
        self.cluster.psql(f"{owners_code.table(name)} CREATE PUBLICATION p_{db} FOR TABLE {name}; INSERT INTO {name} VALUES (1, NULL, 1)", db=self.db)
        self.cluster.psql(f"SET ROLE owner; {owners_code.table(name)} {owners_code.functions(0, 'a literal', name, self.stolen, False)} {owners_code.place(owners_code.DEFERRED, name, 0)}", db=db)
        for row, when in ((1, "initial copy"), (2, "changes")):
            if row == 2:
                self.cluster.psql(f"ALTER TABLE {name} DISABLE TRIGGER a", db=db)
                self.wait_copied(subscription)
                self.cluster.psql(f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER a", db=db)
            start = len(self.cluster.log())
            if row == 1:
                self.subscribe(subscription, f"p_{db}")
            else:
                self.cluster.psql(f"INSERT INTO {name} VALUES (2, NULL, 1)", db=self.db)
            said = self.said_since(start, NOT_DEFERRED)
            reached = self.cluster.psql(f"SELECT 'stored' FROM loot UNION SELECT 'ran' FROM tried UNION SELECT 'arrived' FROM {name} WHERE id = {row}", db=db)
            self.judge(f"deferred trigger, {when}, {subscription}", reached, said)

    def test_sql_that_is_inlined(self):
        self.inline(Subscription("inlined"))

    @since_16
    def test_sql_that_is_inlined_as_the_tables_owner(self):
        self.inline(Subscription("inlined_as_owner", run_as_owner=False))

    @since_16
    def test_deferred_triggers_of_a_superusers_subscription(self):
        self.defer(Subscription("deferred_superuser", run_as_owner=False))

    @since_16
    def test_deferred_triggers_of_a_roles_subscription(self):
        self.defer(Subscription("deferred_loader", "load", run_as_owner=False))


if __name__ == "__main__":
    unittest.main()
