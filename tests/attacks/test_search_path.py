"""F27: a schema of somebody else's that comes first decides nothing in what runs with more rights than his."""

import unittest

from ways import Attack, says, secret_rows

TYPES = ["text", "int4", "int8", "bool", "name", "regclass", "oid", "tid", "float8", "bytea", "timestamptz", "interval", "\"char\""]
OPERATORS = ["=", "<>", "<", ">", "<=", ">=", "~~", "||", "+", "-", "*"]
RELATIONS = ["pg_class", "pg_proc", "pg_type", "pg_attribute", "pg_index", "pg_namespace", "pg_extension", "pg_depend", "pg_roles", "pg_locks", "pg_stat_activity", "pg_settings",
             "data_key", "index_key", "keyset", "job", "job_part", "audit_log", "pg_opclass", "pg_am", "pg_attrdef", "pg_constraint", "pg_database", "pg_stat_progress_create_index"]
FUNCTIONS = {"format": ["text", "text, text", "text, text, text"], "now": [""], "clock_timestamp": [""], "statement_timestamp": [""], "pg_backend_pid": [""], "quote_ident": ["text"], "lower": ["text"], "btrim": ["text"],
             "length": ["text"], "round": ["float8"], "current_setting": ["text", "text, bool"], "set_config": ["text, text, bool"], "pg_relation_size": ["regclass"], "to_regclass": ["text"], "pg_sleep": ["float8"],
             "format_type": ["oid, int4"], "pg_get_expr": ["pg_node_tree, oid"], "has_any_column_privilege": ["oid, oid, text"], "decrypt_field": ["encrypted_text", "encrypted_text, text"], "encrypt_field": ["text"],
             "key_version": ["encrypted_text"], "array_length": ["anyarray, int4"], "cardinality": ["anyarray"], "array_append": ["anyarray, anyelement"], "unnest": ["anyarray"], "string_to_array": ["text, text"], "array_to_string": ["anyarray, text"],
             "_encrypted_types": [""], "_encrypted_columns": [""], "_audit": ["text, text, int4, text, text"], "rotate_key": ["text, text"], "census": ["regclass"]}


def hostile(schema):
    """A schema with what PostgreSQL would look up: all of it writes down who runs it, and then does what is expected."""
    yield f"""CREATE TABLE {schema}.hits (who pg_catalog.text, what pg_catalog.text); GRANT ALL ON {schema}.hits TO PUBLIC; GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
        CREATE FUNCTION {schema}.hit(what pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO {schema}.hits VALUES (current_user, what); RETURN true; EXCEPTION WHEN OTHERS THEN RETURN true; END $f$;"""
    for number, type in enumerate(TYPES):
        for operator in OPERATORS:
            result = "pg_catalog.bool" if operator in OPERATORS[:7] else "pg_catalog.text"
            value = f"{schema}.hit('operator {operator} of {type}')" if operator in OPERATORS[:7] else f"(SELECT 'x'::pg_catalog.text WHERE {schema}.hit('operator {operator} of {type}'))"
            name = f"{schema}.o_{number}_{OPERATORS.index(operator)}"
            yield f"CREATE FUNCTION {name}(pg_catalog.{type}, pg_catalog.{type}) RETURNS {result} LANGUAGE sql AS $f$ SELECT {value} $f$;"
            yield f"CREATE OPERATOR {schema}.{operator} (LEFTARG = pg_catalog.{type}, RIGHTARG = pg_catalog.{type}, FUNCTION = {name});"
    for name, signatures in FUNCTIONS.items():
        for signature in signatures:
            arguments = ", ".join(f"pg_catalog.{a.strip()}" if "encrypted" not in a else "public.encrypted_text" for a in signature.split(",") if a.strip())
            yield f"CREATE FUNCTION {schema}.{name}({arguments}) RETURNS pg_catalog.text LANGUAGE plpgsql AS $f$ BEGIN PERFORM {schema}.hit('function {name}'); RETURN NULL; END $f$;"
    for relation in RELATIONS:
        yield f"CREATE VIEW {schema}.{relation} AS SELECT {schema}.hit('relation {relation}') AS oid; GRANT SELECT ON {schema}.{relation} TO PUBLIC;"


def domains(schema):
    """Types of the names that code uses for variables and casts: last, because the statements above would use them."""
    for type in TYPES:
        yield f"CREATE DOMAIN {schema}.{type} AS pg_catalog.{type} CHECK ({schema}.hit('type {type}') IS NOT NULL);"
    yield f"CREATE TYPE {schema}.record AS (a pg_catalog.int4); CREATE DOMAIN {schema}.encrypted_text AS public.encrypted_text CHECK ({schema}.hit('type encrypted_text') IS NOT NULL);"


SCHEMA = """
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable')); CREATE INDEX ON patients USING hash (email);
""" + secret_rows("patients") + """
    UPDATE patients SET email = name; CREATE TABLE parts (id int, name encrypted_text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100); INSERT INTO parts VALUES (1, 'x');
    GRANT SELECT, UPDATE, INSERT ON patients, parts TO PUBLIC; CREATE SCHEMA evil AUTHORIZATION owner; SELECT prism_crypt.create_keyset('other');
"""
# Every administrative call, with its names written out. Those that end a key come last.
CALLS = {
    "rotate_key": "SELECT prism_crypt.rotate_key(reason => 'x')", "create_keyset": "SELECT prism_crypt.create_keyset('third')", "rotate_batch": "CALL public.rotate_batch('public.patients')", "rotate_batch of a column": "CALL public.rotate_batch('public.parts', 'name', 10)",
    "rotate_all": "CALL prism_crypt.rotate_all(100)", "plan_rotation": "SELECT * FROM prism_crypt.plan_rotation(10)", "emergency_rotation": "SELECT * FROM prism_crypt.emergency_rotation('x')",
    "pause_job": "SELECT prism_crypt.pause_job((SELECT pg_catalog.max(id) FROM prism_crypt.progress))", "resume_job": "SELECT prism_crypt.resume_job((SELECT pg_catalog.max(id) FROM prism_crypt.progress))",
    "rotate_all of jobs": "CALL prism_crypt.rotate_all(max_rows_per_second => 100000)", "another emergency_rotation": "SELECT * FROM prism_crypt.emergency_rotation('y')", "cancel_job": "SELECT prism_crypt.cancel_job((SELECT pg_catalog.max(id) FROM prism_crypt.progress))", "progress": "TABLE prism_crypt.progress",
    "census": "SELECT * FROM prism_crypt.census()", "census of a table": "SELECT * FROM prism_crypt.census('public.patients')", "find_plaintext": "SELECT * FROM prism_crypt.find_plaintext()", "status": "SELECT * FROM prism_crypt.status()", "rotation_due": "SELECT * FROM prism_crypt.rotation_due()", "set_rotation_interval": "SELECT prism_crypt.set_rotation_interval('default', '1 day')",
    "views": "TABLE prism_crypt.key_status; TABLE prism_crypt.index_key_status; TABLE prism_crypt.audit_log", "disable_key and enable_key": "SELECT prism_crypt.disable_key(1, 'x'); SELECT prism_crypt.enable_key(1, 'x')", "rotate_master_key": "SELECT prism_crypt.rotate_master_key()",
    "rotate_index_key": "CALL prism_crypt.rotate_index_key('default')", "grant_access": "SELECT prism_crypt.grant_access('nobody', 'monitor')", "revoke_access": "SELECT prism_crypt.revoke_access('nobody', 'monitor')", "values": "SELECT public.decrypt_field(public.encrypt_field('x')), public.reencrypt_field(public.encrypt_field('x')), public.blind_index('x', 'c')",
    "destroy_key": "SELECT prism_crypt.destroy_key(1, 'x')", "destroy_key by force": "SELECT prism_crypt.destroy_key(3, 'x', true)", "destroy_keyset": "SELECT prism_crypt.destroy_keyset('other', 'x', true)",
}
# What each kind may call of it, with its own schema first.
OWN = {
    "key_admin": ["rotate_key", "create_keyset", "emergency_rotation", "census", "rotation_due", "views", "disable_key and enable_key", "rotate_master_key", "rotate_index_key", "destroy_key", "destroy_key by force", "destroy_keyset"],
    "monitor": ["census", "census of a table", "find_plaintext", "status", "rotation_due", "views", "progress"], "rotate": ["plan_rotation", "rotate_batch", "rotate_all", "pause_job", "resume_job", "cancel_job", "progress"],
}
LOOK = "SET search_path = pg_catalog; SELECT who, what, count(*) FROM evil.hits GROUP BY 1, 2; TRUNCATE evil.hits"
FOUND = says(r"^postgres\|")


class SearchPath(Attack):
    schema = SCHEMA

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cluster.psql("SET ROLE owner;" + "".join(hostile("evil")) + "".join(domains("evil")), db=cls.db)
        cls.cluster.psql(f"ALTER DATABASE {cls.db} SET search_path = evil, pg_catalog, public", user="db_owner", db=cls.db)

    def test_a_superuser(self):
        """The database's owner has put his schema first."""
        for name, call in CALLS.items():
            # What ends with an error because of his schema is stopped by it, and looked no further.
            self.way(f"his schema first: {name}, by a superuser", "postgres", call, says(r"^postgres\||^ERROR"), after=LOOK)
        for name, sql in (("an operator", "SELECT 'a'::pg_catalog.text = 'a'::pg_catalog.text"), ("a type", "SELECT 'a'::text"), ("a CASE", "SELECT CASE 'a'::pg_catalog.text WHEN 'a'::pg_catalog.text THEN 1 END"), ("a relation", "TABLE pg_class"), ("a function", "SELECT now()"),
                          ("PL/pgSQL", "DO $$ DECLARE x int4 = 1; BEGIN IF x IS DISTINCT FROM 2 THEN NULL; END IF; END $$")):
            self.control(f"his schema is found: {name}", "postgres", sql, FOUND, after=LOOK)

    def test_restricted_operations(self):
        for name, sql in (("ANALYZE", "ANALYZE public.patients"), ("VACUUM", "VACUUM public.patients"), ("REINDEX", "REINDEX TABLE public.patients"), ("COPY", "COPY public.patients TO STDOUT")):
            self.way(f"his schema first: {name}, by a superuser", "postgres", sql, FOUND, after=LOOK)
        # Statements are the DBA's own: only our functions count.
        self.way("his schema first: output", "postgres", "SET prism_crypt.output = 'plaintext'; TABLE public.patients", FOUND, after=LOOK)

    def test_those_who_call_what_runs_as_the_owner(self):
        for role, names in OWN.items():
            for name in names:
                self.way(f"{role} with a schema first: {name}", role, f"SET search_path = evil, pg_catalog, public; {CALLS[name]}", FOUND, after=LOOK)
            temporary = "".join(f"CREATE TEMP VIEW {relation} AS SELECT evil.hit('temporary {relation}') AS oid;" for relation in RELATIONS) + "".join(f"CREATE DOMAIN pg_temp.{t} AS pg_catalog.{t} CHECK (evil.hit('temporary type') IS NOT NULL);" for t in TYPES)
            for name in names:
                self.way(f"{role} with pg_temp first: {name}", role, f"SET search_path = pg_catalog, public; {temporary} SET search_path = pg_temp, pg_catalog, public; {CALLS[name]}", FOUND, after=LOOK)


if __name__ == "__main__":
    unittest.main()
