"""F29: an apply worker loads the ciphertext of the row that it applies, and nothing that the table's owner gives it."""

import unittest

from ways import SECRET, Attack, secret_rows

# What the owner of a subscribed table has run when a row comes. {s}: the stolen text form, {n}: the number of the table.
LOADS = {
    "a literal": "SELECT '{s}'::public.encrypted_text", "the input function": "SELECT public.encrypted_text_in('{s}', 0, -1)", "an array": "SELECT ('{{{s}}}'::public.encrypted_text[])[1]", "a composite": "SELECT ('({s},1)'::public.pair).a",
    "jsonb_populate_record": "SELECT r.v FROM jsonb_populate_record(NULL::public.fed_{n}, jsonb_build_object('v', '{s}')) AS r", "json_to_record": "SELECT r.v FROM json_to_record(json_build_object('v', '{s}')) AS r (v public.encrypted_text)",
    "bytea": "SELECT '\\x{b}'::bytea::public.encrypted_text", "load_envelope": "SELECT prism_crypt.load_envelope('{s}')", "a cast of text": "SELECT '{s}'::text::public.encrypted_text", "a domain": "SELECT '{s}'::public.named::public.encrypted_text",
    "a typed literal": "SELECT public.encrypted_text '{s}'", "XMLTABLE": "SELECT x.v FROM XMLTABLE('/a' PASSING XMLPARSE(DOCUMENT '<a>{s}</a>') COLUMNS v public.encrypted_text PATH '.') AS x",
}
# Where the function runs. {f} loads, stores and swallows errors; {t} is the table.
PLACES = {
    "BEFORE trigger": "CREATE TRIGGER a BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {f}_trigger(); ALTER TABLE {t} ENABLE ALWAYS TRIGGER a",
    "AFTER trigger": "CREATE TRIGGER a AFTER INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {f}_trigger(); ALTER TABLE {t} ENABLE ALWAYS TRIGGER a",
    "deferred trigger": "CREATE CONSTRAINT TRIGGER a AFTER INSERT ON {t} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {f}_trigger(); ALTER TABLE {t} ENABLE ALWAYS TRIGGER a",
    "REPLICA trigger": "CREATE TRIGGER a BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {f}_trigger(); ALTER TABLE {t} ENABLE REPLICA TRIGGER a",
    "trigger WHEN": "CREATE TRIGGER a BEFORE INSERT ON {t} FOR EACH ROW WHEN ({f}(NEW.id) > 0) EXECUTE FUNCTION nothing(); ALTER TABLE {t} ENABLE ALWAYS TRIGGER a",
    "CHECK": "ALTER TABLE {t} ADD CHECK ({f}(id) > 0)", "index expression": "CREATE INDEX ON {t} ({f}(id))", "index predicate": "CREATE INDEX ON {t} (id) WHERE {f}(id) > 0",
    "generated column": "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS ({f}(id)) STORED", "default": "ALTER TABLE {t} ADD d int DEFAULT {f}(1)", "domain": "CREATE DOMAIN {t}_domain AS int CHECK ({f}(VALUE) > 0); ALTER TABLE {t} ALTER note TYPE {t}_domain USING 1",
}
TABLES = "CREATE TYPE pair AS (a encrypted_text, b int); CREATE DOMAIN named AS encrypted_text; CREATE TABLE honest (id int PRIMARY KEY, v encrypted_text, a encrypted_text[], p pair, d named, c encrypted_text('email', 'searchable')); CREATE UNIQUE INDEX ON honest (c encrypted_text_unique_ops);"


class Apply(Attack):
    conf = {"wal_level": "'logical'", "max_logical_replication_workers": "16", "max_worker_processes": "32", "max_sync_workers_per_subscription": "8", "max_replication_slots": "60", "max_wal_senders": "60", "wal_retrieve_retry_interval": "'500ms'"}
    db = "publisher"
    schema = TABLES + "CREATE TABLE stolen (id int, name encrypted_text);" + secret_rows("stolen") + """
        INSERT INTO honest SELECT id, name, ARRAY[name], ROW(name, 1)::pair, name, name FROM stolen"""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.stolen, cls.bytes = cls.cluster.psql("SELECT name, encode(name::bytea, 'hex') FROM stolen WHERE id = 2", db=cls.db).split("|")
        cls.ways = [(place, load) for load in LOADS for place in (("BEFORE trigger",) if load != "a literal" else PLACES)]

    def function(self, number, load, definer):
        call = LOADS[load].replace("{s}", self.stolen).replace("{b}", self.bytes).replace("{n}", str(number)).replace("{{", "{").replace("}}", "}").replace("'", "''")
        rights = "SECURITY DEFINER" if definer else ""
        work = f"EXECUTE 'INSERT INTO public.loot (n, v) SELECT {number}, (' || '{call}' || ')';"
        caught = f"BEGIN {work} EXCEPTION WHEN OTHERS THEN INSERT INTO public.tried VALUES ({number}, current_user, SQLSTATE, SQLERRM); END;"
        return f"""CREATE FUNCTION try_{number}_now() RETURNS int LANGUAGE plpgsql {rights} SET search_path = pg_catalog, pg_temp AS $f$ BEGIN INSERT INTO public.tried VALUES ({number}, current_user, 'began', ''); {caught} RETURN 1; END $f$;
            CREATE FUNCTION try_{number}(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.try_{number}_now()';
            CREATE FUNCTION try_{number}_trigger() RETURNS trigger LANGUAGE plpgsql {rights} SET search_path = pg_catalog, pg_temp AS $f$ BEGIN PERFORM public.try_{number}_now(); RETURN NEW; END $f$;"""

    def subscribe(self, db, publication, role="postgres", slot=None):
        slot = slot or db
        self.cluster.psql(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')", db=self.db)
        # Of its own cluster, so that the slot is there before.
        self.cluster.psql(f"SET ROLE {role}; CREATE SUBSCRIPTION {slot} CONNECTION 'host={self.cluster.socket} port={self.cluster.port} dbname={self.db} user=postgres' PUBLICATION {publication} WITH (create_slot = false, slot_name = '{slot}')", db=db)
        self.addCleanup(self.cluster.psql, f"ALTER ROLE owner NOSUPERUSER; ALTER SUBSCRIPTION {slot} DISABLE; ALTER SUBSCRIPTION {slot} SET (slot_name = NONE); DROP SUBSCRIPTION {slot}", db=db)

    def arrange(self, db, definer, suffix):
        """A database that is a copy, and so has the keys; the owner's tables and functions in it, the same tables at the publisher."""
        tables = "".join(f"CREATE TABLE fed_{n}{suffix} (id int PRIMARY KEY, v encrypted_text, note int);" for n in range(len(self.ways)))
        names = ", ".join(f"fed_{n}{suffix}" for n in range(len(self.ways)))
        self.cluster.psql(f'CREATE DATABASE "{db}" TEMPLATE "{self.db}" OWNER db_owner')
        self.cluster.psql(tables + f"CREATE PUBLICATION p{suffix} FOR TABLE honest, {names}; INSERT INTO fed_0{suffix} VALUES (1, NULL, 1)", db=self.db)
        script = "TRUNCATE honest; GRANT ALL ON honest TO owner; CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; GRANT ALL ON SCHEMA public TO owner; GRANT USAGE ON SCHEMA prism_crypt TO owner; SET ROLE owner;" + tables + "CREATE TABLE loot (n int, v encrypted_text); CREATE TABLE tried (n int, who text, state text, message text); GRANT ALL ON loot, tried TO PUBLIC;"
        for n, (place, load) in enumerate(self.ways):
            script += self.function(n, load, definer).replace("fed_" + str(n), f"fed_{n}{suffix}") + PLACES[place].replace("{t}", f"fed_{n}{suffix}").replace("{f}", f"try_{n}") + ";"
        self.cluster.psql(script, db=db)

    def run_ways(self, db, definer, role, suffix):
        self.arrange(db, definer, suffix)
        if role == "owner":
            self.cluster.psql("ALTER ROLE owner SUPERUSER")
        self.subscribe(db, f"p{suffix}", role)
        if role == "owner":
            self.cluster.psql("ALTER ROLE owner NOSUPERUSER")
        self.cluster.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db=db)
        if role == "owner":
            # What came before he was no superuser any more.
            self.cluster.psql("ALTER SUBSCRIPTION " + db + " DISABLE; ALTER SUBSCRIPTION " + db + " ENABLE; TRUNCATE loot, tried", db=db)
        self.cluster.psql("".join(f"INSERT INTO fed_{n}{suffix} VALUES (2, NULL, 1);" for n in range(len(self.ways)))
                          + f"INSERT INTO honest SELECT id + 10 * {1 + len(suffix)}, name, ARRAY[name], ROW(name, 1)::pair, name, encrypt_field('unique {suffix}' || id, class => 'email')::encrypted_text('email', 'searchable') FROM stolen;", db=self.db)
        count = " + ".join(f"(SELECT count(*) FROM fed_{n}{suffix} WHERE id = 2)" for n in range(len(self.ways)))
        self.cluster.wait_for(f"SELECT {count} = {len(self.ways)}", db=db)
        look = "SET prism_crypt.output = 'ciphertext'; SELECT id, v, a, p, d, c FROM honest ORDER BY id"
        with self.subTest("what is replicated arrives, by the initial copy and by changes"):
            self.cluster.wait_for("SELECT count(*) FROM honest", self.cluster.psql("SELECT count(*) FROM honest", db=self.db), db=db)
            self.assertEqual(self.cluster.psql(look, db=db), self.cluster.psql(look, db=self.db))
        loot = self.cluster.psql("SELECT DISTINCT n FROM loot WHERE try_decrypt_field(v) IS NOT NULL", db=db).split()
        tried = self.cluster.psql("SELECT DISTINCT n FROM tried", db=db).split()
        for n, (place, load) in enumerate(self.ways):
            with self.subTest(f"{place} ran"):
                self.assertIn(str(n), tried, f"{place} with {load} was not run: the way proves nothing")
            self.judge(f"{load}, {place}, {'SECURITY DEFINER' if definer else 'SECURITY INVOKER'}, subscription of {role}", "stolen ciphertext is stored" if str(n) in loot else "",
                       self.cluster.psql(f"SELECT * FROM tried WHERE n = {n}", db=db))

    def test_functions_with_the_owners_rights(self):
        self.run_ways("subscriber_1", True, "postgres", "")

    def test_functions_with_the_subscriptions_rights(self):
        """Of a subscription whose owner is no superuser any more: on 15 that is how an ordinary role has one."""
        self.run_ways("subscriber_2", False, "owner", "_b")

    def test_sql_that_is_inlined(self):
        """Where nothing catches the error the subscription stops, or the value is not the stolen one."""
        self.cluster.psql('CREATE DATABASE "subscriber_3" TEMPLATE "publisher" OWNER db_owner')
        make = "CREATE TABLE inlined (id int PRIMARY KEY, note text);"
        self.cluster.psql(make + "CREATE PUBLICATION p_inlined FOR TABLE inlined", db=self.db)
        self.cluster.psql(f"""GRANT ALL ON SCHEMA public TO owner; SET ROLE owner; {make} CREATE FUNCTION load(note text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS 'SELECT public.encrypted_text_in(note::cstring, 0, -1)';
            ALTER TABLE inlined ADD g encrypted_text GENERATED ALWAYS AS (load(note)) STORED""", db="subscriber_3")
        self.subscribe("subscriber_3", "p_inlined")
        self.cluster.wait_for("SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel", db="subscriber_3")
        before = len(self.cluster.log())
        self.cluster.psql(f"INSERT INTO inlined VALUES (1, '{self.stolen}')", db=self.db)
        for _ in range(300):
            arrived = self.cluster.psql("SELECT count(*) FROM inlined", db="subscriber_3") == "1"
            if arrived or "42501" in self.cluster.log()[before:] or "permission denied to load" in self.cluster.log()[before:]:
                break
            self.cluster.psql("SELECT pg_sleep(0.1)")
        got = self.cluster.psql("SELECT try_decrypt_field(g) FROM inlined", db="subscriber_3")
        self.judge("a generated column that is inlined", "stolen ciphertext is stored" if got == SECRET else "")

    def test_the_owner_himself(self):
        """The control: with the right to load the same functions store it, without it they don't."""
        for role, expected in (("owner", "0"), ("load", "1")):
            self.cluster.psql("DROP TABLE IF EXISTS loot, tried; CREATE TABLE loot (n int, v encrypted_text); CREATE TABLE tried (n int, who text, state text, message text); GRANT ALL ON loot, tried TO PUBLIC; GRANT ALL ON SCHEMA public TO load", db=self.db)
            self.cluster.psql(f"BEGIN; {self.function(0, 'a literal', False)} SELECT try_0(1); COMMIT; DROP FUNCTION try_0_now(), try_0(int), try_0_trigger()", user=role, db=self.db)
            self.assertEqual(self.cluster.psql("SELECT count(*) FROM loot", db=self.db), expected, role)


if __name__ == "__main__":
    unittest.main()
