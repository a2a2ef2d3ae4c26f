"""A database with ciphertext in every place where it can stand, and what a server without the extension must have after a recovery."""

# Each table has an id, by which rows are compared. In plain SQL, which is run with the extension in the path.
SCHEMA = r'''
    CREATE SCHEMA clinic; CREATE SCHEMA "Odd ""Schema""";
    CREATE DOMAIN clinic.secret AS encrypted_text CONSTRAINT "not too long" CHECK (length(VALUE) < 100);
    CREATE TYPE clinic.pair AS (a int, b encrypted_text);
    CREATE TYPE clinic.secrets AS RANGE (subtype = encrypted_text);
    CREATE TABLE clinic.patient (
        id int PRIMARY KEY, name encrypted_text NOT NULL DEFAULT encrypt_field('nobody'), email encrypted_text('email', 'searchable') UNIQUE,
        phone encrypted_text('phone') DEFAULT 'unknown', key int GENERATED ALWAYS AS (key_version(name)) STORED, plain text,
        notes text GENERATED ALWAYS AS ('note: ' || plain) STORED,
        CONSTRAINT short CHECK (length(name) < 200), CONSTRAINT no_bad_address CHECK (email <> 'bad@example.org'));
    CREATE INDEX patient_email ON clinic.patient USING hash (email);
    CREATE INDEX patient_key ON clinic.patient (key_version(name));
    CREATE TABLE clinic.visit (id int PRIMARY KEY, patient encrypted_text('email', 'searchable') REFERENCES clinic.patient (email), what encrypted_text);
    CREATE TABLE clinic.nested (
        id int PRIMARY KEY, list encrypted_text[], matrix encrypted_text[][], domains clinic.secret[], one clinic.secret, pair clinic.pair, pairs clinic.pair[],
        span clinic.secrets, spans clinic.secrets_multirange, document jsonb, older json, log text);
    CREATE TABLE clinic.bytes (id int PRIMARY KEY, v bytea, plain bytea);
    CREATE TABLE clinic.bound (id int PRIMARY KEY, v encrypted_text);
    CREATE TABLE clinic.tenants (id int PRIMARY KEY, v encrypted_text);
    CREATE TABLE clinic.events (id int, at date, v encrypted_text('personal')) PARTITION BY RANGE (at);
    CREATE TABLE clinic.events_2025 PARTITION OF clinic.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    CREATE TABLE clinic.events_2026 PARTITION OF clinic.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE clinic.by_hash (id int, v encrypted_text('searchable')) PARTITION BY HASH (v);
    CREATE TABLE clinic.by_hash_0 PARTITION OF clinic.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE clinic.by_hash_1 (v encrypted_text('searchable'), id int); ALTER TABLE clinic.by_hash ATTACH PARTITION clinic.by_hash_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE clinic.by_list (id int, v encrypted_text('searchable')) PARTITION BY LIST (v);
    CREATE TABLE clinic.by_list_a PARTITION OF clinic.by_list FOR VALUES IN ('a', 'it''s');
    CREATE TABLE clinic.by_list_rest PARTITION OF clinic.by_list DEFAULT;
    CREATE TABLE clinic.seat (id int PRIMARY KEY, v encrypted_text('searchable'), EXCLUDE USING hash (v WITH =));
    CREATE TABLE clinic.parent (id int PRIMARY KEY, v encrypted_text); CREATE TABLE clinic.child (w encrypted_text) INHERITS (clinic.parent);
    CREATE TABLE "Odd ""Schema"""."Odd; 'Table'" (id int PRIMARY KEY, "a ""column"" $$" encrypted_text('tax_id'), "SELECT" text);
    CREATE TABLE clinic.lookup (id int PRIMARY KEY, v bytea, CHECK (v <> blind_index('x', NULL, 24)));
    CREATE MATERIALIZED VIEW clinic.copies AS SELECT id, email FROM clinic.patient WHERE email IS NOT NULL;
    CREATE UNIQUE INDEX copies_email ON clinic.copies (email encrypted_text_unique_ops);
    CREATE VIEW clinic.readable AS SELECT id, decrypt_field(name) AS name, try_decrypt_field(value => phone) AS phone, email::text AS email, email = 'b@example.org' AS is_b
        FROM clinic.patient;
    CREATE VIEW clinic.masked AS SELECT id, mask_field(email) AS email FROM clinic.patient;
    CREATE VIEW clinic.searched AS SELECT id, blind_index(plain, NULL, 16) AS tag FROM clinic.patient;
    CREATE VIEW clinic.above_searched AS SELECT id FROM clinic.searched;
    COMMENT ON VIEW clinic.above_searched IS 'goes with it'; GRANT SELECT ON clinic.above_searched TO PUBLIC;
    CREATE FUNCTION clinic.greeting(person encrypted_text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'Hello, ' || decrypt_field(person) || '; it''s you' $$;
    CREATE FUNCTION clinic.standard(person encrypted_text) RETURNS encrypted_text LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN person IS NULL THEN encrypt_field('x') ELSE person END; END;
    CREATE FUNCTION clinic.sealed() RETURNS trigger LANGUAGE plpgsql AS $_$
        DECLARE v encrypted_text; BEGIN v := encrypt_field(coalesce(NEW.plain, '$$'), 'a context'); NEW.plain := $$;$$ || v::text; RETURN NEW; END $_$;
    CREATE FUNCTION clinic.keys() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM prism_crypt.key_status';
    CREATE TRIGGER sealed BEFORE INSERT ON clinic.tenants FOR EACH ROW WHEN (NEW.id > 1000000) EXECUTE FUNCTION clinic.sealed();
    CREATE FUNCTION clinic.tagged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := blind_index(''x'', NULL, 24); RETURN NEW; END';
    CREATE TRIGGER tagged BEFORE INSERT ON clinic.lookup FOR EACH ROW EXECUTE FUNCTION clinic.tagged();
    ALTER TABLE clinic.lookup ENABLE ALWAYS TRIGGER tagged; COMMENT ON TRIGGER tagged ON clinic.lookup IS 'goes with its function';
    CREATE POLICY own ON clinic.patient USING (email = 'b@example.org' OR current_user = 'postgres');
    CREATE RULE quiet AS ON UPDATE TO clinic.seat WHERE NEW.v = 'x' DO INSTEAD (SELECT 1; SELECT 2);
    CREATE STATISTICS clinic.counted (mcv) ON id, plain FROM clinic.patient;
    CREATE AGGREGATE clinic.last_of(encrypted_text) (SFUNC = clinic.later, STYPE = encrypted_text);
    SELECT prism_crypt.grant_access('recovery_reader', 'decrypt'); GRANT USAGE ON SCHEMA clinic TO recovery_reader; GRANT SELECT ON clinic.patient TO recovery_reader;
'''
# What an aggregate needs before it.
BEFORE = """
    CREATE SCHEMA clinic;
    CREATE FUNCTION clinic.later(encrypted_text, encrypted_text) RETURNS encrypted_text LANGUAGE sql IMMUTABLE AS 'SELECT $2';
"""
SCHEMA = BEFORE + SCHEMA.replace("CREATE SCHEMA clinic; ", "", 1)

# Texts that every layer of quoting has something to do with; the server gets them by COPY.
TEXTS = ["plain", "", " ", "it's", 'say "x"', "a\\b", "\\N", "\\.", "tab\there", "line\nend\r\n", "{a,b}", "(1,2)", "[a,b)", "NULL", "$$;$_$", "-- no", "é ü ß", "prism:v1:x", "\\x0104"]
FILL = r'''
    CREATE TEMP TABLE source (id int, v text); COPY source FROM STDIN;
{rows}\.
    INSERT INTO clinic.patient (id, name, email, phone, plain) SELECT id, v, CASE WHEN id % 5 > 0 THEN 'p' || id || '@example.org' END, '+36 1 ' || id, v FROM source;
    INSERT INTO clinic.patient (id) VALUES (1000); INSERT INTO clinic.patient (id, email) VALUES (1001, 'b@example.org');
    INSERT INTO clinic.visit SELECT id, 'p' || id || '@example.org', encrypt_field(v) FROM source WHERE id % 5 > 0;
    INSERT INTO clinic.nested SELECT id, ARRAY[encrypt_field(v), NULL, encrypt_field('x')], ARRAY[ARRAY[encrypt_field(v)], ARRAY[encrypt_field('y')]],
        ARRAY[encrypt_field(v)::clinic.secret], encrypt_field(v), ROW(id, encrypt_field(v))::clinic.pair, ARRAY[ROW(1, encrypt_field(v))::clinic.pair, ROW(NULL, NULL)::clinic.pair],
        clinic.secrets(s.e, s.e, '[]'), clinic.secrets_multirange(clinic.secrets(s.e, s.e, '[]')),
        jsonb_build_object('a', ARRAY[s.e::text, v], 'b', jsonb_build_object('c', {sealed})),
        json_build_array({sealed}, 1, v), {sealed} FROM source, LATERAL (SELECT encrypt_field(v) AS e) AS s;
    INSERT INTO clinic.nested (id, list, pairs) VALUES (1000, '{{}}', '{{}}'), (1001, NULL, NULL);
    INSERT INTO clinic.bytes SELECT id, encrypt_bytes(convert_to(v, 'UTF8')), convert_to(v, 'UTF8') FROM source;
    INSERT INTO clinic.bytes VALUES (1000, '\x0104ff', '\x01'), (1001, NULL, '\x'), (1002, '\x01000000000001', NULL);
    INSERT INTO clinic.bound SELECT id, encrypt_field(v, 'row ' || id) FROM source;
    INSERT INTO clinic.tenants SELECT id, encrypt_field(v, keyset => 'tenant_a') FROM source WHERE id % 2 = 0;
    INSERT INTO clinic.events SELECT id, '2025-06-01'::date + 20 * id, v FROM source;
    INSERT INTO clinic.by_hash SELECT n, 'value ' || n FROM generate_series(1, 100) AS n;
    INSERT INTO clinic.by_list VALUES (1, 'a'), (2, 'it''s'), (3, 'z'), (4, NULL);
    INSERT INTO clinic.seat SELECT id, v || id FROM source;
    INSERT INTO clinic.parent SELECT id, encrypt_field(v) FROM source; INSERT INTO clinic.child SELECT id + 1000, encrypt_field(v), encrypt_field(v) FROM source;
    INSERT INTO "Odd ""Schema"""."Odd; 'Table'" SELECT id, v, v FROM source;
    REFRESH MATERIALIZED VIEW clinic.copies; ANALYZE;
'''


def copy_rows(texts):
    """As lines of COPY, numbered from 1."""
    def field(text):
        for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
            text = text.replace(plain, escaped)
        return text

    return "".join(f"{number}\t{field(text)}\n" for number, text in enumerate(texts, 1))


def fill(texts):
    return FILL.format(rows=copy_rows(texts), sealed="encrypted_text_out(s.e)::text")


# Each relation: what the server with the extension is asked, and what the other one, for the same rows. They may be one query, because the
# first one shows encrypted_text as plaintext.
EVERYTHING = "SELECT * FROM {} ORDER BY id"
SAME = [EVERYTHING.format(name) for name in (
    "clinic.visit", "clinic.tenants", "clinic.events", "clinic.events_2025", "clinic.events_2026", "clinic.by_hash", "clinic.by_list",
    "clinic.by_list_a", "clinic.seat", "clinic.parent", "clinic.child", '"Odd ""Schema"""."Odd; \'Table\'"', "clinic.copies", "clinic.readable")]
SAME += ["SELECT id, list, matrix, domains, one, pair, pairs, span, spans FROM clinic.nested ORDER BY id",
         "SELECT id, name, email, phone, plain, notes FROM clinic.patient ORDER BY id",
         "SELECT id, clinic.greeting(name) FROM clinic.patient ORDER BY id"]
DIFFERENT = [
    ("SELECT id, 0 FROM clinic.patient ORDER BY id", "SELECT id, key FROM clinic.patient ORDER BY id"),
    ("SELECT id, decrypt_bytes(v), plain FROM clinic.bytes WHERE id < 1000 UNION ALL SELECT * FROM clinic.bytes WHERE id >= 1000 ORDER BY 1", EVERYTHING.format("clinic.bytes")),
    ("SELECT id, decrypt_field(v, 'row ' || id) FROM clinic.bound ORDER BY id", EVERYTHING.format("clinic.bound")),
    ("SELECT id, jsonb_build_object('a', ARRAY[one::text, one::text], 'b', jsonb_build_object('c', one::text)), json_build_array(one::text, 1, one::text)::text, one::text FROM clinic.nested WHERE id < 1000 ORDER BY id",
     "SELECT id, document, older::text, log FROM clinic.nested WHERE id < 1000 ORDER BY id"),
    ("SELECT id, CASE WHEN email IS NOT NULL THEN '****' END FROM clinic.patient ORDER BY id", EVERYTHING.format("clinic.masked")),
]
QUESTIONS = [(query, query) for query in SAME] + DIFFERENT
