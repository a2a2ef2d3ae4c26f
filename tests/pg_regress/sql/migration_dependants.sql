-- What touches a column: dropped, and made again for a column of another type that takes its name. Only the type differs then.
CALL regress.fresh();
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA app; CREATE SCHEMA other;
GRANT USAGE, CREATE ON SCHEMA app, other TO PUBLIC;
\set email 'public.encrypted_text(''email'', ''searchable'')'

-- Everything in the two schemas, as text. What differs with the type of a column is left out: casts, collations. So are names that
-- PostgreSQL makes with an OID, and NOT NULL, which is a constraint from 18 on.
CREATE FUNCTION everything() RETURNS SETOF text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  WITH c AS (
    SELECT c.*, c.oid AS o, prism_crypt._qualified_name(c.oid) AS named FROM pg_class AS c
    WHERE c.relnamespace IN ('app'::regnamespace, 'other'::regnamespace) AND c.relkind <> 't' AND c.relname NOT LIKE 'prism\_crypt\_%'
  ), things AS (
    SELECT format('class %s %s %s %s %s %s %s', named, relkind, relowner::regrole, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(relacl, acldefault('r', relowner))) AS a), reloptions, relispopulated, relreplident) AS thing FROM c
    UNION ALL SELECT format('column %s.%I %s %s %s %s %s %s', named, attname, CASE WHEN format_type(atttypid, atttypmod) LIKE '%encrypted_text%' THEN 'text' ELSE format_type(atttypid, atttypmod) END, attnotnull, pg_get_expr(adbin, adrelid),
        (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(attacl) AS x), (SELECT array_agg(x) FROM unnest(attoptions) AS x WHERE x LIKE 'n\_distinct%'), nullif(attstattarget, -1))
      FROM c JOIN pg_attribute AS a ON a.attrelid = c.o LEFT JOIN pg_attrdef AS d ON adrelid = attrelid AND adnum = a.attnum
      WHERE c.relkind NOT IN ('i', 'I') AND a.attnum > 0 AND NOT attisdropped AND attname NOT LIKE 'prism\_crypt\_%'
    UNION ALL SELECT format('view %s %s', named, pg_get_viewdef(o)) FROM c WHERE relkind IN ('v', 'm')
    UNION ALL SELECT format('index %s %s %s %s %s', named, pg_get_indexdef(o), indisclustered, indisreplident, indisvalid) FROM c JOIN pg_index ON indexrelid = o
    UNION ALL SELECT format('target of index %s %s %s', named, attnum, attstattarget) FROM c JOIN pg_attribute ON attrelid = c.o WHERE relkind = 'i' AND attstattarget >= 0
    UNION ALL SELECT format('constraint %I on %s %s %s', conname, named, pg_get_constraintdef(x.oid), convalidated) FROM c JOIN pg_constraint AS x ON conrelid = o WHERE contype NOT IN ('t', 'n') AND conname NOT LIKE 'prism\_crypt\_%'
    UNION ALL SELECT format('trigger %s %s', pg_get_triggerdef(t.oid), tgenabled) FROM c JOIN pg_trigger AS t ON tgrelid = o WHERE NOT tgisinternal
    UNION ALL SELECT format('policy %I on %s %s %s %s %s %s', polname, named, polpermissive, polcmd, polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM c JOIN pg_policy ON polrelid = o
    UNION ALL SELECT format('rule %s %s', pg_get_ruledef(r.oid), ev_enabled) FROM c JOIN pg_rewrite AS r ON ev_class = o
    UNION ALL SELECT format('statistics %s %s %s', pg_get_statisticsobjdef(s.oid), stxowner::regrole, stxstattarget) FROM pg_statistic_ext AS s JOIN c ON stxrelid = o
    UNION ALL SELECT format('function %s %s', pg_get_functiondef(p.oid), proacl) FROM pg_proc AS p WHERE pronamespace IN ('app'::regnamespace, 'other'::regnamespace)
    UNION ALL SELECT format('comment %s %s', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description
      WHERE pg_describe_object(classoid, objoid, objsubid) ~ '\m(app|other)\.' AND pg_describe_object(classoid, objoid, objsubid) !~ 'prism_crypt_'
  )
  SELECT regexp_replace(regexp_replace(thing, '\(((\w+\.)?(email|mail))\)::text', '\1', 'g'), ' COLLATE \"(C|POSIX)\"', '', 'g') FROM things
$$;
CREATE TABLE before (thing text);
CREATE VIEW difference AS
  (SELECT '-' AS d, thing FROM before EXCEPT ALL SELECT '-', everything()) UNION ALL (SELECT '+', everything() EXCEPT ALL SELECT '+', thing FROM before);

-- A swap by renaming, in one transaction.
CREATE PROCEDURE swap(relation regclass, column_name name, new_type text, conversion text DEFAULT NULL) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  twin CONSTANT name := prism_crypt._side_name('prism_crypt_new_', column_name);
  kept CONSTANT name := prism_crypt._side_name('prism_crypt_old_', column_name);
  dependants prism_crypt._dependant[];
  twins prism_crypt._twin_definition[];
  statement text;
BEGIN
  dependants := ARRAY(SELECT d FROM prism_crypt._dependants(relation, column_name, new_type) AS d);
  twins := ARRAY(SELECT d FROM prism_crypt._twin_definitions(relation, column_name, new_type, twin) AS d);
  EXECUTE format('ALTER TABLE %s ADD %I %s', relation, twin, new_type);
  SET LOCAL session_replication_role = replica;
  EXECUTE format('UPDATE %s SET %I = %s', relation, twin, coalesce(conversion, quote_ident(column_name)));
  SET LOCAL session_replication_role = origin;
  FOR statement IN SELECT s FROM unnest(twins) AS t, unnest(t.build) AS s ORDER BY t.ordinal LOOP
    EXECUTE replace(statement, 'CONCURRENTLY ', '');
  END LOOP;
  PERFORM prism_crypt._execute_all(d.drops) FROM (SELECT * FROM unnest(dependants) ORDER BY ordinal OFFSET 0) AS d;
  EXECUTE format('ALTER TABLE %s RENAME %I TO %I', relation, column_name, kept);
  EXECUTE format('ALTER TABLE %s RENAME %I TO %I', relation, twin, column_name);
  PERFORM prism_crypt._execute_all(d.swap) FROM (SELECT * FROM unnest(twins) ORDER BY kind = 'not null', ordinal OFFSET 0) AS d;
  PERFORM prism_crypt._execute_all(d.creates) FROM (SELECT * FROM unnest(dependants) ORDER BY ordinal DESC OFFSET 0) AS d;
  SET CONSTRAINTS ALL IMMEDIATE;
  PERFORM prism_crypt._execute_all(d.after) FROM (SELECT * FROM unnest(twins) ORDER BY ordinal OFFSET 0) AS d;
  -- Only its own indexes are left at the old column.
  IF EXISTS (SELECT FROM prism_crypt._dependant_graph(relation, kept)) THEN
    RAISE WARNING 'something is left at the old column';
  END IF;
END $$;
-- A rewrite.
CREATE PROCEDURE rewrite(relation regclass, column_name name, new_type text) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  dependants prism_crypt._dependant[];
  twins prism_crypt._twin_definition[];
BEGIN
  dependants := ARRAY(SELECT d FROM prism_crypt._dependants(relation, column_name, new_type) AS d);
  twins := ARRAY(SELECT d FROM prism_crypt._twin_definitions(relation, column_name, new_type, 'x') AS d);
  PERFORM prism_crypt._execute_all(d.drops) FROM (SELECT * FROM unnest(dependants) ORDER BY ordinal OFFSET 0) AS d;
  PERFORM prism_crypt._execute_all(d.rewrite_drops) FROM unnest(twins) AS d;
  EXECUTE format('ALTER TABLE %s ALTER %I TYPE %s USING %I::text', relation, column_name, new_type, column_name);
  PERFORM prism_crypt._execute_all(d.rewrite_creates) FROM unnest(twins) AS d;
  PERFORM prism_crypt._execute_all(d.creates) FROM (SELECT * FROM unnest(dependants) ORDER BY ordinal DESC OFFSET 0) AS d;
END $$;

-- A column with everything.
CREATE TABLE app.person (
  id int PRIMARY KEY, gone int, email text COLLATE "C" NOT NULL DEFAULT 'nobody@example.org', name text, note text,
  CONSTRAINT has_at CHECK (email LIKE '%@%'),
  CONSTRAINT mail_once UNIQUE (email) DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE app.person DROP COLUMN gone, ADD CONSTRAINT short CHECK (length(email) < 100) NO INHERIT NOT VALID;
COMMENT ON COLUMN app.person.email IS 'where to write';
COMMENT ON CONSTRAINT has_at ON app.person IS 'has an at';
COMMENT ON CONSTRAINT mail_once ON app.person IS 'once';
ALTER TABLE app.person ALTER email SET (n_distinct = -1), ALTER email SET STATISTICS 200;
ALTER TABLE app.person OWNER TO regress_prism_rotator;
CREATE INDEX "By Email" ON app.person (name, email COLLATE "POSIX") INCLUDE (id) WITH (fillfactor = 70) WHERE note IS NOT NULL;
CREATE INDEX partial ON app.person (id) WHERE email IS NOT NULL;
CREATE INDEX collated ON app.person (email COLLATE "POSIX");
COMMENT ON INDEX app.collated IS 'collated';
ALTER TABLE app.person CLUSTER ON collated;
CREATE INDEX hashed ON app.person USING hash (email);
CREATE INDEX expression ON app.person (upper(name), email);
ALTER INDEX app.expression ALTER COLUMN 1 SET STATISTICS 17;
CREATE UNIQUE INDEX identifying ON app.person (email, id);
ALTER TABLE app.person REPLICA IDENTITY USING INDEX identifying;
CREATE UNIQUE INDEX minds_nulls ON app.person (id) WHERE email IS NULL;
SET ROLE regress_prism_rotator;
GRANT SELECT (email), UPDATE (email) ON app.person TO regress_prism_app WITH GRANT OPTION;
SET ROLE regress_prism_app;
GRANT SELECT (email) ON app.person TO regress_prism_reader;
RESET ROLE;
CREATE STATISTICS app.mail_only (dependencies) ON name, id FROM app.person;
CREATE FUNCTION app.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER of_email BEFORE UPDATE OF email ON app.person FOR EACH ROW EXECUTE FUNCTION app.fired();
CREATE TRIGGER when_email AFTER UPDATE ON app.person FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email) EXECUTE FUNCTION app.fired('an argument');
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.person DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.email <> '') EXECUTE FUNCTION app.fired();
CREATE TRIGGER unconcerned AFTER INSERT ON app.person FOR EACH ROW EXECUTE FUNCTION app.fired();
ALTER TABLE app.person DISABLE TRIGGER of_email, ENABLE ALWAYS TRIGGER when_email, ENABLE REPLICA TRIGGER late;
COMMENT ON TRIGGER of_email ON app.person IS 'of email';
CREATE POLICY own ON app.person AS RESTRICTIVE FOR UPDATE TO regress_prism_reader, regress_prism_app USING (email = current_user) WITH CHECK (email <> 'x');
CREATE POLICY adds ON app.person FOR INSERT WITH CHECK (email LIKE '%.org');
COMMENT ON POLICY own ON app.person IS 'own';
CREATE TABLE app.log (id int, mail text);
CREATE POLICY logged ON app.log USING (EXISTS (SELECT FROM app.person AS p WHERE p.email = mail));
CREATE RULE keep AS ON DELETE TO app.person DO ALSO INSERT INTO app.log VALUES (OLD.id, OLD.email);
COMMENT ON RULE keep ON app.person IS 'keeps';
ALTER TABLE app.person DISABLE RULE keep;
CREATE VIEW app.mails WITH (security_barrier = true) AS SELECT id, email, lower(email) AS low FROM app.person WHERE email LIKE '%@%' WITH LOCAL CHECK OPTION;
CREATE VIEW app.plain AS SELECT id, name FROM app.person;
CREATE VIEW other.over AS SELECT m.email, p.name FROM app.mails AS m JOIN app.person AS p USING (id, email);
CREATE RECURSIVE VIEW other.chain (email, n) AS SELECT email, 1 FROM other.over UNION ALL SELECT c.email, n + 1 FROM chain AS c WHERE n < 2;
ALTER VIEW app.mails ALTER email SET DEFAULT 'view default';
COMMENT ON VIEW app.mails IS 'a view';
COMMENT ON COLUMN app.mails.low IS 'in lower case';
ALTER VIEW app.mails OWNER TO regress_prism_rotator;
SET ROLE regress_prism_rotator;
GRANT SELECT ON app.mails TO regress_prism_reader;
GRANT UPDATE (email) ON app.mails TO regress_prism_app;
REVOKE TRUNCATE ON app.mails FROM regress_prism_rotator;
RESET ROLE;
CREATE FUNCTION app.instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON other.over FOR EACH ROW EXECUTE FUNCTION app.instead();
COMMENT ON TRIGGER instead ON other.over IS 'instead';
CREATE RULE through AS ON UPDATE TO other.over DO INSTEAD UPDATE app.person SET email = NEW.email WHERE email = OLD.email;
CREATE MATERIALIZED VIEW app.counted WITH (fillfactor = 50) AS SELECT email, count(*) AS n FROM other.over GROUP BY email;
CREATE UNIQUE INDEX counted_email ON app.counted (email);
COMMENT ON INDEX app.counted_email IS 'of a materialized view';
ALTER MATERIALIZED VIEW app.counted CLUSTER ON counted_email;
ALTER MATERIALIZED VIEW app.counted ALTER n SET STATISTICS 7;
ALTER MATERIALIZED VIEW app.counted OWNER TO regress_prism_rotator;
CREATE MATERIALIZED VIEW app.unfilled AS SELECT n FROM app.counted WITH NO DATA;
CREATE FUNCTION app.find(wanted text DEFAULT 'x') RETURNS SETOF int LANGUAGE sql STABLE BEGIN ATOMIC SELECT id FROM app.mails WHERE email = wanted; END;
CREATE FUNCTION app.number() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM app.person WHERE email <> ''; END;
GRANT EXECUTE ON FUNCTION app.number() TO regress_prism_reader;
CREATE FUNCTION app.first(b int DEFAULT 1) RETURNS text LANGUAGE sql RETURN (SELECT min(email) FROM app.mails WHERE id = b);
CREATE PROCEDURE app.clear(n int) LANGUAGE sql BEGIN ATOMIC UPDATE app.person SET email = email WHERE id = n; SELECT 1; END;
CREATE VIEW app.numbers AS SELECT app.number();
INSERT INTO app.person (id, email, name, note) SELECT n, 'p' || n || '@example.org', 'n' || n, 'x' FROM generate_series(1, 100) AS n;
-- The role needs that for the materialized view that it owns.
GRANT SELECT ON other.over TO regress_prism_rotator;
SELECT prism_crypt.grant_access('regress_prism_rotator', 'decrypt'), prism_crypt.grant_access('regress_prism_rotator', 'search');
REFRESH MATERIALIZED VIEW app.counted;
-- New views are given away.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_prism_app;

SELECT kind, identity, blocks, note FROM prism_crypt._dependants('app.person', 'email', :'email');
INSERT INTO before SELECT everything();
SELECT count(*) > 80 AS enough FROM before;
BEGIN;
CALL swap('app.person', 'email', :'email');
SELECT * FROM difference ORDER BY 2, 1;
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'app.person'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT count(*), min(email::text) FROM other.over;
SELECT count(*), sum(n) FROM app.counted;
INSERT INTO app.person (id) VALUES (1000);
SELECT email::text, prism_crypt_old_email FROM app.person WHERE id = 1000;
SELECT app.number(), app.find('p7@example.org');
-- And back.
ALTER TABLE app.person DROP COLUMN prism_crypt_old_email;
CALL swap('app.person', 'email', 'text');
SELECT * FROM difference ORDER BY 2, 1;
ROLLBACK;
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
CALL rewrite('app.person', 'email', :'email');
SELECT * FROM difference ORDER BY 2, 1;
CALL rewrite('app.person', 'email', 'text');
SELECT * FROM difference ORDER BY 2, 1;
ROLLBACK;
-- By the owner, who has no rights to the views of others, and then has.
SET ROLE regress_prism_rotator;
SELECT kind, identity, blocks, unblock FROM prism_crypt._dependants('app.person', 'email', :'email') WHERE blocks IS NOT NULL;
RESET ROLE;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_prism_app;
DROP SCHEMA app, other CASCADE;
CREATE SCHEMA app; CREATE SCHEMA other;

-- Partitions of partitions, with columns in another order, an index and a default of their own.
CREATE TABLE app.ev (k int, email text NOT NULL, n text, PRIMARY KEY (k, email), UNIQUE (email, k) DEFERRABLE) PARTITION BY LIST (k);
CREATE TABLE app.ev1 PARTITION OF app.ev FOR VALUES IN (1);
CREATE TABLE other.ev2 (email text NOT NULL, n text, k int NOT NULL, gone int, CHECK (email <> 'x'));
ALTER TABLE other.ev2 DROP COLUMN gone;
ALTER TABLE app.ev ATTACH PARTITION other.ev2 FOR VALUES IN (2);
CREATE TABLE app.ev3 PARTITION OF app.ev FOR VALUES IN (3, 4) PARTITION BY LIST (k);
CREATE TABLE app.ev33 PARTITION OF app.ev3 FOR VALUES IN (3);
CREATE INDEX mails ON app.ev (email) WHERE n IS NOT NULL;
CREATE INDEX only_one ON app.ev1 (email COLLATE "POSIX", n);
ALTER TABLE app.ev1 CLUSTER ON only_one;
ALTER TABLE app.ev ADD CONSTRAINT has_at CHECK (email LIKE '%@%');
ALTER TABLE other.ev2 ALTER email SET DEFAULT 'ev2@example.org';
CREATE FUNCTION app.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER of_all BEFORE UPDATE OF email ON app.ev FOR EACH ROW EXECUTE FUNCTION app.fired();
CREATE TRIGGER of_one BEFORE UPDATE OF email ON app.ev1 FOR EACH ROW EXECUTE FUNCTION app.fired();
ALTER TABLE app.ev1 DISABLE TRIGGER of_all;
CREATE VIEW app.v AS SELECT k, email FROM other.ev2 UNION ALL SELECT k, email FROM app.ev;
CREATE POLICY p ON app.ev33 USING (email <> 'y');
INSERT INTO app.ev SELECT i % 4, 'a@' || i, 'n' FROM generate_series(1, 100) AS i WHERE i % 4 > 0;
TRUNCATE before;
INSERT INTO before SELECT everything();
SELECT ordinal, kind, member, parent::regclass, build, swap, after, blocks FROM prism_crypt._twin_definitions('app.ev', 'email', :'email', 'prism_crypt_new_email') WHERE kind <> 'not null' \gx
BEGIN;
CALL swap('app.ev', 'email', :'email');
SELECT * FROM difference ORDER BY 2, 1;
SELECT count(*), count(prism_crypt_old_email) FROM app.ev;
ROLLBACK;
BEGIN;
CALL rewrite('app.ev', 'email', :'email');
SELECT * FROM difference ORDER BY 2, 1;
ROLLBACK;
DROP SCHEMA app, other CASCADE;
CREATE SCHEMA app; CREATE SCHEMA other;

-- Children, one of whom has two parents; a domain that does not allow nulls; odd names.
CREATE DOMAIN app.address AS text CHECK (value IS NOT NULL AND value <> '');
CREATE TABLE app."P %I.""\" (id int, "e \. ""(%I" app.address COLLATE "C" DEFAULT 'it''s \ %I', "user" text);
CREATE TABLE app.aside ("user" text);
CREATE TABLE other."P %I.""\" (extra int, CHECK ("e \. ""(%I" <> '\''"%I')) INHERITS (app."P %I.""\", app.aside);
CREATE UNIQUE INDEX "i USING btree ("" ON" ON app."P %I.""\" ("e \. ""(%I" COLLATE "POSIX", id);
CREATE INDEX averyveryveryverylongname_äöüäöüäöüäöüäöüäöü ON other."P %I.""\" ("e \. ""(%I") WHERE "e \. ""(%I" IS NOT NULL;
CREATE VIEW app."V ""v" AS SELECT a."e \. ""(%I", b."e \. ""(%I" AS "B", a."e \. ""(%I" LIKE b."e \. ""(%I" AS l FROM app."P %I.""\" AS a, other."P %I.""\" AS b;
COMMENT ON COLUMN app."P %I.""\"."e \. ""(%I" IS 'it''s \ %I';
INSERT INTO other."P %I.""\" VALUES (1, 'a', 'u', 2);
SELECT kind, old_name, new_name, build, swap, after, rewrite_creates, note FROM prism_crypt._twin_definitions('app."P %I.""\"', 'e \. "(%I', :'email', 'prism_crypt_new_x') \gx
BEGIN;
CALL swap('app."P %I.""\"', 'e \. "(%I', :'email');
INSERT INTO other."P %I.""\" VALUES (2);
SELECT id, "e \. ""(%I"::text, "prism_crypt_old_e \. ""(%I" FROM app."P %I.""\" ORDER BY id;
SELECT * FROM app."V ""v" LIMIT 0;
ROLLBACK;
DROP SCHEMA app, other CASCADE;
CREATE SCHEMA app; CREATE SCHEMA other;

-- What is not carried over.
CREATE TABLE other.referenced (email text PRIMARY KEY);
CREATE TABLE app.t (id serial, email text UNIQUE REFERENCES other.referenced, low text GENERATED ALWAYS AS (lower(email)) STORED, n text,
  EXCLUDE USING btree (email WITH =));
CREATE TABLE app.child (extra int) INHERITS (app.t);
CREATE TABLE other.referring (mail text REFERENCES app.t (email));
CREATE TABLE other.holding (r app.t[]);
CREATE DOMAIN other.rowish AS app.t;
CREATE TABLE other.holding_domain (r other.rowish);
CREATE INDEX low ON app.t (lower(email));
CREATE INDEX equal ON app.t (id) WHERE email = 'x';
CREATE INDEX pattern ON app.child (email text_pattern_ops);
CREATE VIEW app.v AS SELECT email FROM app.t;
CREATE FUNCTION app.takes(app.v) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE other.holding_view (r app.v);
CREATE VIEW app.by_position AS SELECT x.b FROM app.t AS x (a, b);
CREATE VIEW app.sorted AS SELECT id FROM app.t ORDER BY email;
CREATE VIEW app.converted AS SELECT max(email), email || 'x' AS y, email::varchar(3), email IN ('a', 'b') AS i, email ~ 'x' AS m, CASE email WHEN 'a' THEN 1 END AS c FROM app.t GROUP BY email;
CREATE FUNCTION app.everybody() RETURNS SETOF app.t LANGUAGE sql AS 'SELECT * FROM app.t';
CREATE VIEW app.through_function AS SELECT email FROM app.everybody();
CREATE STATISTICS app.together ON id, email FROM app.t;
CREATE TEMP VIEW temporary AS SELECT email FROM app.t;
SET client_min_messages = error;
CREATE PUBLICATION regress_prism_all FOR TABLE app.t;
SET client_min_messages = warning;
SELECT kind, regexp_replace(identity, 'pg_temp_\d+', 'pg_temp') AS identity, blocks, regexp_replace(unblock, 'pg_temp_\d+', 'pg_temp') AS unblock, note
FROM prism_crypt._dependants('app.t', 'email', :'email') \gx
-- From the middle of a tree; a type without search tags; a partition key.
SELECT kind, identity, blocks FROM prism_crypt._dependants('app.child', 'email', 'public.encrypted_text(email)') WHERE kind IN ('inheritance', 'index');
SELECT kind, identity, blocks FROM prism_crypt._dependants('other.referenced', 'email', 'public.encrypted_text(email)');
CREATE TABLE app.keyed (id int, email text) PARTITION BY RANGE (lower(email), id);
SELECT kind, identity, blocks FROM prism_crypt._dependants('app.keyed', 'email', :'email');
SELECT kind, identity, blocks, unblock FROM prism_crypt._dependants('app.keyed', 'id', :'email');
DROP VIEW temporary;
-- Nothing is left behind, and nothing else is hidden by a copy.
SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema();
CREATE TEMP TABLE keyed (id int);
CALL regress.fails($$SELECT prism_crypt._dependants('app.keyed', 'id', 'public.encrypted_text')$$);
CALL regress.fails($$SELECT prism_crypt._dependants('app.t', 'nothing', 'public.encrypted_text')$$);
DROP PUBLICATION regress_prism_all;
-- Names beside others.
SELECT prism_crypt._side_name('prism_crypt_new_', 'short'), prism_crypt._side_name('prism_crypt_new_', repeat('ä', 30)::name), octet_length(prism_crypt._side_name('prism_crypt_new_', repeat('x', 63)::name)::text);
SELECT prism_crypt._side_name('prism_crypt_new_', repeat('x', 47)::name), prism_crypt._side_name('prism_crypt_new_', repeat('x', 48)::name);

-- Code of a table's owner runs with the owner's rights, also where a superuser asks.
DROP SCHEMA app, other CASCADE;
CREATE SCHEMA app;
GRANT USAGE, CREATE ON SCHEMA app TO PUBLIC;
SET ROLE regress_prism_owner;
CREATE TABLE app.t (id int, email text);
CREATE FUNCTION app.f(text, i int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF current_user <> 'regress_prism_owner' THEN
    RAISE EXCEPTION 'run by %', current_user;
  END IF;
  RETURN 'x';
END $$;
CREATE INDEX i ON app.t (email, app.f('x', 1)) WHERE app.f('x', 2) = 'x';
ALTER TABLE app.t ADD CONSTRAINT c CHECK (app.f('x', 3) <> email);
CREATE MATERIALIZED VIEW app.m AS SELECT email FROM app.t;
CREATE INDEX m_i ON app.m (email, app.f('x', 4));
RESET ROLE;
SELECT kind, identity, blocks FROM prism_crypt._dependants('app.t', 'email', :'email');
-- A role that has the owner's rights makes the copies as the owner, too.
CREATE ROLE regress_prism_member IN ROLE regress_prism_owner;
GRANT USAGE ON SCHEMA prism_crypt TO regress_prism_member;
SET SESSION AUTHORIZATION regress_prism_member;
SELECT kind, identity, blocks FROM prism_crypt._dependants('app.t', 'email', :'email');
SELECT current_user;
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_prism_member;
DROP ROLE regress_prism_member;
