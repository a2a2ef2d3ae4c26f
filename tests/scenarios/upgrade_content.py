"""A database with something of everything, the same statements for each version, and questions whose answers are the same in all."""

import re

import searchable
from harness import releases

KINDS = ("encrypt", "decrypt", "mask", "search", "rotate", "load", "key_admin", "monitor")
ROLES = (*(f"may_{kind}" for kind in KINDS), "member", "nobody")
NEW_ROLES = "".join(f"CREATE ROLE {role} LOGIN;" for role in ROLES) + "GRANT may_decrypt TO member;"

ROWS = 2000
KEYS = """
    SELECT prism_crypt.rotate_key(reason => 'the first');
    SELECT prism_crypt.create_keyset('tenant', 'a tenant');
    SELECT prism_crypt.create_keyset('gone'); SELECT prism_crypt.rotate_key('gone'); SELECT prism_crypt.rotate_key('gone');
    SELECT prism_crypt.rotate_key('gone'); SELECT prism_crypt.destroy_key(3, 'no longer needed'); SELECT prism_crypt.disable_key(4, 'lost');
    SELECT prism_crypt.set_rotation_interval('tenant', '30 days');
"""
SCHEMA = """
    CREATE TABLE person (id int PRIMARY KEY, name encrypted_text, email encrypted_text('email'), key int GENERATED ALWAYS AS (key_version(name)) STORED);
    CREATE TABLE places (id int PRIMARY KEY, bound encrypted_text, bytes bytea, tenant encrypted_text, hash bytea);
    CREATE DOMAIN secret AS encrypted_text('personal') CHECK (length(decrypt_field(VALUE)) < 99);
    CREATE TYPE pair AS (a int, b encrypted_text);
    CREATE TABLE nested (id int PRIMARY KEY, s secret, p pair, l secret[]);
    CREATE TABLE tags (id int PRIMARY KEY, v encrypted_text('searchable')[], plain text[]);
    CREATE INDEX tags_gin ON tags USING gin (v);
    CREATE TABLE bound_lists (v encrypted_text('searchable')) PARTITION BY LIST (v);
    CREATE TABLE bound_lists_1 PARTITION OF bound_lists FOR VALUES IN ('one', 'two');
    CREATE TABLE bound_lists_2 PARTITION OF bound_lists DEFAULT;
    CREATE TABLE defaults (id int PRIMARY KEY, v encrypted_text DEFAULT encrypt_field('fallback'), c encrypted_text DEFAULT 'constant');
    CREATE VIEW readable AS SELECT id, decrypt_field(name) AS name, email::text AS email FROM person;
    CREATE VIEW found AS SELECT id FROM users WHERE email = 'user9@example.org';
    CREATE TABLE notes (id int PRIMARY KEY, owner name, v encrypted_text('searchable'));
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (owner = current_user AND v <> 'hidden');
    CREATE FUNCTION opened(integer) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT decrypt_field(name) FROM person WHERE id = $1; END;
    CREATE FUNCTION seals() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.c := coalesce(NEW.c, encrypt_field('by a trigger')); RETURN NEW; END $$;
    CREATE TRIGGER seals BEFORE INSERT ON defaults FOR EACH ROW EXECUTE FUNCTION seals();
"""
FILL = f"""
    INSERT INTO person (id, name, email) SELECT n, 'name ' || n, 'user' || n || '@example.org' FROM generate_series(1, {ROWS}) AS n;
    INSERT INTO places SELECT n, encrypt_field('bound ' || n, 'row ' || n), encrypt_bytes(convert_to('bytes ' || n, 'UTF8')),
      encrypt_field('tenant ' || n, keyset => 'tenant'), blind_index('place ' || n, 'places', 64) FROM generate_series(1, 20) AS n;
    INSERT INTO nested SELECT n, 'domain ' || n, ROW(n, 'composite ' || n)::pair, ARRAY['list ' || n, NULL]::secret[] FROM generate_series(1, 20) AS n;
    INSERT INTO tags SELECT n, ARRAY['all', 'tag' || n % 20], ARRAY['all', 'tag' || n % 20] FROM generate_series(1, 400) AS n;
    INSERT INTO bound_lists VALUES ('one'), ('two'), ('three');
    INSERT INTO defaults (id) VALUES (1); INSERT INTO defaults VALUES (2, NULL, NULL);
    INSERT INTO notes VALUES (1, 'may_decrypt', 'shown'), (2, 'may_decrypt', 'hidden'), (3, 'postgres', 'shown');
    CREATE MATERIALIZED VIEW copies AS SELECT id, email FROM person WHERE id < 50;
    SET prism_crypt.keyset = 'tenant'; INSERT INTO users VALUES (1001, 'user9@example.org', 'of the tenant'); RESET prism_crypt.keyset;
    ANALYZE;
"""
GRANTS = "".join(f"SELECT prism_crypt.grant_access('may_{kind}', '{kind}');" for kind in KINDS) + """
    SELECT prism_crypt.grant_access('may_decrypt', 'search');
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO may_decrypt, may_mask, may_search, may_rotate, may_load, nobody;
    GRANT INSERT ON defaults TO may_encrypt, nobody;
    GRANT UPDATE ON ALL TABLES IN SCHEMA public TO may_rotate;
    GRANT USAGE ON SCHEMA prism_crypt TO nobody; GRANT SELECT ON prism_crypt.key_status TO nobody;
"""
# A new key, and the rotation to it stops in the middle.
ROTATION = f"""
    SELECT prism_crypt.rotate_key(reason => 'yearly');
    CALL prism_crypt.rotate_batch('person', batch_size => {ROWS // 20}, max_batches => 3);
    SELECT prism_crypt.pause_job(max(id)) FROM prism_crypt.progress;
"""
EVERYTHING = KEYS + searchable.SCHEMA + SCHEMA + searchable.FILL + searchable.PARTITIONED + searchable.VIEW + FILL + GRANTS + ROTATION

PROGRESS = ("SELECT id, kind, target, state, pass, workers, rows_done > 0 AND rows_done < {rows}, rows_left, values_unreadable, error, reason, created_by, finished_at IS NULL "
            "FROM prism_crypt.progress ORDER BY id").format(rows=ROWS)
# Index keys are random, and so are hash partitions.
CENSUS = r"SELECT kind, regexp_replace(location, 'parts_\d', 'parts_n'), key_version, sum(ciphertexts), remark FROM prism_crypt.census() GROUP BY 1, 2, 3, 5 ORDER BY 1, 2, 3"
# {question: (role, statements)}. What is written is rolled back.
CONTENT = {
    "names": ("may_decrypt", "SELECT id, decrypt_field(name), email::text FROM person ORDER BY id"),
    "places": ("may_decrypt", "SELECT id, decrypt_field(bound, 'row ' || id), convert_from(decrypt_bytes(bytes), 'UTF8'), decrypt_field(tenant), hash = blind_index('place ' || id, 'places', 64) FROM places ORDER BY id"),
    "without the context": ("may_decrypt", "SELECT decrypt_field(bound) FROM places"),
    "nested": ("may_decrypt", "SELECT id, decrypt_field(s), (p).a, decrypt_field((p).b), l::text[] FROM nested ORDER BY id"),
    "defaults": ("may_decrypt", "SELECT id, v::text, c::text FROM defaults ORDER BY id"),
    "lists": ("may_decrypt", "SELECT tableoid::regclass, v::text FROM bound_lists ORDER BY 2"),
    "views": ("may_decrypt", "SELECT * FROM readable ORDER BY id LIMIT 9; SELECT * FROM found; SELECT opened(7); SELECT id, email::text FROM copies ORDER BY id LIMIT 9"),
    "policy": ("may_decrypt", "SELECT id, v::text FROM notes"),
    "plaintext": ("may_decrypt", "SET prism_crypt.output = plaintext; SELECT id, name, email FROM person ORDER BY id LIMIT 9; SELECT * FROM nested ORDER BY id LIMIT 9"),
    "a member": ("member", "SELECT decrypt_field(encrypt_field('x')), try_decrypt_field(encrypt_field('y', 'z')) IS NULL"),
    "masks": ("may_mask", "SELECT id, mask_field(name), mask_field(email) FROM person ORDER BY id LIMIT 20; SET prism_crypt.output = masked; SELECT email FROM person ORDER BY id LIMIT 3"),
    "headers": ("nobody", "SELECT (envelope_info(email)).class, (envelope_info(email)).key_version, count(*), sum(length(email::bytea)) FROM person GROUP BY 1, 2 ORDER BY 1, 2; SELECT key, count(*) FROM person WHERE id > 1000 GROUP BY 1 ORDER BY 1"),
    "ciphertext": ("nobody", "SELECT name, email FROM person ORDER BY id LIMIT 3; COPY (SELECT name FROM person ORDER BY id LIMIT 3) TO STDOUT"),
    "found by text": ("may_search", "SELECT id FROM users WHERE email = 'user9@example.org'; SELECT count(*) FROM users AS u JOIN logins AS l USING (email); SELECT id FROM tags WHERE v @> '{tag7}' ORDER BY id;"
                                    "SELECT count(*) FROM tags WHERE v && ARRAY['tag1', 'tag2']; SELECT tableoid::regclass FROM bound_lists WHERE v = 'two'; SELECT id FROM places WHERE hash = blind_index('place 3', 'places', 64)"),
    "found by the tenant": ("may_search", "SET prism_crypt.keyset = tenant; SELECT id FROM users WHERE email = 'user9@example.org'"),
    "plans": ("may_search", "SET enable_seqscan = off; EXPLAIN (COSTS OFF) SELECT id FROM users WHERE email = 'user9@example.org'; EXPLAIN (COSTS OFF) SELECT id FROM tags WHERE v @> '{tag7}'; EXPLAIN (COSTS OFF) SELECT FROM parts WHERE v = 'user7'"),
    "no order": ("may_decrypt", "SELECT id FROM users ORDER BY email"),
}
DENIED = {f"denied: {sql}": ("nobody", sql) for sql in (
    "SELECT decrypt_field(name) FROM person", "SELECT email::text FROM person", "SELECT mask_field(name) FROM person", "SELECT id FROM users WHERE email = 'user9@example.org'",
    "SELECT reencrypt_field(name) FROM person", "SELECT prism_crypt.load_envelope('x')", "SELECT prism_crypt.rotate_key()", "SELECT * FROM prism_crypt.status()", "CALL prism_crypt.rotate_batch('person')",
    "SELECT * FROM prism_crypt.data_key", "SELECT * FROM prism_crypt.census()", "SELECT prism_crypt.destroy_key(1)", "SELECT * FROM prism_crypt.progress", "SELECT prism_crypt.grant_access('nobody', 'decrypt')")}
OTHER = {
    "encryption": ("may_encrypt", "SELECT key_version(encrypt_field('x')), key_version(encrypt_field('x', keyset => 'tenant')), key_version(encrypt_bytes('x')); BEGIN; INSERT INTO defaults (id) VALUES (9); ROLLBACK"),
    "loading": ("may_load", "SELECT key_version(prism_crypt.load_envelope(encrypted_text_out(name)::text)) FROM person WHERE id IN (1, 2000) ORDER BY id"),
    "reencryption": ("may_rotate", "SELECT key_version(name), key_version(reencrypt_field(name)) FROM person WHERE id IN (1, 2000) ORDER BY id; SELECT count(*) FROM prism_crypt.plan_rotation()"),
    "progress": ("may_rotate", PROGRESS),
    "keys": ("may_monitor", "SELECT version, keyset, state, master_fingerprint, created_by, retired_at IS NULL, disabled_at IS NULL, destroyed_at IS NULL, reason FROM prism_crypt.key_status ORDER BY 1;"
                            "SELECT keyset, generation, state, created_by, retagged_at IS NULL, reason FROM prism_crypt.index_key_status ORDER BY 1, 2; SELECT keyset, key_version, due FROM prism_crypt.rotation_due() ORDER BY 1"),
    "status": ("may_monitor", "SELECT name, CASE WHEN name <> ALL ('{seals,library_version,extension_version}') THEN setting END, ok FROM prism_crypt.status()"),
    "audit log": ("may_key_admin", "SELECT role, event, keyset, key_version, reason, detail FROM prism_crypt.audit_log ORDER BY id"),
    "key administration": ("may_key_admin", "SELECT key_bytes FROM prism_crypt.generate_key(); BEGIN; SELECT prism_crypt.enable_key(4); SELECT prism_crypt.disable_key(4, 'again'); SELECT prism_crypt.set_rotation_interval('default', '1 day'); SELECT prism_crypt.create_keyset('more') > 7; ROLLBACK;"
                                            "\\set VERBOSITY sqlstate\nSELECT prism_crypt.destroy_key(1)"),
    "census": ("may_monitor", CENSUS),
    "unique": ("postgres", "INSERT INTO users SELECT 5000, email FROM users WHERE id = 50"),
    "unique, by text": ("postgres", "INSERT INTO users VALUES (5000, 'user9@example.org')"),
    "foreign key": ("postgres", "INSERT INTO logins VALUES (5000, 'nobody')"),
    "check": ("postgres", "INSERT INTO nested (id, s) VALUES (99, repeat('x', 100))"),
    "written": ("postgres", "BEGIN; UPDATE users SET email = 'another' WHERE email = 'user199@example.org'; SELECT id, email::text FROM users WHERE email = 'another'; "
                            "INSERT INTO users VALUES (1, 'another') ON CONFLICT (email) DO UPDATE SET plain = 'met' RETURNING id, plain; ROLLBACK"),
}
# {version: kinds of access that got new functions in it}. Roles get these by grant_access(), again, and CHANGELOG.md says so.
GAINED = {"0.3.0": ("monitor",)}
QUESTIONS = {**CONTENT, **DENIED, **OTHER}
# Jobs describe a server, and are not dumped; a restore fills materialized views anew.
NOT_DUMPED = ("progress", "census")
# What a standby can be asked.
READ_ONLY = {name: QUESTIONS[name] for name in (*CONTENT, *DENIED, "progress", "keys", "audit log")}

# The rest of the job, all other tables, a new index key, and an end of the first key.
REST = f"""
    SELECT prism_crypt.resume_job(max(id)) FROM prism_crypt.progress;
    CALL prism_crypt.rotate_batch('person', batch_size => {ROWS // 20});
    CALL prism_crypt.rotate_all(); CALL prism_crypt.rotate_batch('places', 'bytes');
    REFRESH MATERIALIZED VIEW busy; REFRESH MATERIALIZED VIEW copies;
    SELECT key, count(*) FROM person GROUP BY 1 ORDER BY 1;
    SELECT kind, target, state, rows_done, rows_left FROM prism_crypt.progress ORDER BY id;
    {CENSUS};
"""
END = r"""
    DROP TABLE parts, bound_lists; DROP VIEW found; DROP POLICY own ON notes; ALTER TABLE defaults ALTER c DROP DEFAULT;
    CALL prism_crypt.rotate_index_key('default', 'yearly'); REFRESH MATERIALIZED VIEW busy; CALL prism_crypt.rotate_index_key('default', 'yearly');
    SELECT prism_crypt.destroy_key(1, 'rotated away');
    SELECT prism_crypt.destroy_keyset('gone', 'a tenant left', true);
    SELECT version, keyset, state, reason FROM prism_crypt.key_status ORDER BY 1;
    SELECT keyset, generation, state, retagged_at IS NULL FROM prism_crypt.index_key_status ORDER BY 1, 2;
    SELECT event, keyset, key_version, reason, detail FROM prism_crypt.audit_log ORDER BY id;
    SELECT kind, regexp_replace(target, ' \(OID \d+\)', ''), state, rows_left FROM prism_crypt.progress ORDER BY id;
    SELECT id, decrypt_field(name), email::text FROM person ORDER BY id;
    SELECT id, email::text FROM users ORDER BY id;
"""


def grants_again(old):
    """What is granted again after an update from a version."""
    kinds = {kind for version, gained in GAINED.items() if releases.numbers(version) > releases.numbers(old) for kind in gained}
    return "".join(f"SELECT prism_crypt.grant_access('may_{kind}', '{kind}');" for kind in sorted(kinds))


def normal(text):
    """Without what no two databases have in common."""
    text = re.sub(r"prism:v(\d+):[A-Za-z0-9+/=]+", r"prism:v\1:…", text)
    text = re.sub(r"\bparts_\d( parts_\d)?", "parts_n", text)
    return re.sub(r"^(?:psql:.*?|LOCATION): .*\n?", "", text, flags=re.M)


def answers(cluster, db, questions=None):
    """{question: all that psql writes}"""
    return {name: normal(cluster.psql(sql, db=db, user=role, check=False)) for name, (role, sql) in (questions or QUESTIONS).items()}


def other_answers(found, expected):
    """What is answered otherwise, by line."""
    lines = []
    for name in expected:
        a, b = found[name].splitlines(), expected[name].splitlines()
        lines += [f"{name}: {line!r} is new" for line in a if line not in b] + [f"{name}: {line!r} is missing" for line in b if line not in a]
        if a != b and sorted(a) == sorted(b):
            lines.append(f"{name}: in another order")
    return lines
