"""F29: an apply worker loads the ciphertext of the row that it applies, and nothing that the table's owner gives it."""

import unittest

import owners_code
from harness import paths
from subscriptions import Subscribed, Subscription

PARALLEL = "logical replication parallel worker"
# What the functions are told. Nobody may cast text that is ciphertext; who may not load may not call load_envelope().
DENIED = "42501|permission denied to load ciphertext"
REFUSED = {"a cast of text": ["22023|the text is an encrypted value already"], "load_envelope": [DENIED, "42501|permission denied for function load_envelope"]}
since_16 = unittest.skipIf(paths.PG_MAJOR < 16, "before PostgreSQL 16 the rights of the subscription's owner count, and no worker is parallel")


class Apply(Subscribed):
    def run_ways(self, subscription, who, definer=False, without=()):
        """Tries all ways in the initial copy, and then in changes. who: with whose rights they have to run. definer: whether the
        functions are SECURITY DEFINER. without: places where PostgreSQL runs nothing (see test_apply_stops)."""
        self.copy_publisher(subscription)
        db, ways = subscription.name, {n: way for n, way in enumerate(owners_code.WAYS) if way[0] not in without}
        names = {n: f"fed_{n}_{db}" for n in ways}
        all_names, tables = ", ".join(names.values()), "".join(map(owners_code.table, names.values()))
        self.cluster.psql(f"{tables} CREATE PUBLICATION p_{db} FOR TABLE honest, {all_names};", db=self.db)
        self.cluster.psql(f"SET ROLE owner; {tables} GRANT ALL ON {all_names} TO {subscription.role};" + "".join(
            owners_code.functions(n, load, names[n], self.stolen, definer) + owners_code.place(place, names[n], n) for n, (place, load) in ways.items()), db=db)
        self.publish(names, 1)
        # Adding a column has run a function.
        self.cluster.psql("TRUNCATE loot, tried", db=db)
        self.subscribe(subscription, f"p_{db}")
        self.judge_ways(subscription, ways, names, 1, who)
        self.wait_copied(subscription)
        self.cluster.psql("TRUNCATE loot, tried", db=db)
        self.publish(names, 2)
        seal = f"encrypt_field('{db}' || id, class => 'email')::encrypted_text('email', 'searchable')"
        self.cluster.psql(f"INSERT INTO honest SELECT id + (SELECT max(id) FROM honest), name, ARRAY[name], ROW(name, 1)::pair, name, {seal} FROM stolen", db=self.db)
        self.judge_ways(subscription, ways, names, 2, who)
        ids = "SELECT string_agg(id::text, ',' ORDER BY id) FROM honest"
        look = "SET prism_crypt.output = 'ciphertext'; SELECT id, v, a, p, d, c FROM honest ORDER BY id"
        with self.subTest("what is replicated arrives, by the initial copy and by changes"):
            self.cluster.wait_for(ids, self.cluster.psql(ids, db=self.db), db=db)
            self.assertEqual(self.cluster.psql(look, db=db), self.cluster.psql(look, db=self.db))

    def publish(self, names, row):
        self.cluster.psql("".join(f"INSERT INTO {name} VALUES ({row}, NULL, 1);" for name in names.values()), db=self.db)

    def judge_ways(self, subscription, ways, names, row, who):
        """row: 1 comes with the initial copy, 2 as a change."""
        db, parallel = subscription.name, subscription.parallel and row == 2
        count = " + ".join(f"(SELECT count(*) FROM {name} WHERE id = {row})" for name in names.values())
        self.cluster.wait_for(f"SELECT {count} = {len(ways)}", db=db)
        loot = self.cluster.psql("SELECT DISTINCT n FROM loot WHERE try_decrypt_field(v) IS NOT NULL", db=db).split()
        for n, (place, load) in ways.items():
            way = f"{load}, {place}, {'changes' if row == 2 else 'initial copy'}, {subscription}"
            said = self.cluster.psql(f"SELECT * FROM tried WHERE n = {n}", db=db)
            with self.subTest(ran=way):
                where = f"CASE WHEN worker LIKE 'logical replication%' THEN worker = '{PARALLEL}' END"
                ran = self.cluster.psql(f"SELECT who, {where} FROM tried WHERE n = {n} GROUP BY 1, 2", db=db)
                self.assertEqual(ran, f"{who}|{'t' if parallel else 'f'}", f"{way}: it did not run so, and proves nothing\n{said}")
                told = self.cluster.psql(f"SELECT DISTINCT state, message FROM tried WHERE n = {n} AND state <> 'began'", db=db)
                self.assertIn(told, REFUSED.get(load, [DENIED]), f"{way}: it failed for another reason, and proves nothing")
            self.judge(way, "stolen ciphertext is stored" if str(n) in loot else "", said)

    def test_functions_with_the_owners_rights(self):
        self.run_ways(Subscription("of_superuser"), "owner", definer=True)

    def test_functions_with_the_subscriptions_rights(self):
        """The subscription's owner may load, but it is not his code."""
        self.run_ways(Subscription("of_loader", "load"), "load")

    def test_functions_with_a_superusers_rights(self):
        """They could make themselves grants. Without any they load nothing."""
        self.run_ways(Subscription("of_superuser_invoked"), "postgres")

    def test_an_owner_who_subscribes_himself(self):
        self.run_ways(Subscription("of_owner", "owner", run_as_owner=False), "owner")

    @since_16
    def test_parallel_workers(self):
        self.run_ways(Subscription("of_loader_parallel", "load", parallel=True), "load")

    @since_16
    def test_parallel_workers_as_the_tables_owner(self):
        """On 18 a subscription is so by default."""
        self.run_ways(Subscription("of_superuser_parallel", run_as_owner=False, parallel=True), "owner", without=[owners_code.DEFERRED])

    @since_16
    def test_a_superusers_subscription_as_the_tables_owner(self):
        self.run_ways(Subscription("of_superuser_as_owner", run_as_owner=False), "owner", without=[owners_code.DEFERRED])

    @since_16
    def test_a_roles_subscription_as_the_tables_owner(self):
        self.run_ways(Subscription("of_loader_as_owner", "load", run_as_owner=False), "owner", without=[owners_code.DEFERRED])

    def test_sessions(self):
        """The control: in a session the same functions store what they load if the role may load, and otherwise not."""
        for role, expected in (("owner", []), ("load", [load for load in owners_code.LOADS if load != "a cast of text"])):
            with self.subTest(role):
                self.cluster.psql(f"DROP TABLE IF EXISTS loot, tried, fed; {owners_code.NOTES} {owners_code.table('fed')} GRANT ALL ON SCHEMA public TO load", db=self.db)
                for n, load in enumerate(owners_code.LOADS):
                    self.cluster.psql(f"{owners_code.functions(n, load, 'fed', self.stolen, False)} SELECT try_{n}(1); DROP FUNCTION try_{n}_now(), try_{n}(int), try_{n}_trigger()", user=role, db=self.db)
                loot = self.cluster.psql("SELECT n FROM loot WHERE try_decrypt_field(v) IS NOT NULL", db=self.db).split()
                self.assertEqual([load for n, load in enumerate(owners_code.LOADS) if str(n) in loot], expected, self.cluster.psql("SELECT * FROM tried", db=self.db))


if __name__ == "__main__":
    unittest.main()
