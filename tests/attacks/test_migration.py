"""Migrating a column gives nobody a right: not by the trigger, not by helpers, not by what a table's owner records or defines."""

import json
import re
import unittest

from migrated import SCHEMA
from ways import KINDS, SECRET, Attack, says, shows_secret

WRITERS = [kind for kind in KINDS if kind not in ("decrypt", "load", "key_admin")]
EMPTIED = "DROP TRIGGER IF EXISTS t ON patients; UPDATE patients SET name = email, note = NULL, number = NULL;"
STEP = "CREATE TRIGGER t BEFORE INSERT OR UPDATE ON patients FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_in_step({});"
ROW = "(SELECT name FROM patients WHERE id = 2)"
# A value that is not what was asked for, and one that is.
WRONG = "wombat.9999.potoroo"


class Oracles(Attack):
    """Functions that open values for a migration, called by those who must not see or guess them."""

    schema = SCHEMA

    def test_the_trigger_on_tables_of_others(self):
        """GRANT ALL includes the right to make triggers, but the trigger judges by the owner's rights."""
        for role in (*WRITERS, "migrate"):
            for mode in ("follow", "return"):
                for column, target in (("name", "note"), ("email", "note"), ("name", "number")):
                    self.way(f"the trigger fills {target} from {column}, {mode}, as {role}", role,
                             STEP.format(f"'{column}', '{target}', '{mode}'")
                             + "UPDATE patients SET note = NULL, number = NULL; UPDATE patients SET name = name, email = email; SELECT note, number FROM patients;"
                             + "INSERT INTO patients (id, name) SELECT 99, name FROM patients WHERE id = 2; SELECT note FROM patients;",
                             undo=EMPTIED + "DELETE FROM patients WHERE id = 99")
        self.control("the owner has it fill a column", "doctor", STEP.format("'name', 'note', 'follow'")
                     + "ALTER TRIGGER t ON patients DEPENDS ON EXTENSION prism_crypt;"
                     + "UPDATE patients SET note = NULL; SELECT note FROM patients;" + EMPTIED)

    OWN_STEP = ("CREATE TEMP TABLE own (id int, enc {}, plain text); CREATE TRIGGER t BEFORE INSERT OR UPDATE ON own FOR EACH ROW "
                "EXECUTE FUNCTION prism_crypt._keep_in_step({}); ALTER TRIGGER t ON own DEPENDS ON EXTENSION prism_crypt;")
    # {0}: ciphertext of somebody else. A row that gets it when it is made, and one that gets it afterwards.
    COPIED = ("INSERT INTO own (id, enc) SELECT 1, {0}; INSERT INTO own (id) VALUES (2); UPDATE own SET enc = {0} WHERE id = 2;"
              "INSERT INTO own SELECT 3, {0}, 'x'; SELECT plain FROM own; UPDATE own SET enc = {0}, plain = NULL; SELECT plain FROM own;")

    def test_the_trigger_on_tables_of_ones_own(self):
        """Who owns a table can make all that a migration makes, and copy ciphertext of others into it."""
        self.cluster.psql("CREATE ROLE encrypts LOGIN; SELECT prism_crypt.grant_access('encrypts', 'encrypt')", db=self.db)
        wanted = "DO $$ BEGIN PERFORM 1 / (SELECT count(*) FROM pg_depend WHERE deptype = 'x' AND objid = (SELECT oid FROM pg_trigger WHERE tgrelid = 'own'::regclass)); END $$;"
        for column, of_type in (("name", "encrypted_text"), ("email", "encrypted_text('email', 'searchable')"), ("name", "pg_temp.sealed")):
            make = "CREATE DOMAIN pg_temp.sealed AS encrypted_text;" + self.OWN_STEP
            row = f"(SELECT {column} FROM patients WHERE id = 2)"
            for arguments in (f"{pair}, '{mode}'" for pair in ("'enc', 'plain'", "'plain', 'enc'") for mode in ("follow", "return")):
                made = make.format(of_type, arguments) + wanted
                for role in ("encrypts", *WRITERS, "migrate"):
                    name = f"a trigger of one's own, {arguments}, {of_type}, as {role}"
                    # A trigger that the extension does not heed would prove nothing.
                    self.way(name, role, made + self.COPIED.format(row), goal=lambda said: shows_secret(said) or "22012" in said)
                    guessed = f"INSERT INTO own SELECT 1, {row}, '{{}}'; SELECT id FROM own;"
                    right, wrong = (self.run_as(role, made + guessed.format(guess)) for guess in (SECRET, WRONG))
                    self.judge(f"{name}: a guess", "" if right == wrong else "right and wrong guesses differ", right + wrong)
                # What the way of a value leads to, with the right to go it.
                if arguments != "'plain', 'enc', 'follow'":
                    self.control(f"one who may decrypt, {arguments}, {of_type}", "owns_and_migrates", made + self.COPIED.format(row))

    def test_comparing(self):
        compare = "SELECT prism_crypt._is_out_of_step({}, {}, -1);"
        roles = ("migrate", *WRITERS)
        for role in roles:
            for name, script in {
                "a number in a message": compare.format(ROW, "1"), "a date in a message": compare.format(ROW, "current_date"),
                "a domain that tells": "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;"
                    "CREATE DOMAIN pg_temp.telling AS text CHECK (pg_temp.tell(VALUE));" + compare.format(ROW, "'x'::pg_temp.telling"),
                "a domain that tells, of numbers": "CREATE DOMAIN pg_temp.n AS int CHECK (VALUE > 0);" + compare.format(ROW, "1::pg_temp.n"),
            }.items():
                self.way(f"_is_out_of_step: {name}, as {role}", role, script)
            for order in ("'{}'::text|" + ROW, ROW + "|'{}'::text", "'{}'::name|" + ROW, ROW + "|'{}'::varchar"):
                right, wrong = (self.run_as(role, compare.format(*order.format(guess).split("|"))) for guess in (SECRET, WRONG))
                self.judge(f"_is_out_of_step: a guess, {order}, as {role}", "" if right == wrong else "right and wrong guesses differ", right + wrong)
        self.assertNotEqual(*(self.run_as("owns_and_migrates", compare.format(f"'{guess}'::text", ROW)) for guess in (SECRET, WRONG)))
        self.control("a message, with the right", "owns_and_migrates",
                     "CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;"
                     "CREATE DOMAIN pg_temp.telling AS text CHECK (pg_temp.tell(VALUE));" + compare.format(ROW, "'x'::pg_temp.telling"))

    def test_searching_files(self):
        """What is in files of others, and what an envelope holds."""
        self.cluster.psql(f"CREATE TABLE files_of_others (v text); INSERT INTO files_of_others VALUES ('{SECRET}')", db=self.db)
        others = "SELECT sampled, found FROM prism_crypt._find_remains(ARRAY['{}'::regclass::oid], ARRAY[encrypt_field('{}')::bytea]);"
        own = ("CREATE TEMP TABLE own AS SELECT '{}'::text AS v;"
               f"SELECT sampled, found FROM prism_crypt._find_remains(ARRAY['own'::regclass::oid], ARRAY[{ROW}::bytea]);")
        for role in ("migrate", *WRITERS):
            for name, script in {"a table of others": others.replace("{}", "files_of_others", 1), "a table of roles": others.replace("{}", "pg_authid", 1),
                                 "a table of one's own": own}.items():
                guesses = ("postgres", "wombat99") if "roles" in name else (SECRET, WRONG)
                right, wrong = (self.run_as(role, script.format(guess)) for guess in guesses)
                self.judge(f"_find_remains: {name}, as {role}", "" if right == wrong else "right and wrong guesses differ", right + wrong)
        self.assertNotEqual(*(self.run_as("owns_and_migrates", own.format(guess)) for guess in (SECRET, WRONG)))
        self.cluster.psql("ALTER TABLE files_of_others OWNER TO owns_and_migrates", db=self.db)
        self.assertNotEqual(*(self.run_as("owns_and_migrates", others.format("files_of_others", guess)) for guess in (SECRET, WRONG)))

    def test_any_types(self):
        """The trigger on tables of one's own, with whatever arguments and types: it must not mistake one for another."""
        types = ("int", "bigint", "bool", "float8", "numeric", "date", "timestamptz", "interval", "uuid", "text", "varchar(5)", "char(3)", '"char"', "name",
                 "bytea", "json", "jsonb", "xml", "int[]", "text[]", "point", "bit(3)", "inet", "money", "oid", "regclass", "tsvector", "int4range",
                 "dom", "pair", "dom[]", "encrypted_text", "sealed", "encrypted_text[]")
        self.run_as("owns_and_migrates", "CREATE DOMAIN dom AS text CHECK (VALUE <> 'x'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN sealed AS encrypted_text('email');")
        for first in types:
            # One table for each type, with a column of every other type.
            script = ["CREATE TEMP TABLE t (id int, v {}, {});".format(first, ", ".join(f'c{n} {t}' for n, t in enumerate(types)))]
            for mode in ("follow", "return", "clear", "forget"):
                for n in range(len(types)):
                    for source, target in (("v", f"c{n}"), (f"c{n}", "v")):
                        script.append(f"CREATE TRIGGER a BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION prism_crypt._keep_in_step('{source}', '{target}', '{mode}');"
                                      "ALTER TRIGGER a ON t DEPENDS ON EXTENSION prism_crypt;"
                                      "INSERT INTO t VALUES (1); UPDATE t SET v = '5', id = 2; UPDATE t SET v = '{}'; UPDATE t SET v = 'f'; UPDATE t SET id = 1, v = NULL;"
                                      f"UPDATE t SET c{n} = '1'; UPDATE t SET c{n} = '{{}}', id = 4; UPDATE t SET id = 3; DROP TRIGGER a ON t; DELETE FROM t;")
            said = self.run_as("owns_and_migrates", "".join(script))
            self.assertNotIn('relation "t" does not exist', said)
            internal = sorted(set(re.findall(r"^ERROR:  XX.*", said, re.M)))
            self.judge(f"type confusion with {first}", f"internal errors: {internal[:5]}" if internal else "", said)
        for arguments in ("", "'a'", "'id', 'id', 'follow'", "'note', 'name', 'x'", "'note', 'name'", "'note', 'name', 'follow', 'x'", "'ctid', 'name', 'follow'",
                          "'tableoid', 'xmin', 'clear'", "'', '', ''", "'name', 'name', 'clear'", "'note', 'note', 'forget'"):
            self.way(f"odd arguments: {arguments}", "doctor", STEP.format(arguments) + "UPDATE patients SET id = id, note = 'x'; INSERT INTO patients (id) VALUES (50);",
                     goal=says("never"), undo=EMPTIED + "DELETE FROM patients WHERE id = 50")
        for when in ("AFTER INSERT OR UPDATE ON patients FOR EACH ROW", "BEFORE DELETE ON patients FOR EACH ROW", "BEFORE UPDATE ON patients FOR EACH STATEMENT",
                     "AFTER TRUNCATE ON patients FOR EACH STATEMENT", "INSTEAD OF UPDATE ON v FOR EACH ROW"):
            self.way(f"odd trigger: {when}", "doctor", "CREATE VIEW v AS SELECT * FROM patients; BEGIN; CREATE TRIGGER t " + when + " EXECUTE FUNCTION prism_crypt._keep_in_step('note', 'name', 'follow');"
                     f"ALTER TRIGGER t ON {when.split()[when.split().index('ON') + 1]} DEPENDS ON EXTENSION prism_crypt;"
                     "\\set ON_ERROR_ROLLBACK on\nUPDATE patients SET note = 'x'; UPDATE v SET note = 'x'; DELETE FROM patients; TRUNCATE patients; ROLLBACK; DROP VIEW v", goal=says("never"))
        self.way("the trigger function called by hand", "doctor", "SELECT prism_crypt._keep_in_step(); SELECT prism_crypt._is_out_of_step(NULL, NULL, NULL);"
                 "SELECT prism_crypt._is_out_of_step(1, 2, 3); SELECT prism_crypt._is_out_of_step(ROW(1), name, -5) FROM patients;"
                 "SELECT * FROM prism_crypt._find_remains('{0}', NULL); SELECT * FROM prism_crypt._find_remains('{0}', '{}'); SELECT * FROM prism_crypt._find_remains('{1259,NULL}', ARRAY[NULL, '\\x'::bytea, '\\x00']);"
                 "CREATE VIEW w AS SELECT 1; CREATE SEQUENCE s; CREATE TABLE parts (i int) PARTITION BY LIST (i); SELECT prism_crypt._find_remains(ARRAY[c::regclass::oid], ARRAY[encrypt_field('12345678')::bytea]) FROM unnest('{w,s,parts}'::text[]) AS c;"
                 "SELECT prism_crypt._lock_relations(NULL, 1), prism_crypt._lock_relations('{}', 1); SELECT prism_crypt._lock_relations('{patients}', 2147483647); SELECT prism_crypt._lock_relations('{patients}', -1);", goal=says("never"))


class Messages(Attack):
    """What the trigger says of values that do not fit."""

    schema = SCHEMA + """
        SET ROLE owns_and_migrates; CREATE TABLE people (id int PRIMARY KEY, age int, born date, code varchar(4) UNIQUE, full_name text);
        CREATE VIEW whole AS SELECT to_jsonb(p) AS row FROM people AS p; CREATE FUNCTION wholes() RETURNS SETOF text SECURITY DEFINER BEGIN ATOMIC SELECT p::text FROM people AS p; END;
        GRANT ALL ON people, whole TO PUBLIC; RESET ROLE;
        INSERT INTO people VALUES (1, 1, '2001-01-01', 'a', 'x'), (2, 2, '2002-02-02', 'b', 'y');
    """

    def test_values_that_do_not_fit(self):
        for reader, drop in {"SELECT * FROM whole": "DROP VIEW whole", "SELECT * FROM wholes()": "DROP FUNCTION wholes()"}.items():
            self.run_as("owns_and_migrates", "CALL prism_crypt.migrate_column('people', 'full_name', 'encrypted_text', method => 'online')")
            self.way(f"ciphertext of others in whole rows, by {reader}", "mask", f"UPDATE people SET full_name = {ROW} WHERE id = 1; {reader}", undo="UPDATE people SET full_name = 'x' WHERE id = 1")
            self.run_as("owns_and_migrates", drop)
        for column in ("age", "born", "code", "full_name"):
            self.cluster.psql(f"CALL prism_crypt.migrate_column('people', '{column}', 'encrypted_text{'(searchable)' if column == 'code' else ''}', method => 'online')",
                              user="owns_and_migrates", db=self.db)
        for role in ("mask", "rotate", "search", "migrate", "monitor"):
            for column in ("age", "born", "code", "full_name"):
                self.way(f"ciphertext of others into {column}, as {role}", role,
                         f"UPDATE people SET {column} = {ROW} WHERE id = 1; INSERT INTO people (id, {column}) VALUES (9, {ROW});"
                         f"SELECT * FROM people; SELECT prism_crypt_old_{column} FROM people; SELECT p::text FROM people AS p;"
                         f"UPDATE people SET {column} = NULL RETURNING prism_crypt_old_{column}; SELECT most_common_vals FROM pg_stats WHERE tablename = 'people';",
                         undo="DELETE FROM people WHERE id = 9")
            self.way(f"a value that is there already, as {role}", role, "INSERT INTO people (id, code) SELECT 8, code FROM people WHERE id = 2;",
                     goal=says(r"prism_crypt_old_code\)=\(b\)"))
        self.judge("values that do not fit, in the log", "the log has the secret" if SECRET in self.cluster.log() else "")
        self.control("one who may", "doctor", f"SELECT {ROW}::text")


class Expressions(Attack):
    """An expression holds the key of another system: for whom it is there, and where it must not be."""

    schema = SCHEMA + """
        CREATE FUNCTION open_it(v text, key text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF v = 'odd' THEN RAISE 'wrong key'; END IF; RETURN v || 'x'; END $$;
        SET ROLE owns_and_migrates; CREATE TABLE theirs (id int PRIMARY KEY, v text NOT NULL); INSERT INTO theirs SELECT i, 'v' || i FROM generate_series(1, 50) AS i; RESET ROLE;
        ALTER DATABASE attacked SET log_min_messages = debug5; ALTER DATABASE attacked SET log_error_verbosity = verbose;
    """

    NUMBER = "SELECT max(id) AS id FROM prism_crypt.migrations \\gset\n"
    # {0}: its number, which a role that does not see it has to guess.
    READ = ("SELECT * FROM prism_crypt._read_migration({0}, prism_crypt._note_caller()); SELECT * FROM prism_crypt._find_migration('theirs', 'v', prism_crypt._note_caller());"
            "SELECT * FROM prism_crypt._take_migration({0}, prism_crypt._note_caller()); SELECT * FROM prism_crypt.migrations; SELECT * FROM prism_crypt.progress; SELECT query FROM pg_stat_activity;"
            "SELECT * FROM prism_crypt.migration; SELECT * FROM prism_crypt.explain_migration('theirs', 'v', 'encrypted_text');")

    def test_keys_in_settings(self):
        """As the documents advise."""
        before_this = len(self.cluster.log())
        for name, before in {"it goes well": "", "a value that fails": "UPDATE theirs SET v = 'odd' WHERE id = 7;"}.items():
            self.way(f"the key in what is told: {name}", "owns_and_migrates", before + "CALL prism_crypt.migrate_column('theirs', 'v', 'encrypted_text', $$open_it(v, current_setting('app.key'))$$, method => 'online', until => 'verified');",
                     PGOPTIONS=f"-c app.key={SECRET}", undo="UPDATE theirs SET v = 'v7' WHERE id = 7")
            self.judge(f"the key in the log: {name}", "the log has it" if SECRET in self.cluster.log()[before_this:] else "")
            self.run_as("owns_and_migrates", self.NUMBER + "CALL prism_crypt.rollback_migration(:id);")

    def test_keys_in_expressions(self):
        """Written by a superuser, whose secret it stays."""
        self.run_as("postgres", f"CALL prism_crypt.migrate_column('theirs', 'v', 'encrypted_text', $$open_it(v, '{SECRET}')$$, method => 'online', until => 'verified');")
        number = self.cluster.psql("SELECT max(id) FROM prism_crypt.migration", db=self.db)
        for role in ("nobody", "monitor", "owns_and_migrates", "migrate", "rotate", "doctor"):
            # A way that ends for want of a number proves nothing.
            self.way(f"the key in an expression, as {role}", role, self.READ.format(number), goal=lambda said: shows_secret(said) or "42601" in said)
        self.control("who wrote it", "postgres", self.READ.format(number))
        self.control("its owner sees the rest of it", "owns_and_migrates", self.READ.format(number), goal=says(r"^\(?%s[|,].*theirs" % number))
        self.run_as("postgres", self.NUMBER + "CALL prism_crypt.rollback_migration(:id);")


OWN = "own (id int PRIMARY KEY, v text)"
RAN = "SELECT 'it ran as ' || who FROM ran WHERE who = 'postgres'"


class Records(Attack):
    """What is recorded of migrations: by whom, and with whose rights it is run."""

    schema = SCHEMA + """
        CREATE TABLE ran (who name); GRANT ALL ON ran TO PUBLIC;
        SET ROLE owns_and_migrates; CREATE FUNCTION note_it() RETURNS int LANGUAGE sql AS 'INSERT INTO public.ran VALUES (current_user) RETURNING 1'; RESET ROLE;
        CREATE TABLE victim (id int PRIMARY KEY, name text);
    """
    NOTE = "SELECT public.note_it()"
    LAST = "SELECT 'CALL prism_crypt.{}(' || max(id) || ')' FROM prism_crypt.migration \\gexec\n"
    UNDO = "DROP TABLE IF EXISTS own; TRUNCATE ran; DELETE FROM prism_crypt.migration"

    def opened(self, steps, **columns):
        """A migration of a table of one's own, whose record says what its owner likes."""
        values = {"relation": "own", "column_name": "v", "old_type": "text", "type": "public.encrypted_text", "method": "online",
                  "keep_plaintext": True, "twin": "prism_crypt_new_v", "kept": "prism_crypt_old_v", **columns}
        # The columns are as a migration has them there.
        is_cut_over = "cut_over" in steps or "validation" in steps
        table = "own (id int PRIMARY KEY, v encrypted_text, prism_crypt_old_v text)" if is_cut_over else "own (id int PRIMARY KEY, v text, prism_crypt_new_v encrypted_text)"
        return f"""CREATE TABLE {table}; INSERT INTO own VALUES (1, 'x');
            DO $do$ DECLARE id bigint;
            BEGIN
              id := prism_crypt._open_migration(jsonb_populate_record(NULL::prism_crypt.migration, $js${json.dumps(values)}$js$), prism_crypt._note_caller());
              PERFORM prism_crypt._take_migration(id, prism_crypt._note_caller());
              {steps} PERFORM prism_crypt._leave_migration(id, NULL, prism_crypt._note_caller());
            END $do$;"""

    def record(self, phase, build=None, closed=None):
        texts = ", ".join("NULL" if t is None else f"$js${json.dumps(t)}$js$" for t in (build, closed))
        return f"PERFORM prism_crypt._record_phase(id, '{phase}', {texts}, prism_crypt._note_caller());"

    def test_texts_that_others_run(self):
        build = {"statements": [{"sql": self.NOTE}], "done": 0, "late": [self.NOTE], "swap": [self.NOTE], "after": [self.NOTE], "old": []}
        closed = [{"member": "public.own", "grantee": "PUBLIC", "privilege": f"SELECT ON public.own FROM PUBLIC; {self.NOTE}; REVOKE SELECT",
                   "grantable": False, "columns": {}}]
        type_ = f"text); {self.NOTE}; CREATE TEMP TABLE x (y text"
        back = "PERFORM prism_crypt._turn(id, true, prism_crypt._note_caller());"
        again = "CALL prism_crypt.migrate_column('own', 'v', 'encrypted_text', method => 'online');"
        cut = self.record("cut_over", build)
        ways = {
            "a statement to build, gone on with": (self.record("indexes", build), {}, again),
            "a statement to build, rolled back": (cut + back + self.record("indexes", build), {}, self.LAST.format("rollback_migration")),
            "what is left to do": (self.record("validation", build), {}, again),
            "what is left to do, finished": (self.record("validation", build), {}, self.LAST.format("finish_migration")),
            "grants, finished": (self.record("cut_over", build, closed), {}, self.LAST.format("finish_migration")),
            "the type, rolled back": (cut, {"old_type": type_}, self.LAST.format("rollback_migration")),
            "an expression": (self.record("rows"), {"using_expression": "public.note_it()::text"}, again.replace(", method", ", 'public.note_it()::text', method") + self.LAST.format("rollback_migration")),
        }
        for name, (steps, columns, calls) in ways.items():
            self.way(f"recorded: {name}", "owns_and_migrates", self.opened(steps, **columns), goal=says("it ran as"), after=calls + RAN, undo=self.UNDO)
        steps, columns, calls = ways["a statement to build, gone on with"]
        self.control("one's own", "owns_and_migrates", self.opened(steps) + again + RAN.replace("postgres", "owns_and_migrates"), goal=says("it ran as owns"))
        self.cluster.psql(self.UNDO, db=self.db)

    def test_rows_that_are_done(self):
        """Who may write a column can't say that a migration has done its rows."""
        self.cluster.psql("CREATE TABLE filled (id int PRIMARY KEY, v text, note text); INSERT INTO filled VALUES (1, 'x'); GRANT SELECT ON filled TO migrate, rotate; GRANT UPDATE (note) ON filled TO migrate, rotate", db=self.db)
        for role in ("migrate", "rotate"):
            self.cluster.psql("CALL prism_crypt.migrate_column('filled', 'v', 'encrypted_text', method => 'online', until => 'verified')", db=self.db)
            number = self.cluster.psql("UPDATE prism_crypt.migration SET phase = 'rows' WHERE relation = 'filled'::regclass AND phase = 'ready' RETURNING id", db=self.db)
            self.way(f"a job of others, as {role}", role,
                     f"""SELECT 'started a job' FROM prism_crypt._start_job('backfill', 'filled', 'v', '{{"migration": {number}}}', prism_crypt._note_caller())""", goal=says("^started"))
            self.cluster.psql(f"CALL prism_crypt.rollback_migration({number})", db=self.db)

    def test_migrations_of_others(self):
        self.cluster.psql("SET app.key = 'kowari.4711.dunnart'; INSERT INTO victim VALUES (1, 'x');", db=self.db)
        self.cluster.psql(f"CALL prism_crypt.migrate_column('victim', 'name', 'encrypted_text', method => 'online', until => 'verified', using_expression => $$name || '{SECRET}'$$)", db=self.db)
        last = "(SELECT max(id) FROM prism_crypt.migration WHERE relation = 'victim'::regclass)"
        number = self.cluster.psql(f"SELECT {last}", db=self.db)
        changed = f"SELECT 'changed: ' || phase FROM prism_crypt.migration WHERE id = {number} AND (phase <> 'ready' OR is_going_back OR error IS NOT NULL OR worker_pid IS NOT NULL) UNION ALL SELECT 'changed: gone' WHERE NOT EXISTS (SELECT FROM prism_crypt.migration WHERE id = {number})"
        note = "prism_crypt._note_caller()"
        calls = [f"SELECT * FROM prism_crypt._read_migration({number}, {note})", f"SELECT * FROM prism_crypt._find_migration('victim', 'name', {note})",
                 f"SELECT prism_crypt._record_phase({number}, 'finished', NULL, NULL, {note})", f"SELECT prism_crypt._leave_migration({number}, 'x', {note})",
                 f"SELECT prism_crypt._turn({number}, true, {note})", f"SELECT * FROM prism_crypt._job_of_migration({number}, 'backfill', {note})", f"SELECT prism_crypt._hand_on_grants({number}, {note})",
                 f"SELECT * FROM prism_crypt._take_migration({number}, {note})", f"CALL prism_crypt.rollback_migration({number})", f"CALL prism_crypt.finish_migration({number})",
                 f"CALL prism_crypt.migrate_column('victim', 'name', 'encrypted_text')", "CALL prism_crypt.decrypt_column('victim', 'name')", "SELECT prism_crypt.plan_migration('victim', 'name', 'encrypted_text')",
                 "SELECT * FROM prism_crypt.explain_migration('victim', 'name', 'encrypted_text')", "SELECT * FROM prism_crypt.remaining_plaintext('victim', 'name')",
                 f"UPDATE prism_crypt.migration SET phase = 'x'; DELETE FROM prism_crypt.migration; SELECT * FROM prism_crypt.migration; SELECT * FROM prism_crypt.migrations",
                 f"SELECT * FROM prism_crypt._start_job('backfill', 'victim', 'name', '{{\"migration\": {number}}}', {note})", f"SELECT * FROM prism_crypt._start_job('verification', 'victim', 'name', '{{\"migration\": {number}}}', {note})",
                 "SELECT prism_crypt._open_migration(m, prism_crypt._note_caller()) FROM (SELECT (jsonb_populate_record(NULL::prism_crypt.migration, '{\"relation\": \"victim\"}')).*) AS m",
                 "SELECT prism_crypt._lock_relations('{victim}', 8)", "SELECT prism_crypt._start_statement('CREATE INDEX CONCURRENTLY ON victim (id)')", "SELECT * FROM prism_crypt._statement_result(); SELECT prism_crypt._stop_statement()"]
        nulls = [f"SELECT prism_crypt.{f}" for f in (f"_read_migration(NULL, {note})", "_read_migration(1, NULL)", f"_find_migration(NULL, NULL, {note})", f"_record_phase(NULL, NULL, NULL, NULL, {note})", "_record_phase(1, NULL, NULL, NULL, 1)",
                 f"_leave_migration(NULL, NULL, {note})", f"_turn(NULL, NULL, {note})", f"_job_of_migration(NULL, NULL, {note})", f"_hand_on_grants(NULL, {note})", f"_take_migration(NULL, {note})", f"_open_migration(NULL, {note})",
                 "_start_statement(NULL)", "_start_statement('')", "_start_statement('SELECT 1')", "_start_statement('REINDEX TABLE CONCURRENTLY victim; SELECT 1')", "_lock_relations('{0,NULL}', NULL)", "_migrations(NULL)", "_migrations(0)")]
        for role in ("nobody", "migrate", "rotate", "doctor", "monitor"):
            for call in calls + nulls:
                self.way(f"{call[:110]} as {role}", role, call, goal=lambda said: shows_secret(said) or "changed" in said, after=changed)
        log_after = f"SELECT 'changed' FROM pg_index WHERE indrelid = 'victim'::regclass HAVING count(*) <> 1"
        self.way("an index on a table of others by a worker", "migrate", "CALL prism_crypt._run_statement('CREATE INDEX CONCURRENTLY ON public.victim (name)', NULL); CALL prism_crypt._run_statement('DROP INDEX CONCURRENTLY public.victim_pkey', NULL)",
                 goal=says("changed"), after=log_after)
        self.control("its owner", "postgres", f"CALL prism_crypt.rollback_migration({number})", goal=says("changed"), after=changed)


# {f}: a function that notes who runs it. {t}: the table.
DEFINED = {
    "an index's expression": "CREATE INDEX ON {t} ({f}(v))", "an index's predicate": "CREATE INDEX ON {t} (v) WHERE {f}(v) > 0", "a constant in an index": "CREATE INDEX ON {t} (v) WHERE id > {f}('x')",
    "a CHECK": "ALTER TABLE {t} ADD CHECK ({f}(v) > 0) NOT VALID", "a constant in a CHECK": "ALTER TABLE {t} ADD CHECK (length(v) > {f}('x')) NOT VALID", "a valid CHECK": "ALTER TABLE {t} ADD CHECK (length(v) > {f}('x') - 1)",
    "a default": "ALTER TABLE {t} ALTER v SET DEFAULT {f}('x')::text", "a policy": "CREATE POLICY p ON {t} USING ({f}(v) > 0 AND id > {f}('x'))",
    "a view": "CREATE VIEW over AS SELECT v, {f}('x') AS n, {f}(v) AS m FROM {t}", "a materialized view": "CREATE MATERIALIZED VIEW over AS SELECT v, {f}('x') AS n, {f}(v) AS m FROM {t}",
    "an index of a materialized view": "CREATE MATERIALIZED VIEW over AS SELECT v FROM {t}; CREATE INDEX ON over ({f}(v)); CREATE INDEX ON over (v) WHERE length(v) > {f}('x')",
    "a trigger's WHEN": "CREATE TRIGGER t BEFORE UPDATE ON {t} FOR EACH ROW WHEN (length(NEW.v) > {f}('x')) EXECUTE FUNCTION nothing()", "a trigger": "CREATE TRIGGER t BEFORE UPDATE OF v ON {t} FOR EACH ROW EXECUTE FUNCTION noting()",
    "a rule": "CREATE RULE r AS ON DELETE TO {t} DO ALSO SELECT {f}(OLD.v), {f}('x')", "statistics": "CREATE STATISTICS s ON ({f}(v)), id FROM {t}",
    "a function": "CREATE FUNCTION f_over(i int DEFAULT {f}('x')) RETURNS bigint STABLE BEGIN ATOMIC SELECT count(v) + {f}('x') FROM {t}; END",
    "a domain": "ALTER TABLE {t} ADD d dom; UPDATE {t} SET d = 'x'; ALTER TABLE {t} ADD e dom DEFAULT 'x'", "the column's domain": "ALTER TABLE {t} ALTER v TYPE dom", "a generated column": "ALTER TABLE {t} ADD g int GENERATED ALWAYS AS ({f}('x') + id) STORED",
    "a cast": "CREATE TYPE own_type AS (a text); CREATE FUNCTION cast_it(own_type) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM public.{f}('x'); RETURN 'x'; END $$; CREATE CAST (own_type AS text) WITH FUNCTION cast_it(own_type) AS IMPLICIT; ALTER TABLE {t} ADD k own_type; UPDATE {t} SET k = ROW('a')",
    "a range's difference": "CREATE FUNCTION diff(int, int) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT public.{f}(''x'')::float8'; CREATE TYPE own_range AS RANGE (subtype = int, subtype_diff = diff); ALTER TABLE {t} ADD r own_range; UPDATE {t} SET r = '[1,2)'; CREATE INDEX ON {t} USING gist (r)",
}


class Definitions(Attack):
    """A superuser plans and tries a migration of a table of others, which changes nothing, so it runs nothing of its owner as superuser."""

    schema = SCHEMA + """
        -- Sequences remember what was rolled back.
        CREATE SEQUENCE ran_as_postgres; CREATE SEQUENCE ran_as_owns_and_migrates; GRANT ALL ON ran_as_owns_and_migrates, ran_as_postgres TO PUBLIC;
        SET ROLE owns_and_migrates;
        CREATE FUNCTION noted(text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
          PERFORM pg_catalog.nextval('public.ran_as_' || current_user); RETURN 1; END $$;
        CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE FUNCTION noting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.noted('x'); RETURN NEW; END $$;
        CREATE DOMAIN dom AS text CHECK (public.noted(VALUE) > 0);
        RESET ROLE;
    """

    def test_plans(self):
        calls = ("SELECT prism_crypt.plan_migration('{t}', 'v', '{type}');", "SELECT * FROM prism_crypt.explain_migration('{t}', 'v', '{type}');",
                 "CALL prism_crypt.migrate_column('{t}', 'v', '{type}', method => 'online', dry_run => true);", "CALL prism_crypt.migrate_column('{t}', 'v', '{type}', method => 'rewrite', dry_run => true);")
        undo = "DROP TABLE IF EXISTS kept CASCADE; DROP FUNCTION IF EXISTS f_over, diff CASCADE; DROP TYPE IF EXISTS own_type, own_range CASCADE"
        ran = "SELECT 'it ran as postgres' FROM ran_as_postgres WHERE is_called"
        computed = set()
        for name, definition in DEFINED.items():
            made = self.run_as("owns_and_migrates", "CREATE TABLE kept (id int PRIMARY KEY, v text); INSERT INTO kept SELECT i, 'x' || i FROM generate_series(1, 20) AS i;"
                               + definition.replace("{t}", "kept").replace("{f}", "noted") + ";")
            self.assertNotIn("ERROR", made, f"{name}: {made}")
            self.cluster.psql("ALTER SEQUENCE ran_as_postgres RESTART; ALTER SEQUENCE ran_as_owns_and_migrates RESTART", db=self.db)
            for type_ in ("encrypted_text", 'encrypted_text("email", searchable)'):
                for call in calls:
                    self.way(f"{name}: {call[:60]} {type_}", "postgres", call.format(t="kept", type=type_), goal=says("it ran as postgres"), after=ran,
                             undo="ALTER SEQUENCE ran_as_postgres RESTART")
            self.run_as("postgres", undo)
            computed.add(self.cluster.psql("SELECT is_called FROM ran_as_owns_and_migrates", db=self.db))
        # Some were computed, as the owner of their tables, so the ways do get there.
        self.assertIn("t", computed)
        self.control("an UPDATE", "postgres", "CREATE TABLE kept (v text, CHECK (noted(v) > 0)); INSERT INTO kept VALUES ('x'); DROP TABLE kept", goal=says("it ran as postgres"), after=ran)

    def test_names(self):
        """Names are names, whatever is in them."""
        for name in ('we"ird', "it's", "100% %s %1$I", "a$$b$x$", "x; CREATE TABLE injected ()", 'x"; CREATE TABLE injected (); --', "\\', E'\\", "(a", "ä" * 31):
            q = name.replace('"', '""')
            s = name.replace("'", "''")
            script = f"""CREATE SCHEMA "{q}"; CREATE TABLE "{q}"."{q}" ("id{q[:20]}" int PRIMARY KEY, "{q}" text DEFAULT '{s}'); INSERT INTO "{q}"."{q}" VALUES (1, 'x');
                CREATE VIEW "{q}"."v{q[:40]}" AS SELECT "{q}" FROM "{q}"."{q}"; CREATE INDEX "i{q[:40]}" ON "{q}"."{q}" ("{q}"); COMMENT ON COLUMN "{q}"."{q}"."{q}" IS '{s}'; GRANT SELECT ("{q}") ON "{q}"."{q}" TO nobody;
                CALL prism_crypt.migrate_column('"{q.replace("'", "''")}"."{q.replace("'", "''")}"'::regclass, '{s}', 'encrypted_text(searchable)', method => 'online');
                SELECT 'CALL prism_crypt.finish_migration(' || max(id) || ')' FROM prism_crypt.migrations \\gexec
                SELECT 'state ' || state FROM prism_crypt.migrations ORDER BY id DESC LIMIT 1;"""
            self.run_as("postgres", "GRANT CREATE ON DATABASE attacked TO owns_and_migrates")
            self.way(f"a name: {name}", "owns_and_migrates", script, goal=says("injected again"), after="SELECT 'injected again' FROM pg_class WHERE relname = 'injected'")
            # Of this name and no other: the table in its schema has the column, which is of the new type and has its value.
            migrated = ("SELECT format('%L %L %L %s %s', n.nspname, c.relname, a.attname, format_type(atttypid, atttypmod), m.state) FROM prism_crypt.migration AS r JOIN prism_crypt.migrations AS m USING (id) "
                        "JOIN pg_class AS c ON c.oid = r.relation JOIN pg_namespace AS n ON n.oid = relnamespace JOIN pg_attribute AS a ON attrelid = c.oid AND a.attname = r.column_name ORDER BY r.id DESC LIMIT 1;"
                        f'SELECT \'value \' || "{q}"::text FROM "{q}"."{q}";')
            wanted = self.cluster.psql(f"SELECT format('%1$L %1$L %1$L encrypted_text(searchable) finished', '{s}'::name)", db=self.db)
            self.control(f"it is migrated: {name}", "postgres", migrated, goal=lambda said: said == f"{wanted}\nvalue x\n")

    def test_temporary_tables(self):
        """A temporary table of the name is not the table."""
        self.way("a temporary table stands in for it", "owns_and_migrates",
                 f"CREATE TABLE stood (id int PRIMARY KEY, v text); CREATE TEMP TABLE stood (id int PRIMARY KEY, v text); INSERT INTO pg_temp.stood VALUES (1, 'x');"
                 "CALL prism_crypt.migrate_column('public.stood', 'v', 'encrypted_text', method => 'online'); SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'pg_temp.stood'::regclass AND attname = 'v'",
                 goal=says("^encrypted_text"))


if __name__ == "__main__":
    unittest.main()
