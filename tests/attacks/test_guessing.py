"""Whoever has not the right to search learns nothing about a guess: whatever he asks, the answers to a right and to a wrong one are alike."""

import base64
import re
import unittest

from harness import paths
from ways import SECRET, Attack, says, secret_rows

WRONG = "kowari.4712.dunnart"
WHO = ("nobody", "mask", "load", "monitor", "key_admin", "rotate")
SCHEMA = """
    SET ROLE doctor;
    CREATE TABLE patients (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email', 'searchable'), names encrypted_text[], emails encrypted_text('searchable')[]);
    CREATE TYPE names AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops); CREATE TYPE pair AS (a encrypted_text, b int); CREATE DOMAIN named AS encrypted_text;
    RESET ROLE;
""" + secret_rows("patients", rows=[(str(n), f"somebody {n}") for n in range(10, 60)] + [("2", SECRET)]) + """
    UPDATE patients SET email = name, names = ARRAY[name], emails = ARRAY[name]::encrypted_text('searchable')[];
    CREATE UNIQUE INDEX ON patients (email encrypted_text_unique_ops); CREATE INDEX ON patients USING hash (email); CREATE INDEX ON patients USING hash (name);
    ANALYZE patients;
    GRANT SELECT, INSERT, UPDATE ON patients TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC;
"""
# {g}: the guess, as a literal. Each is asked with the right one and with a wrong one.
ASKED = {
    "= with a literal": "SELECT count(*) FROM patients WHERE email = {g}", "= with text": "SELECT count(*) FROM patients WHERE email = {g}::text", "<>": "SELECT count(*) FROM patients WHERE email <> {g}::text",
    "= without a tag": "SELECT count(*) FROM patients WHERE name = {g}", "= with an encrypted guess": "SELECT count(*) FROM patients WHERE name = encrypt_field({g})", "= with name": "SELECT count(*) FROM patients WHERE email = {g}::name",
    "= with varchar": "SELECT count(*) FROM patients WHERE {g}::varchar = email", "IN": "SELECT count(*) FROM patients WHERE email IN ({g}, 'x')", "ANY": "SELECT count(*) FROM patients WHERE email = ANY (ARRAY[{g}]::text[])",
    "ANY of encrypted": "SELECT count(*) FROM patients WHERE name = ANY (ARRAY[encrypt_field({g})])", "ALL": "SELECT count(*) FROM patients WHERE email <> ALL (ARRAY[{g}]::text[])", "of its array": "SELECT count(*) FROM patients WHERE {g}::text = ANY (names)",
    "IS DISTINCT FROM": "SELECT count(*) FROM patients WHERE name IS DISTINCT FROM encrypt_field({g})", "NULLIF": "SELECT count(nullif(name, encrypt_field({g}))) FROM patients", "CASE": "SELECT count(CASE name WHEN encrypt_field({g}) THEN 1 END) FROM patients",
    "a row": "SELECT count(*) FROM patients WHERE (name, 1) = (encrypt_field({g}), 1)", "record_eq": "SELECT count(*) FROM patients WHERE record_eq(ROW(name), ROW(encrypt_field({g})))", "record_image_eq": "SELECT count(*) FROM patients WHERE record_image_eq(ROW(name), ROW(encrypt_field({g})))",
    "a row IN": "SELECT count(*) FROM patients WHERE (name, id) IN (SELECT encrypt_field({g}), 2)", "record_ne": "SELECT count(*) FROM patients WHERE ROW(name) <> ROW(encrypt_field({g}))", "record_lt": "SELECT count(*) FROM patients WHERE record_lt(ROW(name), ROW(encrypt_field({g})))",
    "hash_record": "SELECT count(*) FROM patients WHERE hash_record(ROW(name)) = hash_record(ROW(encrypt_field({g})))", "hash_array": "SELECT count(*) FROM patients WHERE hash_array(names) = hash_array(ARRAY[encrypt_field({g})])", "array_eq": "SELECT count(*) FROM patients WHERE names = ARRAY[encrypt_field({g})]",
    "@>": "SELECT count(*) FROM patients WHERE names @> ARRAY[encrypt_field({g})]", "<@": "SELECT count(*) FROM patients WHERE ARRAY[encrypt_field({g})] <@ names", "&&": "SELECT count(*) FROM patients WHERE names && ARRAY[encrypt_field({g})]", "array_position": "SELECT count(array_position(names, encrypt_field({g}))) FROM patients",
    "array_positions": "SELECT sum(cardinality(array_positions(names, encrypt_field({g})))) FROM patients", "array_remove": "SELECT sum(cardinality(array_remove(names, encrypt_field({g})))) FROM patients", "array_replace": "SELECT count(*) FROM patients WHERE array_replace(names, encrypt_field({g}), NULL)::text LIKE '%NULL%'",
    "DISTINCT": "SELECT count(*) FROM (SELECT DISTINCT name FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x) AS y", "GROUP BY": "SELECT max(n) FROM (SELECT count(*) AS n FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x GROUP BY name) AS y",
    "UNION": "SELECT count(*) FROM (SELECT name FROM patients UNION SELECT encrypt_field({g})) AS x", "INTERSECT": "SELECT count(*) FROM (SELECT name FROM patients INTERSECT SELECT encrypt_field({g})) AS x", "EXCEPT": "SELECT count(*) FROM (SELECT name FROM patients EXCEPT SELECT encrypt_field({g})) AS x",
    "DISTINCT of rows": "SELECT count(*) FROM (SELECT DISTINCT ROW(name) FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x) AS y", "DISTINCT of arrays": "SELECT count(*) FROM (SELECT DISTINCT ARRAY[name] FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x) AS y",
    "a hash join": "SELECT count(*) FROM patients AS p JOIN (VALUES (encrypt_field({g}))) AS v (x) ON p.name = v.x", "a join of tags": "SELECT count(*) FROM patients AS p JOIN (VALUES ({g}::text::encrypted_text('searchable'))) AS v (x) ON p.email = v.x", "a join with text": "SELECT count(*) FROM patients AS p JOIN (VALUES ({g}::text)) AS v (x) ON p.email = v.x",
    "a merge join of rows": "SET enable_hashjoin = off; SET enable_nestloop = off; SELECT count(*) FROM (SELECT ROW(name) AS r FROM patients) AS p JOIN (SELECT ROW(encrypt_field({g})) AS r) AS v USING (r)", "a nested loop by the index": "SET enable_seqscan = off; SET enable_hashjoin = off; SELECT count(*) FROM (VALUES (encrypt_field({g}))) AS v (x) JOIN patients AS p ON p.email = v.x",
    "ORDER BY USING rows": "SELECT position(id::text in string_agg(id::text, ',')) FROM (SELECT id FROM (SELECT id, name FROM patients UNION ALL SELECT 0, encrypt_field({g})) AS x ORDER BY ROW(name)) AS y GROUP BY id", "IS NOT DISTINCT of arrays": "SELECT count(*) FROM patients WHERE names IS NOT DISTINCT FROM ARRAY[encrypt_field({g})]",
    "a window": "SELECT max(n) FROM (SELECT count(*) OVER (PARTITION BY name) AS n FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x) AS y", "count DISTINCT of rows": "SELECT count(DISTINCT ROW(name)) FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x", "a hashed subplan": "SELECT count(*) FROM patients WHERE name IN (SELECT encrypt_field({g}))",
    "mode() of rows": "SELECT mode() WITHIN GROUP (ORDER BY ROW(name)) IS NULL FROM (SELECT name FROM patients UNION ALL SELECT encrypt_field({g})) AS x", "a range": "SELECT count(*) FROM patients WHERE names(name, name, '[]') @> encrypt_field({g})", "ranges that overlap": "SELECT count(*) FROM patients WHERE names(name, name, '[]') && names(encrypt_field({g}), NULL)",
    "a range's bounds": "SELECT count(names(name, encrypt_field({g}))) FROM patients WHERE id = 2", "a multirange": "SELECT count(*) FROM patients WHERE names_multirange(names(name, name, '[]')) @> encrypt_field({g})", "a composite": "SELECT count(*) FROM patients WHERE ROW(name, 1)::pair = ROW(encrypt_field({g}), 1)::pair",
    "a domain": "SELECT count(*) FROM patients WHERE name::named = encrypt_field({g})::named", "blind_index": "SELECT blind_index({g}, 'email')", "the comparison function": "SELECT count(*) FROM patients WHERE encrypted_text_cmp(name, encrypt_field({g})) = 0", "the hash function": "SELECT count(*) FROM patients WHERE encrypted_text_hash(name) = encrypted_text_hash(encrypt_field({g}))",
    "the usual equality": "SELECT count(*) FROM patients WHERE encrypted_text_eq(name, encrypt_field({g}))", "satisfies_hash_partition": "CREATE TEMP TABLE h (v encrypted_text) PARTITION BY HASH (v); SELECT satisfies_hash_partition('h'::regclass, 97, n, encrypt_field({g})) FROM generate_series(0, 96) AS n",
    "a search tag": "SELECT count(*) FROM patients AS p WHERE encode(p.email::bytea, 'hex') LIKE '%' || substr(encode({g}::text::encrypted_text('email', 'searchable')::bytea, 'hex'), 39, 34) || '%'",
    "a tag by a literal": "SELECT {g}::encrypted_text('email', 'searchable')", "a tag by INSERT": "CREATE TEMP TABLE t (v encrypted_text('email', 'searchable')); INSERT INTO t VALUES ({g}); SELECT v FROM t", "a tag by COPY": "CREATE TEMP TABLE t (v encrypted_text('email', 'searchable'));\nCOPY t FROM STDIN;\n{raw}\n\\.\nSELECT v FROM t",
    "a tag by jsonb": "CREATE TEMP TABLE t (v encrypted_text('email', 'searchable')); SELECT v FROM jsonb_populate_record(NULL::t, jsonb_build_object('v', {g}))", "a tag by a domain": "CREATE DOMAIN d AS encrypted_text('email', 'searchable'); SELECT {g}::text::d; SELECT {g}::d",
    "a tag by reencrypting": "SELECT encrypted_text(encrypt_field({g}), atttypmod, true) FROM pg_attribute WHERE attrelid = 'patients'::regclass AND attname = 'email'", "a tag by an array": "SELECT ARRAY[{g}]::text[]::encrypted_text('email', 'searchable')[]",
    "a tag by EXPLAIN": "EXPLAIN (VERBOSE) SELECT 1 FROM patients WHERE email = {g}", "a tag by EXPLAIN of text": "EXPLAIN (VERBOSE) SELECT 1 FROM patients WHERE email = {g}::text", "a tag by EXPLAIN of an array": "EXPLAIN (VERBOSE) SELECT 1 FROM patients WHERE email = ANY (ARRAY[{g}])",
    "a tag by a view": "CREATE TEMP VIEW w AS SELECT 1 AS one FROM patients WHERE email = {g}; SELECT pg_get_viewdef('w'::regclass)", "a tag by a default": "CREATE TEMP TABLE t (v encrypted_text('email', 'searchable') DEFAULT {g}); INSERT INTO t DEFAULT VALUES; SELECT v FROM t", "a tag by ALTER TABLE": "CREATE TEMP TABLE t (v text); INSERT INTO t VALUES ({g}); ALTER TABLE t ALTER v TYPE encrypted_text('email', 'searchable'); SELECT v FROM t",
    "estimates": "EXPLAIN SELECT 1 FROM patients WHERE email = {g}::text", "estimates of encrypted": "EXPLAIN SELECT 1 FROM patients WHERE name = encrypt_field({g})", "a prepared statement": "PREPARE p (text) AS SELECT count(*) FROM patients WHERE email = $1; EXECUTE p ({g}); EXECUTE p ({g})",
    "a unique index of one's own": "CREATE TEMP TABLE u (v encrypted_text); CREATE UNIQUE INDEX ON u (v encrypted_text_unique_ops); INSERT INTO u SELECT name FROM patients; INSERT INTO u VALUES ({g})", "a unique index over copies": "CREATE TEMP TABLE u AS SELECT name AS v FROM patients UNION ALL SELECT encrypt_field({g}); CREATE UNIQUE INDEX ON u (v encrypted_text_unique_ops)",
    "an index of arrays": "CREATE TEMP TABLE u AS SELECT ARRAY[name] AS v FROM patients UNION ALL SELECT ARRAY[encrypt_field({g})]; CREATE UNIQUE INDEX ON u (v)", "an index of rows": "CREATE TEMP TABLE u (v pair); CREATE UNIQUE INDEX ON u (v); INSERT INTO u SELECT ROW(name, 1)::pair FROM patients; INSERT INTO u VALUES (ROW(encrypt_field({g}), 1))",
    "an exclusion constraint": "CREATE TEMP TABLE u (v encrypted_text, EXCLUDE USING hash (v WITH =)); INSERT INTO u SELECT name FROM patients; INSERT INTO u VALUES ({g})", "ON CONFLICT": "CREATE TEMP TABLE u (v encrypted_text); CREATE UNIQUE INDEX ON u (v encrypted_text_unique_ops); INSERT INTO u SELECT name FROM patients; INSERT INTO u VALUES ({g}) ON CONFLICT DO NOTHING RETURNING 1",
    "the table's own unique index": "BEGIN; INSERT INTO patients (id, email) VALUES (900, {g}); ROLLBACK", "the table's own, by UPDATE": "BEGIN; UPDATE patients SET email = {g} WHERE id = 10; ROLLBACK", "a foreign key": "CREATE TABLE f (v encrypted_text REFERENCES patients (email)); INSERT INTO f VALUES ({g}); DROP TABLE f", "MERGE": "MERGE INTO patients AS p USING (SELECT encrypt_field({g}) AS g) AS x ON p.name = x.g WHEN MATCHED THEN UPDATE SET id = p.id",
    "a hash partition": "CREATE TEMP TABLE h (v encrypted_text) PARTITION BY HASH (v); CREATE TEMP TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TEMP TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO h SELECT name FROM patients WHERE id = 2; INSERT INTO h VALUES ({g}); SELECT count(DISTINCT tableoid) FROM h",
    "a list partition": "CREATE TEMP TABLE l (v encrypted_text) PARTITION BY LIST (v encrypted_text_unique_ops); CREATE TEMP TABLE l1 PARTITION OF l FOR VALUES IN ({g}); INSERT INTO l SELECT name FROM patients WHERE id = 2", "a CHECK": "CREATE TEMP TABLE c (v encrypted_text CHECK (v <> {g})); INSERT INTO c SELECT name FROM patients WHERE id = 2",
    "a domain's CHECK": "CREATE DOMAIN pg_temp.d AS encrypted_text CHECK (VALUE <> {g}::text); SELECT count(name::pg_temp.d) FROM patients", "a policy": "CREATE TABLE r AS SELECT name FROM patients; ALTER TABLE r ENABLE ROW LEVEL SECURITY; ALTER TABLE r FORCE ROW LEVEL SECURITY; CREATE POLICY p ON r USING (name = encrypt_field({g})); SELECT count(*) FROM r; DROP TABLE r",
    "a trigger's WHEN": "CREATE TEMP TABLE t (v encrypted_text); CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'equal'; RETURN NEW; END $$; CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.v = {g}::text) EXECUTE FUNCTION pg_temp.f(); INSERT INTO t SELECT name FROM patients",
    "statistics": "CREATE TEMP TABLE s AS SELECT name AS v FROM patients WHERE id = 2 UNION ALL SELECT encrypt_field({g}); ANALYZE s; SELECT n_distinct, most_common_vals IS NULL FROM pg_stats WHERE tablename = 's'", "statistics of arrays": "CREATE TEMP TABLE s AS SELECT names AS v FROM patients WHERE id = 2 UNION ALL SELECT ARRAY[encrypt_field({g})]; ANALYZE s; SELECT n_distinct, most_common_elems IS NULL FROM pg_stats WHERE tablename = 's'",
    "statistics of rows": "CREATE TEMP TABLE s AS SELECT ROW(name, 1)::pair AS v FROM patients WHERE id = 2 UNION ALL SELECT ROW(encrypt_field({g}), 1)::pair; ANALYZE s; SELECT n_distinct, most_common_vals IS NULL FROM pg_stats WHERE tablename = 's'", "suppressing updates": "BEGIN; UPDATE patients SET name = encrypt_field({g}) WHERE id = 2 AND name IS DISTINCT FROM encrypt_field({g}); ROLLBACK",
    "= in parallel": f"SET {paths.FORCE_PARALLEL} = on; " "SELECT count(*) FROM patients WHERE email = {g}::text", "memoize": "SET enable_hashjoin = off; SET enable_mergejoin = off; SELECT count(*) FROM (SELECT encrypt_field({g}) AS g FROM generate_series(1, 3)) AS x, LATERAL (SELECT count(*) FROM patients AS p WHERE ROW(p.name) = ROW(x.g)) AS y WHERE y.count > 0",
    "jsonb of values": "SELECT count(*) FROM patients WHERE to_jsonb(name) = to_jsonb(encrypt_field({g}))", "plaintext output": "SET prism_crypt.output = 'plaintext'; SELECT count(*) FROM patients WHERE to_jsonb(name) = to_jsonb({g}::text)", "width": "SELECT count(*) FROM patients AS p, envelope_info(p.name) AS a, envelope_info(encrypt_field({g})) AS b WHERE a.plaintext_bytes = b.plaintext_bytes AND p.id = 2",
}
ENVELOPE = re.compile(r"prism:v\d+:[A-Za-z0-9+/=]+")


class Guessing(Attack):
    schema = SCHEMA

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        header = cls.cluster.psql("SELECT email FROM patients WHERE id = 2", db=cls.db)
        # Offset and length of the keyed hash: docs/format.md.
        cls.tag = base64.b64decode(header.rpartition(":")[2])[20:36]

    def answer(self, role, script, guess):
        """What is said, without what differs from call to call; and whether it has the tag of the secret."""
        said = self.run_as(role, "BEGIN;\n\\set ON_ERROR_ROLLBACK on\n" + script.replace("{g}", f"'{guess}'").replace("{raw}", guess) + ";\nROLLBACK;\n")
        tagged = any(self.tag in base64.b64decode(e.rpartition(":")[2] + "==") for e in ENVELOPE.findall(said))
        return said, tagged, ENVELOPE.sub("(value)", said).replace(guess, "(guess)")

    def test_guesses(self):
        for number, (name, script) in enumerate(ASKED.items()):
            # Everybody asks some, and nobody asks all.
            for role in {"nobody", WHO[1 + number % (len(WHO) - 1)]}:
                said, tagged, right = self.answer(role, script, SECRET)
                _, _, wrong = self.answer(role, script, WRONG)
                self.judge(f"{name}, as {role}", "it gets the tag" if tagged else "right and wrong guesses differ" if right != wrong else "", f"right: {right[:900]}\nwrong: {wrong[:900]}" if not said.startswith("HUNG") else said)

    def test_the_check_sees_a_difference(self):
        for name in ("= with a literal", "record_eq", "a row", "array_position", "@>", "a hash join", "DISTINCT", "a unique index of one's own", "a foreign key", "an exclusion constraint", "blind_index", "a range", "ON CONFLICT"):
            said, _, right = self.answer("doctor", ASKED[name], SECRET)
            with self.subTest(control=name):
                self.assertNotEqual(right, self.answer("doctor", ASKED[name], WRONG)[2], said)
        for name in ("a tag by INSERT", "a tag by COPY", "a tag by a literal"):
            with self.subTest(control=name):
                self.assertTrue(self.answer("doctor", ASKED[name], SECRET)[1], "the tag is not seen")


if __name__ == "__main__":
    unittest.main()
