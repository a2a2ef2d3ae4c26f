"""Every function and procedure, with the smallest, largest and strangest values of each parameter, one at a time."""

import re
import subprocess
import unittest

from harness import paths
from harness.scenario import Scenario

OIDS = ["0", "4294967295"]
TEXTS = ["''", "repeat('x', 1048576)", "'ж€\U0001f600'", "'%s %n \\ '' \"'"]
ARRAYS = ["'{}'", "'{NULL}'"]
# SQL of what each type is tried with, beside NULL.
EXTREMES = {
    "boolean": ["false", "true"],
    "smallint": ["-32768", "0", "32767"],
    "integer": ["-2147483648", "-1", "0", "600000000", "2147483647"],
    "bigint": ["-9223372036854775808", "-1", "0", "9223372036854775807"],
    "numeric": ["0", "-1e130000", "1e130000", "'NaN'", "'Infinity'"],
    "double precision": ["'NaN'", "'Infinity'", "'-Infinity'", "'1.7976931348623157e308'", "'-1.7976931348623157e308'", "'5e-324'", "0"],
    "interval": ["'-178000000 years'", "'178000000 years'", "'0'"],
    "timestamp with time zone": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'294276-12-31'"],
    "text": TEXTS,
    "character varying": TEXTS, "character": TEXTS, "cstring": TEXTS,
    "bytea": ["''", r"'\x00'", r"'\x01000000000001'", "decode(repeat('ff', 1048576), 'hex')"],
    "name": ["''", "repeat('x', 63)", "'ж'"],
    '"char"': ["''", "'x'"],
    "oid": OIDS, "regclass": OIDS, "regrole": OIDS, "regtype": OIDS, "regprocedure": OIDS, "regproc": OIDS,
    "tid": ["'(0,0)'", "'(4294967295,65535)'", "'(4294967294,1)'"],
    "xid": ["'0'", "'4294967295'"],
    "uuid": ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
    "bigint[]": [*ARRAYS, "ARRAY[-9223372036854775808, 9223372036854775807]"],
    "text[]": [*ARRAYS, "ARRAY['']"],
    "character varying[]": [*ARRAYS, "ARRAY['']"], "encrypted_text[]": [*ARRAYS, "ARRAY[repeat('x', 1048576), NULL]"],
    "encrypted_text_array": ["'{}'::encrypted_text[]", "'{{a,NULL},{b,c}}'::encrypted_text[]", "'x'"],
    "encrypted_text_texts": ["'{}'::text[]", "'{NULL}'::text[]", "'{{a,NULL},{b,c}}'::varchar[]", "array_fill(''::text, ARRAY[100000])", "'x'"],
    "name[]": ARRAYS, "tid[]": [*ARRAYS, "ARRAY['(4294967295,65535)'::tid]"], "regclass[]": [*ARRAYS, "ARRAY[0, 4294967295]::regclass[]"],
    "bytea[]": [*ARRAYS, r"ARRAY[NULL, '\x01']::bytea[]"],
    "aclitem[]": ["'{}'", "'{postgres=r/postgres}'"],
    "smallint[]": [*ARRAYS, "ARRAY[-32768, 0, 32767]::smallint[]"],
    "oid[]": [*ARRAYS, "ARRAY[0, 4294967295]::oid[]"],
    "cstring[]": [*ARRAYS, "ARRAY['email', 'searchable', 'x', '']::cstring[]", "ARRAY[repeat('x', 1048576)]::cstring[]"],
    "anyelement": ["1", "'{}'::encrypted_text[]", "ROW(1, 'x'::encrypted_text)", "''::text", "'{}'::int[]"],
    '"any"': ["1", "''::text", "ROW(1, 'x'::encrypted_text)"],
    "anyarray": ["'{}'::int[]", "ARRAY[NULL]::encrypted_text[]"],
    "record": ["ROW()", "ROW(1, 'x'::encrypted_text)"],
    "encrypted_text": ["''", "repeat('x', 1048576)::text"],
    "jsonb": ["'null'", "'[]'", "'1'", """'{"from_version": 99999999999, "keyset": 1}'""", """'{"keyset": {}, "key_version_column": []}'"""],
    "prism_crypt.key_rows": ["''", "'x'", "'[]'", "'[{}]'", """'[{"version": 99999999999}]'""", """'[{"version": 0, "keyset": "", "state": "x", "wrapped": "0", "master_fingerprint": ""}]'"""],
}
if paths.PG_MAJOR >= 17:
    EXTREMES["interval"] += ["'infinity'", "'-infinity'"]
# A plain value of each type, and of parameters by name.
VALID = {
    "boolean": "false", "smallint": "1", "integer": "1", "bigint": "1", "double precision": "1000", "interval": "'1 day'",
    "timestamp with time zone": "now()", "text": "'x'", "character varying": "'x'", "character": "'x'", "cstring": "'x'", "bytea": "encrypt_bytes('x')", "name": "'v'", '"char"': "'r'",
    "oid": "'t'::regclass", "regclass": "'t'", "regrole": "'postgres'", "regtype": "'text'", "regprocedure": "'now()'", "tid": "'(0,1)'",
    "character varying[]": "ARRAY['x']", "encrypted_text[]": "ARRAY['x']",
    "encrypted_text_array": "ARRAY['x']::encrypted_text[]", "encrypted_text_texts": "ARRAY['x', NULL]",
    "text[]": "ARRAY['x']", "name[]": "ARRAY['v']", "tid[]": "ARRAY['(0,1)'::tid]", "regclass[]": "ARRAY['t']::regclass[]", "oid[]": "ARRAY['t'::regclass]::oid[]",
    "cstring[]": "ARRAY['email']::cstring[]", "prism_crypt.key_rows": "''", "anyelement": "ARRAY['x'::encrypted_text]", "anyarray": "ARRAY['x'::encrypted_text]", '"any"': "'x'::encrypted_text",
    "record": "ROW(1)", "encrypted_text": "'a'", "xid": "'3'", "regproc": "'now'",
    "uuid": "gen_random_uuid()", "aclitem[]": "'{=r/postgres}'", "bytea[]": "ARRAY['x']::bytea[]", "bigint[]": "ARRAY[1]", "smallint[]": "ARRAY[1]::smallint[]", "jsonb": "'{}'",
}
BY_NAME = {
    "keyset": "'default'", "name": "'fresh'", "access": "'decrypt'", "class": "'email'", "context": "NULL", "batch_size": "10", "pause": "NULL",
    "key_version_column": "NULL", "keep": "true", "table_name": "'public.t'", "state": "'running'", "seconds": "0", "max_batches": "1", "typmod": "-1", "version": "1",
    "from_version": "NULL", "reason": "'a test'", "text_form": "encrypt_field('x')::encrypted_text::cstring::text", "role": "'postgres'", "note": "prism_crypt._note_caller()",
}
# Never, whatever is called and however.
NEVER = {"XX000", "crash", "57014", "57P01", "57P02", "57P03"}
# From inside: the caller is to hear which parameter is wrong. Internal functions are called by ours only, or by hand.
FROM_INSIDE = {"22003", "22008", "22012", "42601", "42804", "42883"}


class ArgumentExtremes(Scenario):
    preload = True
    # A million bytes of text in each statement need not be in the log.
    conf = {"log_statement": "'none'", "log_min_duration_statement": "-1", "log_min_error_statement": "'panic'", "fsync": "off"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.db = cls.database("extremes")
        cls.cluster.psql("""
            CREATE TABLE t (id int PRIMARY KEY, v encrypted_text, s encrypted_text('email', 'searchable'), a encrypted_text[]);
            CREATE INDEX ON t (s encrypted_text_unique_ops);
            INSERT INTO t SELECT i, 'v' || i, 's' || i, ARRAY['a', NULL] FROM generate_series(1, 20) AS i;
            SELECT prism_crypt.rotate_key();""", db=cls.db)

    def routines(self):
        """(oid, name as SQL, whether it is a procedure, [(name, type) of each parameter]) of all that SQL can call."""
        rows = self.cluster.psql(r"""
            SELECT p.oid, format('%I.%I', n.nspname, p.proname), p.prokind = 'p', coalesce((
                SELECT string_agg(coalesce(p.proargnames[a.place], '') || '=' || format_type(a.type, NULL), '|' ORDER BY a.place)
                FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, place)), '')
            FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
            JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
            JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'prism_crypt'
            WHERE p.prokind IN ('f', 'p') AND p.proargtypes::oid[] && ARRAY['internal'::regtype::oid] IS FALSE
            ORDER BY 2, 1""".replace("\n", " "), db=self.db)
        found = []
        for row in rows.splitlines():
            oid, name, procedure, parameters = re.match(r"(\d+)\|(.*?)\|([tf])\|(.*)$", row).groups()
            pairs = [tuple(p.split("=", 1)) for p in parameters.split("|")] if parameters else []
            found.append((oid, name, procedure == "t", pairs))
        return found

    @staticmethod
    def valid(name, type):
        value = BY_NAME.get(name, VALID.get(type))
        return f"({value})::{type}" if value is not None and not type.strip('"').startswith("any") and type != "record" else value or f"NULL::{type}"

    @staticmethod
    def extremes(type):
        polymorphic = type.strip('"').startswith("any") or type == "record"
        if polymorphic:
            return ["NULL::encrypted_text[]", *EXTREMES[type]]
        if type.startswith("prism_crypt._") or type in ("prism_crypt.data_key", "prism_crypt.job", "prism_crypt.job_kind", "prism_crypt.job_range", "prism_crypt.job_worker", "prism_crypt.migration", "pg_class", "pg_trigger"):
            return [f"NULL::{type}", f"jsonb_populate_record(NULL::{type}, '{{}}')"] if not type.endswith("[]") else [f"NULL::{type}", f"'{{}}'::{type}"]
        return [f"NULL::{type}", *(f"({value})::{type}" for value in EXTREMES[type])]

    def calls(self):
        """Name, parameter and statement of each call."""
        for _, name, is_procedure, parameters in self.routines():
            plain = [self.valid(*parameter) for parameter in parameters]
            tried = [("", plain)]
            for place, (parameter, type) in enumerate(parameters):
                for value in self.extremes(type):
                    tried.append((parameter or f"${place + 1}", [*plain[:place], value, *plain[place + 1:]]))
            for parameter, arguments in tried:
                call = f"{name}({', '.join(arguments)})"
                yield name, parameter, f"CALL {call};" if is_procedure else f"BEGIN; SELECT {call}; ROLLBACK;"

    def errors(self, calls):
        """(name, parameter, statement, SQLSTATE, message) of each error."""
        script = ["\\set VERBOSITY verbose", "\\o /dev/null", "SET statement_timeout = '20s';", "SET client_min_messages = error;"]
        for number, (_, _, statement) in enumerate(calls):
            script += [f"\\warn @@{number}", statement, "ROLLBACK;" if statement.startswith("CALL") else ""]
        done = subprocess.run(
            [str(paths.bindir() / "psql"), "-XAtq"], input="\n".join(script), text=True, capture_output=True,
            env=self.cluster.env(db=self.db, PGOPTIONS="-c client_min_messages=error"), errors="replace")
        found = []
        for number, text in re.findall(r"^@@(\d+)\n(.*?)(?=^@@|\Z)", done.stderr, flags=re.M | re.S):
            for code, message in re.findall(r"(?:ERROR|FATAL|PANIC):  (\w{5}): (.{0,300})", text):
                found.append((*calls[int(number)], code, message))
            if "connection" in text and "server" in text:
                found.append((*calls[int(number)], "crash", text[:300]))
        return found

    def test_each_parameter_of_each_routine(self):
        calls = list(self.calls())
        self.assertGreater(len({name for name, _, _ in calls}), 100)
        postmaster = self.cluster.psql("SELECT pg_postmaster_start_time()", db=self.db)
        errors = self.errors(calls)
        told = "\n".join(
            f"{code} {name}({parameter}): {message[:160]}\n    {statement[:300]}" for name, parameter, statement, code, message in errors
            if code in NEVER or "internal error" in message
            or code in FROM_INSIDE and not name.split(".")[1].startswith("_"))
        self.assertFalse(told, told)
        # Most are refused, but the plain values are what the routines are for.
        self.assertGreater(len(calls), len(errors) + 300)
        self.assertEqual(self.cluster.psql("SELECT pg_postmaster_start_time()", db=self.db), postmaster)
        log = self.cluster.log()
        for trace in ("terminated by signal", "PANIC", "internal error", "TRAP:"):
            self.assertNotIn(trace, log)
        left = self.cluster.psql("SELECT id, state, target FROM prism_crypt.progress WHERE state IN ('interrupted', 'running')", db=self.db)
        self.assertEqual(left, "")

    def test_limits_out_of_range(self):
        for call in ("rotate_batch('t', {})", "prism_crypt.rotate_all({})", "prism_crypt.rotate_index_key({})"):
            for limit in ("batch_size => 600000000", "batch_size => 2147483647", "pause => '100 years'", "pause => '-1 s'",
                          "max_rows_per_second => 'Infinity'", "max_rows_per_second => 5e-324", "max_rows_per_second => 'NaN'", "max_replica_lag => -1"):
                with self.subTest(call=call, limit=limit):
                    error = self.cluster.error(f"CALL {call.format(limit)}", db=self.db)
                    self.assertEqual(error.sqlstate, "22023")
                    self.assertTrue(error.message.startswith(limit.split()[0] + " must be between "), error.message)
        self.assertEqual(self.cluster.psql("SELECT count(*) FROM prism_crypt.progress WHERE state = 'interrupted'", db=self.db), "0")
        # The largest that is allowed works.
        self.cluster.psql("CALL rotate_batch('t', batch_size => 1000000, max_rows_per_second => 1e9, pause => '0', max_replica_lag => 9223372036854775807, "
                          "max_batches => 2147483647)", db=self.db)
        self.cluster.psql("SELECT * FROM prism_crypt.plan_rotation(1000000)", db=self.db)


if __name__ == "__main__":
    unittest.main()
