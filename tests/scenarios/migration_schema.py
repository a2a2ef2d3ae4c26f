"""A schema with everything that a column can have, for migrations of it; and its dumps, compared."""

import difflib

COLUMN = "E-Mail"
TYPE = "encrypted_text(email,searchable)"

# varchar, not text: what reads it has the same casts before and after.
SCHEMA = """
    SELECT prism_crypt.grant_access(r::regrole, a) FROM unnest(ARRAY['owner', 'reader']) AS r, unnest(ARRAY['search', 'decrypt']) AS a;
    SELECT prism_crypt.grant_access('owner', 'migrate');
    CREATE SCHEMA "My App" AUTHORIZATION owner;
    GRANT USAGE ON SCHEMA "My App" TO reader, writer;
    SET ROLE owner;
    CREATE TABLE "My App"."People" (
      id int, "E-Mail" varchar(60) NOT NULL DEFAULT 'nobody@example.org', gone int, note text, n int DEFAULT 0,
      CONSTRAINT "a Key" PRIMARY KEY (id, "E-Mail"),
      CONSTRAINT once UNIQUE ("E-Mail") DEFERRABLE INITIALLY DEFERRED,
      CONSTRAINT "has @" CHECK ("E-Mail" LIKE '%@%')) WITH (fillfactor = 80);
    ALTER TABLE "My App"."People" DROP COLUMN gone, ADD CONSTRAINT short CHECK (length("E-Mail") < 60) NO INHERIT NOT VALID;
    CREATE UNIQUE INDEX "By E-Mail" ON "My App"."People" ("E-Mail", id) INCLUDE (note) WITH (fillfactor = 70);
    CREATE UNIQUE INDEX identity ON "My App"."People" ("E-Mail");
    CREATE INDEX hashed ON "My App"."People" USING hash ("E-Mail");
    CREATE INDEX partial ON "My App"."People" (id) WHERE "E-Mail" IS NOT NULL;
    CREATE INDEX mixed ON "My App"."People" (upper(note), "E-Mail") WHERE n > 3;
    ALTER INDEX "My App".mixed ALTER COLUMN 1 SET STATISTICS 17;
    ALTER TABLE "My App"."People" REPLICA IDENTITY USING INDEX identity, CLUSTER ON "By E-Mail",
      ALTER "E-Mail" SET STATISTICS 321, ALTER "E-Mail" SET (n_distinct = -0.5);
    CREATE STATISTICS "My App".others (dependencies) ON note, n FROM "My App"."People";
    COMMENT ON COLUMN "My App"."People"."E-Mail" IS 'where to write; it''s needed';
    COMMENT ON INDEX "My App"."By E-Mail" IS 'by address';
    COMMENT ON CONSTRAINT once ON "My App"."People" IS 'only once';
    COMMENT ON CONSTRAINT "has @" ON "My App"."People" IS 'an address';
    CREATE VIEW "My App"."Mails" WITH (security_barrier) AS SELECT id, "E-Mail", note FROM "My App"."People" WHERE n >= 0;
    CREATE VIEW "My App".domains AS SELECT id, split_part("E-Mail", '@', 2) AS domain FROM "My App"."Mails" WITH LOCAL CHECK OPTION;
    COMMENT ON VIEW "My App"."Mails" IS 'all mails';
    COMMENT ON COLUMN "My App"."Mails"."E-Mail" IS 'in a view';
    ALTER VIEW "My App"."Mails" ALTER note SET DEFAULT 'by the view';
    GRANT SELECT, INSERT ("E-Mail", id) ON "My App"."Mails" TO reader;
    CREATE MATERIALIZED VIEW "My App".counted AS SELECT domain, count(*) AS number FROM "My App".domains GROUP BY domain;
    CREATE UNIQUE INDEX counted_domain ON "My App".counted (domain);
    GRANT SELECT ON "My App".counted TO reader;
    CREATE TABLE "My App".log (id int, what text);
    CREATE RULE "note it" AS ON DELETE TO "My App"."People" DO ALSO INSERT INTO "My App".log VALUES (OLD.id, OLD."E-Mail");
    COMMENT ON RULE "note it" ON "My App"."People" IS 'who is gone';
    CREATE FUNCTION "My App".fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER "Of E-Mail" BEFORE UPDATE OF "E-Mail", note ON "My App"."People" FOR EACH ROW EXECUTE FUNCTION "My App".fired('a b');
    CREATE TRIGGER changed AFTER UPDATE ON "My App"."People" FOR EACH ROW
      WHEN (OLD."E-Mail" IS DISTINCT FROM NEW."E-Mail") EXECUTE FUNCTION "My App".fired();
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON "My App"."People" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
      WHEN (length(NEW."E-Mail") > 3) EXECUTE FUNCTION "My App".fired();
    ALTER TABLE "My App"."People" ENABLE ALWAYS TRIGGER changed, DISABLE TRIGGER late;
    CREATE POLICY own ON "My App"."People" FOR SELECT TO reader USING (lower("E-Mail") <> 'x' OR n > 0);
    CREATE POLICY "all" ON "My App"."People" TO writer USING (true) WITH CHECK (length("E-Mail") < 59);
    ALTER TABLE "My App"."People" ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION "My App".mail_of(wanted int) RETURNS text LANGUAGE sql STABLE
      BEGIN ATOMIC SELECT p."E-Mail" FROM "My App"."People" AS p WHERE p.id = wanted; END;
    GRANT EXECUTE ON FUNCTION "My App".mail_of(int) TO reader;
    GRANT SELECT, INSERT, UPDATE, DELETE ON "My App"."People" TO writer;
    GRANT SELECT (id, "E-Mail") ON "My App"."People" TO reader WITH GRANT OPTION;
    GRANT UPDATE ("E-Mail") ON "My App"."People" TO reader;
    CREATE TABLE "My App"."Events" (id int, "at" int, "E-Mail" varchar(60) CHECK (length("E-Mail") > 1), more text) PARTITION BY RANGE ("at");
    CREATE TABLE "My App"."Events 1" PARTITION OF "My App"."Events" FOR VALUES FROM (0) TO (10);
    CREATE TABLE "My App"."Events 2" (more text, "E-Mail" varchar(60) CHECK (length("E-Mail") > 1), "at" int, id int);
    ALTER TABLE "My App"."Events 2" DROP CONSTRAINT "Events 2_E-Mail_check",
      ADD CONSTRAINT "Events_E-Mail_check" CHECK (length("E-Mail") > 1);
    ALTER TABLE "My App"."Events" ATTACH PARTITION "My App"."Events 2" FOR VALUES FROM (10) TO (20);
    CREATE TABLE "My App"."Events rest" PARTITION OF "My App"."Events" DEFAULT;
    CREATE UNIQUE INDEX once_a_time ON "My App"."Events" ("E-Mail", "at");
    CREATE INDEX own_of_1 ON "My App"."Events 1" ("E-Mail") WHERE id > 5;
    ALTER TABLE ONLY "My App"."Events 2" ALTER "E-Mail" SET DEFAULT 'second';
    GRANT SELECT, INSERT ON "My App"."Events", "My App"."Events 1" TO writer;
    CREATE TABLE "My App".parent (id int, "E-Mail" varchar(60) NOT NULL);
    CREATE TABLE "My App".child (extra int) INHERITS ("My App".parent);
    CREATE INDEX child_mail ON "My App".child ("E-Mail");
    ALTER TABLE "My App"."Events 1" REPLICA IDENTITY FULL; ALTER TABLE "My App"."Events 2" REPLICA IDENTITY FULL;
    ALTER TABLE "My App"."Events rest" REPLICA IDENTITY FULL;
    ALTER TABLE "My App".parent REPLICA IDENTITY FULL; ALTER TABLE "My App".child REPLICA IDENTITY FULL;
    RESET ROLE;
    CREATE PUBLICATION everything FOR ALL TABLES;
    CREATE PUBLICATION people FOR TABLE "My App"."People", "My App"."Events";
    INSERT INTO "My App"."People" (id, "E-Mail", note, n) SELECT i, 'p' || i || '@example.org', 'note ' || i, i % 9 FROM generate_series(1, 300) AS i;
    INSERT INTO "My App"."Events" (id, "at", "E-Mail") SELECT i, i % 25, 'e' || i || '@example.org' FROM generate_series(1, 300) AS i;
    INSERT INTO "My App".parent SELECT i, 'f' || i || '@example.org' FROM generate_series(1, 50) AS i;
    INSERT INTO "My App".child SELECT i, 'c' || i || '@example.org', i FROM generate_series(51, 100) AS i;
    REFRESH MATERIALIZED VIEW "My App".counted;
"""
ROLES = "CREATE ROLE owner; CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN"

TABLES = ("People", "Events", "parent")
VALUES = """
    SELECT id, "E-Mail"::text FROM "My App"."People" UNION ALL SELECT id, "E-Mail"::text FROM "My App"."Events"
    UNION ALL SELECT id, "E-Mail"::text FROM "My App".parent ORDER BY 1, 2"""


def schema_of(cluster, db):
    """The lines of a dump of the schema, without the token that pg_dump makes up for psql."""
    dump = cluster.run(["pg_dump", "--schema-only"], db=db).stdout
    return [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def difference(before, after):
    """The lines that are gone, with -, and new, with +."""
    return [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:2] not in ("--", "++", "@@")]
