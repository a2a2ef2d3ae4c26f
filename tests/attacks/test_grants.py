"""F22, F28: each kind of access has its functions and no other, whatever default privileges said; helpers reveal and change nothing."""

import re
import unittest

from ways import KINDS, ROLES, Attack, says, secret_rows, shows_secret

# What docs/privileges.md gives to everybody, and to each kind by name. Names that begin with _ are helpers of a kind.
PUBLIC = set("""encrypted_text_in encrypted_text_out encrypted_text_recv encrypted_text_send encrypted_text_typmod_in encrypted_text_typmod_out
    encrypted_text_typanalyze encrypted_text bytea encrypt_field encrypt_bytes key_version envelope_info class_name _sealed_constant
    encrypted_text_no_order""".split())
PUBLIC_SIGNATURES = {"encrypted_text_eq(encrypted_text,encrypted_text)", "encrypted_text_ne(encrypted_text,encrypted_text)"}
# Theirs is the right to call what they call, which is not open.
PUBLIC_SIGNATURES |= {f"encrypted_text_{name}({types})" for name in ("eq", "ne") for types in ("encrypted_text,name", "name,encrypted_text")}
FACING = {
    "decrypt": "decrypt_field try_decrypt_field decrypt_bytes text varchar bpchar name", "mask": "mask_field",
    "search": """blind_index encrypted_text_eq encrypted_text_ne encrypted_text_hash encrypted_text_cmp encrypted_text_cmp_text encrypted_text_hash_text
        encrypted_text_array_contains encrypted_text_array_contained encrypted_text_array_overlaps encrypted_text_array_eq encrypted_text_array_ne encrypted_text_wanted""",
    "rotate": "rotate_batch reencrypt_field reencrypt_bytes rotate_all plan_rotation pause_job resume_job cancel_job", "load": "load_envelope",
    "key_admin": """generate_key create_keyset rotate_key rotate_master_key disable_key enable_key destroy_key destroy_keyset emergency_rotation
        set_rotation_interval rotation_due census rotate_index_key pause_job resume_job cancel_job""",
    "monitor": "status rotation_due census find_plaintext",
}
MEMBERS = """FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'prism_crypt' AND d.deptype = 'e'
    AND d.refclassid = 'pg_extension'::regclass"""
FUNCTIONS = f"""SELECT p.oid, p.oid::regprocedure::text, p.proname, p.prokind, p.proretset,
    (SELECT coalesce(string_agg('NULL::' || CASE t WHEN 'anyelement'::regtype THEN 'text' ELSE format_type(t, NULL) END, ', ' ORDER BY o), '')
     FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, o)),
    (SELECT string_agg(format_type(t, NULL), ';' ORDER BY o) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, o))
    {MEMBERS} JOIN pg_proc AS p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass ORDER BY 2"""
TABLES = f"SELECT c.oid::regclass::text {MEMBERS} JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v', 'S') ORDER BY 1"
# All that the extension keeps, but for what any use of keys counts.
KEPT = """SELECT 'data_key', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.data_key AS t UNION ALL
    SELECT 'index_key', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.index_key AS t UNION ALL
    SELECT 'keyset', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.keyset AS t UNION ALL
    SELECT 'carried_key', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.carried_key AS t UNION ALL
    SELECT 'job', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.job AS t UNION ALL
    SELECT 'job_part', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.job_part AS t UNION ALL
    SELECT 'job_range', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.job_range AS t UNION ALL
    SELECT 'job_worker', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM prism_crypt.job_worker AS t UNION ALL
    SELECT 'victim', md5(string_agg(t::text, ',' ORDER BY t::text)) FROM victim AS t"""
SCHEMA = """
    SET ROLE doctor; CREATE TABLE victim (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable')); RESET ROLE;
""" + secret_rows("victim") + """
    UPDATE victim SET email = name; GRANT SELECT ON victim TO PUBLIC;
    SELECT prism_crypt.rotate_key();
    INSERT INTO prism_crypt.job (kind, relation, state) VALUES ('rotation', 'victim', 'paused');
    INSERT INTO prism_crypt.job_part (job, relation, end_block) SELECT id, 'victim', 10 FROM prism_crypt.job;
    INSERT INTO prism_crypt.job_range (job, relation, place, next_place, end_block, worker_pid, worker_started)
      SELECT id, 'victim', '(0,1)', '(0,1)', 10, 1, now() FROM prism_crypt.job;
"""
DEFAULTS = """
    ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO nobody; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO nobody;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO nobody; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO nobody;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO owner; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO owner;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
"""
OTHERS_GRANTS = f"""SELECT string_agg(o, ', ') FROM (
    SELECT p.oid::regprocedure || ' to ' || g.grantee::regrole AS o {MEMBERS} JOIN pg_proc AS p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
    CROSS JOIN aclexplode(p.proacl) AS g WHERE g.grantee IN ('nobody'::regrole, 'owner'::regrole)
    UNION ALL SELECT c.oid::regclass || ' to ' || g.grantee {MEMBERS} JOIN pg_class AS c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
    CROSS JOIN aclexplode(c.relacl) AS g WHERE g.grantee IN (0, 'nobody'::regrole, 'owner'::regrole) AND (c.relname NOT IN ('job_kind', 'data_key_version_seq', 'audit_log_id_seq', 'migration_id_seq') OR g.privilege_type <> 'SELECT')
    UNION ALL SELECT n.nspname || ' to ' || g.grantee FROM pg_namespace AS n CROSS JOIN aclexplode(n.nspacl) AS g
    WHERE n.nspname = 'prism_crypt' AND g.grantee IN (0, 'nobody'::regrole, 'owner'::regrole)) AS x"""


class Grants(Attack):
    schema = SCHEMA

    def functions(self, db=None):
        rows = self.cluster.psql("\\pset fieldsep '\t'\n" + FUNCTIONS, db=db or self.db).splitlines()
        return [dict(zip(("oid", "signature", "name", "kind", "set", "arguments", "types"), row.split("\t"))) for row in rows]

    def open_helpers(self, db=None):
        """Everybody's: the regression test of grants has the list of them."""
        return set(self.cluster.psql(f"""SELECT p.oid {MEMBERS} JOIN pg_proc AS p ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass
            WHERE p.pronamespace = 'prism_crypt'::regnamespace AND p.proname ~ '^_' AND has_function_privilege('public', p.oid, 'EXECUTE')""", db=db or self.db).splitlines())

    def helpers(self, kind):
        if kind == "nobody":
            return self.open_helpers()
        return set(self.cluster.psql(f"SELECT unnest(prism_crypt._access_functions('{kind}')::oid[])", db=self.db).splitlines())

    @staticmethod
    def call(function, arguments):
        # Of a strict function with a constant NULL nothing is called, nor asked for.
        if function["kind"] != "p":
            arguments = re.sub(r"NULL::[^,]+", r"(SELECT \g<0>)", arguments)
        schema = "prism_crypt." if function["signature"].startswith("prism_crypt.") else "public."
        return f"{'CALL' if function['kind'] == 'p' else 'SELECT'} {schema}\"{function['name']}\"({arguments});\n"

    def forbidden(self, kind):
        facing, helpers, opened = set(FACING.get(kind, "").split()), self.helpers(kind) if kind in KINDS else set(), self.open_helpers()
        return [f for f in self.functions() if not (
            f["oid"] in opened or f["name"] in PUBLIC or f["signature"] in PUBLIC_SIGNATURES or f["oid"] in helpers and (f["name"] in facing or f["name"].startswith("_")))]

    def refused(self, user, functions, db=None):
        """What is wrong: the functions whose call by that role was anything but refused."""
        # There is no value of internal: these can't be called, with or without the right to it.
        uncallable = [f["oid"] for f in functions if "internal" in f["types"]]
        granted = self.cluster.psql(f"SELECT f::regprocedure FROM unnest('{{{','.join(uncallable)}}}'::oid[]) AS f WHERE has_function_privilege('{user}', f, 'EXECUTE')", db=db or self.db).split()
        functions = [f for f in functions if f["oid"] not in uncallable]
        script = "".join(f"\\echo == {f['signature']}\n{self.call(f, f['arguments'])}" for f in functions)
        # Errors and echoes come by different pipes: one.
        said = self.run_as(user, "\\set SHOW_CONTEXT never\n\\o /dev/null\n" + script.replace("\\echo", "\\warn"), db=db)
        return granted + [part.split("\n")[0] for part in re.split("^== ", said, flags=re.M)[1:] if "ERROR:  42501: permission denied for" not in part], said

    def test_each_kind_calls_what_is_not_its_own(self):
        also = self.helpers("mask") | self.helpers("search")
        for role in ROLES:
            functions = [f for f in self.forbidden("decrypt") if f["oid"] not in also] if role == "doctor" else self.forbidden(role)
            self.assertGreater(len(functions), 100)
            # So that it is the function that is refused, and not its schema.
            self.cluster.psql(f"GRANT USAGE ON SCHEMA prism_crypt TO {role}", db=self.db)
            called, said = self.refused(role, functions)
            self.judge(f"{role} calls {len(functions)} functions that are not its own", f"not refused: {called}" if called else "", said if said.startswith("HUNG") else "")
        called, _ = self.refused("postgres", self.forbidden("nobody")[:40])
        self.assertGreater(len(called), 30, "control: a superuser is not refused")

    def test_each_kind_reads_and_writes_tables(self):
        tables = self.cluster.psql(TABLES, db=self.db).splitlines()
        views = {"prism_crypt.key_status", "prism_crypt.index_key_status", "prism_crypt.audit_log", "prism_crypt.progress"}
        for role in ROLES:
            self.cluster.psql(f"GRANT USAGE ON SCHEMA prism_crypt TO {role}", db=self.db)
            mine = {"prism_crypt.job_kind"} | (views if role in ("key_admin", "monitor") else {"prism_crypt.progress"} if role == "rotate" else set())
            rest = [t for t in tables if t not in mine and not t.endswith("_seq")]
            self.way(f"{role} reads tables", role, "".join(f"SELECT 'read', '{t}' FROM {t} LIMIT 1;\n" for t in rest), says("^read"))
            self.way(f"{role} reads the keys by the type that carries them", role,
                     "SELECT ''::prism_crypt.key_rows; SELECT to_jsonb(k) FROM prism_crypt.carried_keys AS k; SELECT format('%s', ''::prism_crypt.key_rows)", says("wrapped"))
            self.way(f"{role} writes to tables", role, "".join(
                f"UPDATE {t} SET ({c}) = ROW({c}) RETURNING 'written';\nDELETE FROM {t} RETURNING 'written';\n" for t, c in (
                    ("prism_crypt.data_key", "version"), ("prism_crypt.index_key", "keyset"), ("prism_crypt.keyset", "name"), ("prism_crypt.job", "state"), ("prism_crypt.audit_log", "id"),
                    ("prism_crypt.carried_key", "version"), ("prism_crypt.data_key_usage", "version"))) + "TRUNCATE prism_crypt.audit_log; SELECT 'written' WHERE false;", says("^written"))
            self.way(f"{role} brings keys along", role, """SELECT '[{"version": 77, "keyset": "default", "state": "active", "wrapped": "00", "master_fingerprint": "x"}]'::prism_crypt.key_rows""",
                     says("^77$"), after="SELECT version FROM prism_crypt.carried_key")
            self.way(f"{role} makes objects in the schema", role, "CREATE FUNCTION prism_crypt.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE prism_crypt.t (i int); CREATE PROCEDURE prism_crypt.rotate_batch(text) LANGUAGE sql AS 'SELECT 1'",
                     says("^(function|table) made"), after="SELECT 'function made' FROM pg_proc WHERE proname = 'f'; SELECT 'table made' FROM pg_class WHERE relname = 't'; SELECT 'function made' FROM pg_proc WHERE oid = to_regprocedure('prism_crypt.rotate_batch(text)')")
        self.control("a superuser reads tables", "postgres", "SELECT 'read' FROM prism_crypt.data_key", says("^read"))
        self.control("a superuser reads the keys", "postgres", "SELECT ''::prism_crypt.key_rows", says("wrapped"))

    def test_keys_by_what_runs_as_a_superuser(self):
        """The type that carries the wrapped keys shows them to nobody through another's function, and takes none there."""
        self.cluster.psql("""CREATE FUNCTION generic(v anyelement) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN to_jsonb(v)::text || format('%s', v); END $$;
            CREATE TABLE audit (what text); GRANT SELECT ON audit TO PUBLIC;
            CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN INSERT INTO public.audit VALUES (to_jsonb(NEW)::text); RETURN NEW; END $$;
            CREATE FUNCTION filled(t anyelement, j jsonb) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN jsonb_populate_record(t, j)::text; END $$;
            GRANT USAGE ON SCHEMA prism_crypt TO nobody; GRANT USAGE ON TYPE prism_crypt.key_rows TO nobody""", db=self.db)
        shown = says("wrapped.{0,20}[0-9a-f]{40}")
        key = '[{"version": 78, "keyset": "default", "state": "active", "wrapped": "00", "master_fingerprint": "x"}]'
        for name, script, goal, after in (
            ("a generic function", "SELECT generic(''::prism_crypt.key_rows)", shown, ""), ("a generic function over a row", "CREATE TYPE pg_temp.r AS (k prism_crypt.key_rows); SELECT generic(ROW('')::pg_temp.r)", shown, ""),
            ("an audit trigger", "CREATE TEMP TABLE t (k prism_crypt.key_rows); CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION audited(); INSERT INTO t VALUES (''); TABLE audit", shown, ""),
            ("a function that fills a row", f"CREATE TEMP TABLE t (k prism_crypt.key_rows); SELECT filled(NULL::t, jsonb_build_object('k', '{key}'))", says("^78$"), "SELECT version FROM prism_crypt.carried_key"),
        ):
            self.way(f"the wrapped keys by {name}", "nobody", script, goal, after=after, undo="TRUNCATE prism_crypt.carried_key, audit")
        self.control("a superuser is shown them", "postgres", "SELECT ''::prism_crypt.key_rows", shown)

    def test_helpers_change_and_reveal_nothing(self):
        """Every function of a kind but those that are there to change something, with arguments that point at others' things."""
        job, range_id = self.cluster.psql("SELECT job, id FROM prism_crypt.job_range LIMIT 1", db=self.db).split("|")
        value = self.cluster.psql("SELECT v::text FROM (SELECT encode(name::bytea, 'hex') FROM victim WHERE id = 2) AS x (v)", db=self.db)
        fits = {"bigint": [job, range_id, "1"], "regclass": ["'public.victim'::regclass"], "regclass[]": ["ARRAY['public.victim'::regclass]"], "integer": ["1"], "text": ["'rotation'", "'default'", "'finished'"],
                "name": ["'name'"], "boolean": ["true"], "double precision": ["0.01"], "tid": ["'(10,1)'::tid"], "tid[]": ["ARRAY['(0,1)'::tid]"], "encrypted_text": ["(SELECT name FROM public.victim WHERE id = 2)"],
                "bytea": [f"'\\x{value}'::bytea"], "oid": ["'public.victim'::regclass::oid"], "interval": ["'1s'::interval"], "anyelement": ["(SELECT ROW(name, email) FROM public.victim WHERE id = 2)"]}
        meant = {"rotate": {"pause_job", "resume_job", "cancel_job", "rotate_batch", "rotate_all"}, "search": set(), "mask": {"mask_field"}, "load": set(), "monitor": set(),
                 # Open to everybody.
                 "nobody": set()}
        self.cluster.psql("GRANT USAGE ON SCHEMA prism_crypt TO nobody", db=self.db)
        look = self.session(self.db)
        for kind, skipped in meant.items():
            before = look.run(KEPT + ";")
            helpers = self.helpers(kind)
            for function in (f for f in self.functions() if f["oid"] in helpers and f["name"] not in skipped):
                types = [t for t in function["types"].split(";") if t]
                calls = "".join(self.call(function, ", ".join(fits[t][n % len(fits[t])] if t in fits else f"NULL::{t}" for t in types)) for n in range(3))
                said = self.run_as(kind, f"SET statement_timeout = '2s'; {calls}")
                after = look.run(KEPT + ";")
                changed = [a.split("|")[0] for a, b in zip(before.splitlines(), after.splitlines()) if a != b]
                self.judge(f"{kind} calls {function['signature']}", f"changed: {changed}" if changed else "it shows the secret" if shows_secret(said) else "", said)
                before = after

    def test_default_privileges(self):
        """Of before CREATE EXTENSION, and of before a restore."""
        for name in ("before CREATE EXTENSION", "before a restore"):
            db = self.cluster.create_db(name)
            self.cluster.psql(DEFAULTS, db=db)
            try:
                self.cluster.psql("CREATE EXTENSION prism_crypt; SELECT prism_crypt.rotate_key()" if "CREATE" in name else self.cluster.run(["pg_dump", "--exclude-table=victim"], db=self.db).stdout, db=db)
                left = self.cluster.psql(OTHERS_GRANTS, db=db)
                self.judge(f"grants of default privileges {name}", f"left: {left[:300]}" if left else "")
                called, _ = self.refused("nobody", self.forbidden("nobody"), db=db)
                self.judge(f"calls by default privileges {name}", f"{len(called)} not refused" if called else "")
                self.way(f"reads keys by default privileges {name}", "nobody", "SELECT 'read' FROM prism_crypt.data_key; UPDATE prism_crypt.data_key SET state = 'destroyed' RETURNING 'read'", says("^read"), db=db)
            finally:
                self.cluster.psql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def test_overloads(self):
        """A procedure that fits better than ours does not catch the documented call, and can't be made in our schema."""
        self.cluster.psql("""CREATE TABLE rotated AS SELECT id, name FROM victim; SET ROLE owner; CREATE TABLE caught (who text); GRANT INSERT ON caught TO PUBLIC;
            CREATE PROCEDURE public.rotate_batch(text) LANGUAGE sql AS 'INSERT INTO public.caught VALUES (current_user)';
            CREATE PROCEDURE public.rotate_batch(unknown_type text, "column" text) LANGUAGE sql AS 'INSERT INTO public.caught VALUES (current_user)'""", db=self.db)
        self.addCleanup(self.cluster.psql, "DROP PROCEDURE public.rotate_batch(text), public.rotate_batch(text, text); DROP TABLE caught, rotated", db=self.db)
        self.way("an overload of rotate_batch", "postgres", "CALL prism_crypt.rotate_batch('rotated'); CALL prism_crypt.rotate_batch('rotated', 'name')", says("^postgres"), after="SELECT who FROM caught")
        self.control("the documented call does its work", "postgres", "CALL prism_crypt.rotate_batch('rotated')", says("^0$"), after="SELECT count(*) FROM rotated WHERE key_version(name) = 1")
        self.control("an unqualified call is caught", "postgres", "CALL rotate_batch('rotated')", says("^postgres"), after="SELECT who FROM caught")


if __name__ == "__main__":
    unittest.main()
