"""Tables and lines for COPYs that fail: by the type of the column, and by what is wrong with the line."""

from harness import canaries

EMAIL = canaries.PLAINTEXTS["email"]
ALL = list(canaries.PLAINTEXTS.values())
# No type of PostgreSQL holds such a number.
NUMBER = "5550173199044812345678"

SCHEMA = """
    CREATE TABLE t (id int CHECK (id < 100), v encrypted_text);
    CREATE TABLE plain (id int, v text);
    CREATE TABLE unique_id (id int PRIMARY KEY, v encrypted_text);
    CREATE TABLE own (id int, v encrypted_text);
    CREATE FUNCTION runs_a_utility() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN EXECUTE 'SET LOCAL work_mem = ''4MB'''; RETURN NEW; END $$;
    CREATE TRIGGER utility BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION runs_a_utility();

    CREATE TYPE pair AS (a int, b encrypted_text);
    CREATE DOMAIN secret AS encrypted_text;
    CREATE DOMAIN secrets AS secret[];
    CREATE TYPE deep AS (a text, b secrets, c pair[]);
    CREATE DOMAIN deeper AS deep;
    CREATE TYPE span AS RANGE (subtype = encrypted_text, subtype_opclass = encrypted_text_unique_ops);
    CREATE TYPE spans AS (s span[]);

    CREATE TABLE parts (id int, v encrypted_text) PARTITION BY RANGE (id);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50) PARTITION BY RANGE (id);
    CREATE TABLE parts_1_1 PARTITION OF parts_1 FOR VALUES FROM (0) TO (50);
    CREATE TABLE parent (id int);
    CREATE TABLE child (v encrypted_text) INHERITS (parent);
    CREATE FUNCTION says() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; RAISE LOG 'a log'; RAISE INFO 'an info'; RETURN NEW;
    END $$;
    CREATE TABLE talks (id int, v encrypted_text);
    CREATE TRIGGER says BEFORE INSERT ON talks FOR EACH ROW EXECUTE FUNCTION says();
"""

# What is around the type: such a column, and a value of it.
TYPES = {
    "encrypted_text": EMAIL, "secret": EMAIL, "encrypted_text[]": "{%s}" % EMAIL, "secrets": "{%s}" % EMAIL, "secrets[]": '{"{%s}"}' % EMAIL,
    "pair": f"(1,{EMAIL})", "pair[]": '{"(1,%s)"}' % EMAIL, "deep": f"({EMAIL},,)", "deeper": f"({EMAIL},,)", "deeper[]": '{"(%s,,)"}' % EMAIL,
    "span": f"[{EMAIL},{EMAIL}]", "span_multirange": "{[%s,%s]}" % (EMAIL, EMAIL), "spans": '("{}")',
}

# A column beside the encrypted one, what is put there, and the SQLSTATE: messages that quote what they were given.
INPUTS = {
    "a number": ("int", EMAIL, "22P02"), "a number out of range": ("int", NUMBER, "22003"), "a bigger one": ("bigint", NUMBER, "22003"),
    "an array": ("int[]", EMAIL, "22P02"), "json": ("json", '{"a": %s}' % EMAIL, "22P02"), "jsonb": ("jsonb", EMAIL, "22P02"), "xml": ("xml", f"<{EMAIL}", "2200N"),
    "a date": ("date", EMAIL, "22007"), "a time zone": ("timestamptz", f"2026-01-01 00:00 {EMAIL}", "22023"), "an enum": ("mood", EMAIL, "22P02"),
    "a role": ("regrole", f'"{EMAIL}"', "42704"), "a type": ("regtype", f'"{EMAIL}"', "42704"), "a type's syntax": ("regtype", f"{EMAIL}!", "42601"),
    "a table": ("regclass", EMAIL + ".a.b", None), "a text search query": ("tsquery", f"{EMAIL} & & (", "42601"),
    "a uuid": ("uuid", EMAIL, "22P02"), "a path": ("jsonpath", f"$.{EMAIL}!", None), "an address": ("inet", EMAIL, "22P02"),
}
