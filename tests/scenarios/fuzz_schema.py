"""What random queries are asked of: a table of each kind of encrypted column, with an index of each class."""

from harness.libpq import Connection

# Not the plaintexts of the other tests, which no log may ever show: random queries open these, and hand them on to whatever
# there is in PostgreSQL. The scenario looks for them in what was not opened on purpose.
PLAINTEXTS = {
    "email": "random.numbat.31@example.org",
    "name": "Ágota Numbatné Szőke-Fűzfői",
    "phone": "+36 1 555 4419 208",
    "tax id": "6620-NUMBAT-91847",
    "unicode": "フクロアリクイ密・三一",
}

ROLE = "fuzzer"
KINDS = ("decrypt", "mask", "search", "rotate", "load", "key_admin", "monitor")

SCHEMA = """
    CREATE SCHEMA app;
    CREATE TYPE app.card AS (number encrypted_text('searchable'), valid int, notes encrypted_text[]);
    CREATE DOMAIN app.email AS encrypted_text('email', 'searchable');
    CREATE DOMAIN app.emails AS encrypted_text[];
    CREATE DOMAIN app.short_list AS app.emails CHECK (cardinality(VALUE) < 100);

    CREATE TABLE app.plain (id int PRIMARY KEY, v encrypted_text, n int, at timestamptz DEFAULT now());
    CREATE UNIQUE INDEX ON app.plain (v encrypted_text_unique_ops);
    CREATE INDEX ON app.plain (key_version(v), n);
    CREATE TABLE app.searchable (id int PRIMARY KEY, email encrypted_text('email', 'searchable'), phone encrypted_text('searchable'), blind bytea, n int,
        version int GENERATED ALWAYS AS (key_version(email)) STORED, again encrypted_text('email', 'searchable') GENERATED ALWAYS AS (email) STORED);
    CREATE INDEX ON app.searchable USING hash (email);
    CREATE UNIQUE INDEX ON app.searchable (email encrypted_text_unique_ops);
    CREATE INDEX ON app.searchable (blind);
    CREATE INDEX ON app.searchable (id) WHERE phone IS NOT NULL;
    CREATE TABLE app.login (id int PRIMARY KEY, email encrypted_text('email', 'searchable') REFERENCES app.searchable (email), n int);
    CREATE TABLE app.seat (id int PRIMARY KEY, v encrypted_text('searchable'), EXCLUDE USING hash (v WITH =));
    CREATE TABLE app.list (id int PRIMARY KEY, v encrypted_text('searchable')[], w encrypted_text[]);
    CREATE INDEX ON app.list USING hash (v);
    CREATE TABLE app.wallet (id int PRIMARY KEY, c app.card, cards app.card[]);
    CREATE INDEX ON app.wallet USING hash (((c).number));
    CREATE INDEX ON app.wallet (((c).number) encrypted_text_unique_ops);
    CREATE TABLE app.domains (id int PRIMARY KEY, v app.email, w app.emails, x app.short_list, n int);
    CREATE INDEX ON app.domains USING hash (v);
    CREATE UNIQUE INDEX ON app.domains (v encrypted_text_unique_ops);
    CREATE TABLE app.parts (id int, v encrypted_text('searchable'), n int) PARTITION BY HASH (v);
    CREATE TABLE app.parts_0 PARTITION OF app.parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE INDEX ON app.parts USING hash (v);
    CREATE TABLE app.years (id int, v encrypted_text('searchable'), n int) PARTITION BY RANGE (id);
    CREATE TABLE app.years_0 PARTITION OF app.years FOR VALUES FROM (MINVALUE) TO (20);
    CREATE TABLE app.years_1 PARTITION OF app.years DEFAULT;
    CREATE UNIQUE INDEX ON app.years_1 (v encrypted_text_unique_ops);
    CREATE TABLE app.parent (id int PRIMARY KEY, v encrypted_text('searchable'));
    CREATE TABLE app.child (w encrypted_text) INHERITS (app.parent);

    CREATE VIEW app.people AS SELECT id, email, phone, n FROM app.searchable;
    CREATE VIEW app.opened AS SELECT id, decrypt_field(email) AS email, mask_field(phone) AS phone, email::text = phone::text AS same FROM app.searchable;
    CREATE VIEW app.barrier WITH (security_barrier) AS SELECT l.id, s.email, s.phone FROM app.login AS l JOIN app.searchable AS s ON s.email = l.email;
    CREATE MATERIALIZED VIEW app.busy AS SELECT email, count(*) AS n FROM app.login GROUP BY email;
    CREATE UNIQUE INDEX ON app.busy (email encrypted_text_unique_ops);
"""

# From a table that is gone afterwards, so that plaintext stands in encrypted columns alone.
FILL = """
    INSERT INTO app.plain SELECT i, t || i, i FROM given;
    INSERT INTO app.searchable SELECT i, t || i, t || i % 7, blind_index(t, 'fuzz'), i FROM given;
    INSERT INTO app.login SELECT i, t || i, i % 5 FROM given WHERE i % 3 > 0;
    INSERT INTO app.seat SELECT i, t || i FROM given;
    INSERT INTO app.list SELECT i, ARRAY[t || i % 5, NULL, t]::encrypted_text[], ARRAY[[t, t || i], [NULL, t]]::encrypted_text[] FROM given;
    INSERT INTO app.wallet SELECT i, ROW(t || i, i, ARRAY[t]::encrypted_text[])::app.card, ARRAY[ROW(t, 1, NULL), ROW(NULL, i, '{}')]::app.card[] FROM given;
    INSERT INTO app.domains SELECT i, t || i, ARRAY[t]::encrypted_text[], ARRAY[t, t || i]::encrypted_text[], i FROM given;
    INSERT INTO app.parts SELECT i, t || i, i FROM given;
    INSERT INTO app.years SELECT i, t || i, i FROM given;
    INSERT INTO app.parent SELECT i, t || i FROM given WHERE i % 2 = 0;
    INSERT INTO app.child SELECT i, t || i, t FROM given WHERE i % 2 = 1;
    SELECT prism_crypt.rotate_key();
    UPDATE app.plain SET v = v::text WHERE id % 2 = 0;
    INSERT INTO app.plain VALUES (0, NULL), (-1, encrypt_field('of a context', context => 'x')), (-2, '');
    INSERT INTO app.searchable (id) VALUES (0);
    REFRESH MATERIALIZED VIEW app.busy;
    DROP TABLE given;
    ANALYZE;
"""


def make(cluster, db):
    """Fills a database that has the extension and a key."""
    cluster.psql(SCHEMA, db=db)
    rows = [f"{number}\t{text}\n" for number, text in enumerate(list(PLAINTEXTS.values()) * 8, 1)]
    with Connection(cluster, db=db) as conn:
        conn.execute("CREATE TABLE given (i int, t text)")
        conn.copy_in("COPY given FROM STDIN", "".join(rows).encode())
    grants = "".join(f"SELECT prism_crypt.grant_access('{ROLE}', '{kind}');" for kind in KINDS)
    cluster.psql(FILL + grants + f"GRANT USAGE ON SCHEMA app TO {ROLE}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app TO {ROLE}", db=db)


def databases(cluster, database):
    """{database: user} for two runs beside each other. database: as Scenario.database()."""
    cluster.psql(f"CREATE ROLE {ROLE} LOGIN")
    users = {"fuzz_super": "postgres", "fuzz_role": ROLE}
    for db in users:
        make(cluster, database(db))
    cluster.psql("ALTER DATABASE fuzz_role SET prism_crypt.output = 'plaintext'")
    return users
