-- Rights around a migration: grants that are split and joined, views and rules of others, rows that are hidden, what was asked for before.
CALL regress.fresh();
\set SHOW_CONTEXT never
CREATE ROLE regress_owner; CREATE ROLE regress_app; CREATE ROLE regress_other; CREATE ROLE regress_third;
GRANT CREATE ON SCHEMA public TO regress_owner, regress_other;
SELECT prism_crypt.grant_access('regress_owner', access) FROM unnest(ARRAY['migrate', 'search', 'decrypt']) AS access;
SET ROLE regress_owner;
CREATE TABLE t (id int PRIMARY KEY, v text, w text, n text);
INSERT INTO t SELECT i, 'value ' || i, 'other ' || i, 'n' FROM generate_series(1, 20) AS i;
CREATE FUNCTION rights() RETURNS TABLE (col name, grantee text, privileges text) LANGUAGE sql STABLE AS $$
  SELECT a.attname, coalesce(r.rolname, 'PUBLIC'), string_agg(g.privilege_type || CASE WHEN g.is_grantable THEN '*' ELSE '' END, ' ' ORDER BY g.privilege_type)
  FROM (SELECT NULL::name, relacl, relowner FROM pg_class WHERE oid = 't'::regclass
        UNION ALL SELECT attname, attacl, 0 FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped) AS a (attname, acl, owner)
  CROSS JOIN LATERAL aclexplode(a.acl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee
  WHERE g.grantee <> a.owner GROUP BY 1, 2 ORDER BY 1 NULLS FIRST, 2 $$;

-- What the owner revokes between the cut-over and the end stays revoked; what it left is whole again.
GRANT SELECT, INSERT ON t TO regress_app; GRANT SELECT ON t TO regress_other, regress_third; GRANT UPDATE (v) ON t TO regress_third;
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', method => 'online');
REVOKE SELECT (id, v, w, n) ON t FROM regress_other;
REVOKE SELECT (n) ON t FROM regress_third;
SELECT * FROM rights();
CALL prism_crypt.rollback_migration(1);
SELECT * FROM rights();
-- Two migrations of one table: the last one joins them.
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', method => 'online');
CALL prism_crypt.migrate_column('t', 'w', 'encrypted_text(searchable)', method => 'online');
CALL prism_crypt.finish_migration(2) \g /dev/null
SELECT * FROM rights();
CALL prism_crypt.finish_migration(3) \g /dev/null
SELECT * FROM rights();
SELECT id, closed FROM prism_crypt._read_migration(3, prism_crypt._note_caller());
DROP TABLE t CASCADE;

-- What others granted would be lost where grants are split.
CREATE TABLE t (id int PRIMARY KEY, v text, w text);
INSERT INTO t SELECT i, 'value ' || i, 'other ' || i FROM generate_series(1, 20) AS i;
GRANT SELECT ON t TO regress_app WITH GRANT OPTION; GRANT UPDATE ON t TO regress_app; GRANT UPDATE (v), INSERT (v) ON t TO regress_app WITH GRANT OPTION;
SET ROLE regress_app;
GRANT SELECT, UPDATE (v), INSERT (v) ON t TO regress_third;
SET ROLE regress_owner;
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', method => 'online');
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', method => 'rewrite', dry_run => true);
GRANT SELECT ON TABLE t TO regress_third; REVOKE GRANT OPTION FOR SELECT ON TABLE t FROM regress_app CASCADE;
GRANT UPDATE (v) ON t TO regress_third; REVOKE GRANT OPTION FOR UPDATE (v) ON t FROM regress_app CASCADE;

-- A view of another role that does not show the column is none of its business.
GRANT SELECT ON t TO regress_other;
SET ROLE regress_other;
CREATE VIEW of_other AS SELECT id, w FROM t;
SET ROLE regress_owner;
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', method => 'online', until => 'verified');

-- The same call goes on, another one does not.
\set VERBOSITY default
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', keep_plaintext => false);
\set VERBOSITY terse
-- A dry run and a plan while it is there.
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)', dry_run => true);
SELECT p ->> 'basis' AS basis, p ->> 'blocked' AS blocked FROM prism_crypt.plan_migration('t', 'v', 'encrypted_text(searchable)') AS p;
CALL prism_crypt.migrate_column('t', 'v', 'encrypted_text(searchable)');
SELECT count(*) FROM t WHERE v = 'value 7';
SELECT p ->> 'basis' AS basis, p ->> 'blocked' AS blocked FROM prism_crypt.plan_migration('t', 'w', 'encrypted_text') AS p;
CALL prism_crypt.finish_migration(4) \g /dev/null
RESET ROLE;
DROP VIEW of_other;
SET ROLE regress_owner;

-- A partitioned table without partitions has nothing to sample.
CREATE TABLE parts (id int, v text) PARTITION BY LIST (id);
CALL prism_crypt.migrate_column('parts', 'v', 'encrypted_text', dry_run => true);
CALL prism_crypt.migrate_column('parts', 'v', 'encrypted_text');
SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'parts'::regclass AND attname = 'v';

-- Rows that policies hide now would be left without a value.
CREATE TABLE hidden (id int PRIMARY KEY, v text, w text);
INSERT INTO hidden SELECT i, 'value ' || i FROM generate_series(1, 20) AS i;
CREATE POLICY few ON hidden USING (id < 10);
CALL prism_crypt.migrate_column('hidden', 'w', 'encrypted_text', using_expression => 'upper(v)', method => 'online', until => 'verified');
INSERT INTO hidden VALUES (30, 'value 30');
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
CALL prism_crypt.migrate_column('hidden', 'w', 'encrypted_text', using_expression => 'upper(v)');
ALTER TABLE hidden NO FORCE ROW LEVEL SECURITY;
-- Triggers of the table run on the path of the caller.
CREATE TABLE seen (id int);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER see BEFORE UPDATE ON hidden FOR EACH ROW EXECUTE FUNCTION see();
CALL prism_crypt.migrate_column('hidden', 'w', 'encrypted_text', using_expression => 'upper(v)');
SELECT id, w::text, (SELECT count(*) FROM seen WHERE seen.id = hidden.id) AS seen FROM hidden WHERE id IN (1, 30) ORDER BY id;
INSERT INTO hidden VALUES (31, 'value 31', 'new');
ALTER TABLE hidden FORCE ROW LEVEL SECURITY;
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
ALTER TABLE hidden NO FORCE ROW LEVEL SECURITY;
CALL prism_crypt.rollback_migration(:migration);

-- Decrypting takes whole values or none: a type with a length does not cut them, and no message quotes them.
\set VERBOSITY default
CREATE DOMAIN short AS varchar(5);
CREATE TABLE long (id int, v encrypted_text);
INSERT INTO long VALUES (1, 'secret-value');
CALL prism_crypt.decrypt_column('long', 'v', 'varchar(5)', method => 'rewrite');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.decrypt_column('long', 'v', 'char(5)', method => 'rewrite');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.decrypt_column('long', 'v', 'short', method => 'rewrite');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.decrypt_column('long', 'v', 'integer', method => 'rewrite');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.decrypt_column('long', 'v', 'regclass', method => 'rewrite');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.decrypt_column('long', 'v', 'varchar(5)', method => 'online');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.decrypt_column('long', 'v', 'short', method => 'online');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
SELECT id, v::text FROM long;
UPDATE long SET v = '10101';
CALL prism_crypt.decrypt_column('long', 'v', 'bit(5)', method => 'rewrite');
SELECT v FROM long;
-- An expression that gives null for a value would lose it.
CREATE TABLE nulls (id int, v text);
INSERT INTO nulls VALUES (1, 'good'), (2, 'bad'), (3, NULL);
CALL prism_crypt.migrate_column('nulls', 'v', 'encrypted_text', using_expression => $$nullif(v, 'bad')$$, method => 'rewrite');
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.migrate_column('nulls', 'v', 'encrypted_text', using_expression => $$nullif(v, 'bad')$$, method => 'online', keep_plaintext => false);
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.rollback_migration(:migration);
CALL prism_crypt.migrate_column('nulls', 'v', 'encrypted_text', using_expression => $$nullif(v, 'bad')$$, method => 'online');
SELECT id, v::text, prism_crypt_old_v FROM nulls ORDER BY id;
SELECT max(id) AS migration FROM prism_crypt.migrations \gset
CALL prism_crypt.finish_migration(:migration) \g /dev/null
UPDATE nulls SET prism_crypt_old_v = NULL WHERE v IS NULL AND prism_crypt_old_v IS NOT NULL;
CALL prism_crypt.finish_migration(:migration) \g /dev/null
RESET ROLE;
DROP OWNED BY regress_owner, regress_app, regress_other, regress_third;
DROP ROLE regress_owner, regress_app, regress_other, regress_third;
