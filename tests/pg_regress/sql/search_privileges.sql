-- Who can tell a right guess at a value from a wrong one: those with the right to search, and nobody else.
CALL regress.fresh();
CREATE TABLE patient (id int, ssn encrypted_text('tax_id', 'searchable'), note encrypted_text, kind text);
CREATE UNIQUE INDEX patient_ssn ON patient (ssn encrypted_text_unique_ops);
CREATE INDEX patient_hash ON patient USING hash (ssn);
INSERT INTO patient VALUES (1, 'secret', 'secret', 'a'), (2, 'other', 'other', 'b');
CREATE TABLE by_note (note encrypted_text);
SET client_min_messages = error;
CREATE UNIQUE INDEX by_note_note ON by_note (note encrypted_text_unique_ops);
CREATE TABLE by_hash (note encrypted_text, EXCLUDE USING hash (note WITH =));
RESET client_min_messages;
INSERT INTO by_note VALUES ('secret');
INSERT INTO by_hash VALUES ('secret');
CREATE TABLE parted (note encrypted_text) PARTITION BY HASH (note);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE checked (note encrypted_text CHECK (note <> 'secret'));
CREATE TABLE policed (note encrypted_text);
INSERT INTO policed VALUES ('secret');
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON policed USING (note = current_setting('regress.guess'));
CREATE VIEW found AS SELECT id, note, note = current_setting('regress.guess') AS is_it FROM patient;
CREATE DOMAIN searchable_mail AS encrypted_text('searchable');
CREATE TYPE pair AS (id int, v encrypted_text('searchable'));
GRANT ALL ON ALL TABLES IN SCHEMA public TO regress_prism_app, regress_prism_reader, regress_prism_monitor;
CREATE TABLE attack (n serial, statement text);
-- ? is the guess. What a statement gives, or its error, must not depend on it.
INSERT INTO attack (statement) VALUES
  ('SELECT count(*) FROM patient WHERE ssn = ?'), ('SELECT count(*) FROM patient WHERE ssn = ?::text'), ('SELECT count(*) FROM patient WHERE ?::name = note'),
  ('SELECT count(*) FROM patient WHERE ssn <> ?'), ('SELECT count(*) FROM patient WHERE note IN (?, ''x'')'), ('SELECT count(*) FROM patient WHERE note = ANY (ARRAY[?, ''x''])'),
  ('SELECT count(*) FROM patient WHERE note IS NOT DISTINCT FROM ?'), ('SELECT count(nullif(note, ?)) FROM patient'), ('SELECT CASE note WHEN ? THEN 1 ELSE 2 END FROM patient WHERE id = 1'),
  ('SELECT count(*) FROM patient JOIN (VALUES (?::text)) AS v (t) ON note = t'), ('SELECT count(*) FROM patient JOIN (VALUES (encrypt_field(?))) AS v (t) ON note = t'),
  ('SELECT count(*) FROM patient WHERE note IN (SELECT ?::text)'), ('SELECT count(*) FROM patient WHERE note NOT IN (SELECT encrypt_field(?))'),
  ('SELECT count(*) FROM patient WHERE ARRAY[note] = ARRAY[encrypt_field(?)]'), ('SELECT count(*) FROM patient WHERE ARRAY[ssn] @> ARRAY[encrypt_field(?)]'), ('SELECT count(*) FROM patient WHERE ARRAY[note] && ARRAY[encrypt_field(?)]'),
  ('SELECT array_position(ARRAY[note], encrypt_field(?)) FROM patient WHERE id = 1'), ('SELECT cardinality(array_remove(ARRAY[ssn], encrypt_field(?))) FROM patient WHERE id = 1'),
  ('SELECT array_positions(array_agg(note), encrypt_field(?)) FROM patient'), ('SELECT array_replace(ARRAY[note], encrypt_field(?), NULL) = ARRAY[NULL]::encrypted_text[] FROM patient WHERE id = 1'),
  ('SELECT ROW(note) = ROW(encrypt_field(?)) FROM patient WHERE id = 1'), ('SELECT ROW(note)::record = ROW(encrypt_field(?))::record FROM patient WHERE id = 1'),
  ('SELECT (SELECT p FROM patient AS p WHERE id = 1) = ROW(1, encrypt_field(?), encrypt_field(''secret''), ''a'')::patient'), ('SELECT ROW(1, ssn)::pair = ROW(1, encrypt_field(?))::pair FROM patient WHERE id = 1'),
  ('SELECT hash_array(ARRAY[note]) = hash_array(ARRAY[encrypt_field(?)]) FROM patient WHERE id = 1'), ('SELECT hash_record(ROW(note)) = hash_record(ROW(encrypt_field(?))) FROM patient WHERE id = 1'),
  ('SELECT hash_array_extended(ARRAY[ssn], 1) = hash_array_extended(ARRAY[encrypt_field(?)], 1) FROM patient WHERE id = 1'),
  ('SELECT count(*) FROM (SELECT note FROM patient UNION SELECT encrypt_field(?)) AS u'), ('SELECT count(*) FROM (SELECT DISTINCT note FROM (SELECT note FROM patient UNION ALL SELECT encrypt_field(?)) AS d) AS u'),
  ('SELECT count(*) FROM (SELECT note FROM patient INTERSECT SELECT encrypt_field(?)) AS u'), ('SELECT count(*) FROM (SELECT ARRAY[note] FROM patient EXCEPT SELECT ARRAY[encrypt_field(?)]) AS u'),
  ('SELECT max(n) FROM (SELECT count(*) AS n FROM (SELECT note FROM patient UNION ALL SELECT encrypt_field(?)) AS d GROUP BY note) AS g'),
  ('SELECT encrypted_text_eq(note, ?::text) FROM patient WHERE id = 1'), ('SELECT encrypted_text_cmp(note, encrypt_field(?)) = 0 FROM patient WHERE id = 1'), ('SELECT encrypted_text_hash(note) = encrypted_text_hash_text(?) FROM patient WHERE id = 1'),
  ('SELECT width_bucket(encrypt_field(?), ARRAY[note]) FROM patient WHERE id = 1'), ('SELECT note LIKE ? FROM patient WHERE id = 1'), ('SELECT min(note) = ? FROM patient WHERE id = 1'),
  -- Making a tag, to hold it against those that can be seen.
  ('SELECT substr((?::encrypted_text(''searchable''))::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1)'), ('SELECT substr((?::text::encrypted_text(''searchable''))::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1)'),
  ('SELECT substr((encrypt_field(?)::encrypted_text(''searchable''))::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1)'), ('SELECT substr((?::text::searchable_mail)::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1)'),
  ('SELECT substr((ARRAY[?]::searchable_mail[])[1]::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1)'), ('SELECT substr((format(''(1,%s)'', ?)::pair).v::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1)'),
  ('SELECT substr(v::bytea, 20, 17) = (SELECT substr(ssn::bytea, 20, 17) FROM patient WHERE id = 1) FROM json_to_record(json_build_object(''v'', ?)) AS r (v encrypted_text(''searchable''))'),
  ('WITH i AS (INSERT INTO patient (ssn) VALUES (?) ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM i'), ('WITH i AS (INSERT INTO patient (ssn) VALUES (?::text) ON CONFLICT (ssn) DO UPDATE SET id = 9 RETURNING id) SELECT sum(id) FROM i'),
  ('WITH u AS (UPDATE patient SET ssn = ? WHERE id = 2 RETURNING 1) SELECT count(*) FROM u'),
  ('CREATE TEMP TABLE mine (v encrypted_text(''searchable'') DEFAULT ?); INSERT INTO mine DEFAULT VALUES; DO $d$ BEGIN IF (SELECT count(DISTINCT substr(v::bytea, 20, 17)) FROM (SELECT v FROM mine UNION ALL SELECT ssn FROM patient WHERE id = 1) AS u) = 1 THEN RAISE EXCEPTION ''same''; END IF; END $d$'),
  ('CREATE TEMP TABLE mine AS SELECT encrypt_field(?) AS v; ALTER TABLE mine ALTER v TYPE encrypted_text(''searchable''); DO $d$ BEGIN IF (SELECT count(DISTINCT substr(v::bytea, 20, 17)) FROM (SELECT v FROM mine UNION ALL SELECT ssn FROM patient WHERE id = 1) AS u) = 1 THEN RAISE EXCEPTION ''same''; END IF; END $d$'),
  -- Indexes, constraints and partitions of one's own, or of others.
  ('CREATE TEMP TABLE mine AS SELECT note FROM patient; CREATE UNIQUE INDEX ON mine (note encrypted_text_unique_ops); INSERT INTO mine VALUES (?)'), ('CREATE TEMP TABLE mine AS SELECT ssn FROM patient; CREATE UNIQUE INDEX ON mine (ssn encrypted_text_unique_ops); INSERT INTO mine SELECT encrypt_field(?)'),
  ('CREATE TEMP TABLE mine (v encrypted_text, EXCLUDE USING hash (v WITH =)); INSERT INTO mine SELECT ssn FROM patient; INSERT INTO mine VALUES (?)'), ('CREATE TEMP TABLE mine AS SELECT note AS v FROM patient UNION ALL SELECT ?; CREATE UNIQUE INDEX ON mine (v encrypted_text_unique_ops)'),
  ('CREATE TEMP TABLE mine AS SELECT ARRAY[ssn] AS v FROM patient; ALTER TABLE mine ADD EXCLUDE USING hash (v WITH =); INSERT INTO mine SELECT ARRAY[encrypt_field(?)]'), ('CREATE TEMP TABLE mine (v encrypted_text CHECK (v <> ?)); INSERT INTO mine SELECT note FROM patient'),
  ('INSERT INTO by_note VALUES (?)'), ('WITH i AS (INSERT INTO by_note VALUES (?) ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM i'), ('INSERT INTO by_hash VALUES (?)'), ('INSERT INTO checked VALUES (?)'),
  ('CREATE TABLE mine (v encrypted_text) PARTITION BY HASH (v); CREATE TABLE mine_0 PARTITION OF mine FOR VALUES WITH (MODULUS 2, REMAINDER 0); INSERT INTO mine VALUES (?)'), ('INSERT INTO parted VALUES (?)'), ('EXPLAIN SELECT * FROM parted WHERE note = ?'),
  ('SELECT bool_and(satisfies_hash_partition(''parted''::regclass, m, r, note) = satisfies_hash_partition(''parted''::regclass, m, r, encrypt_field(?))) FROM patient, unnest(ARRAY[499, 503, 509, 521]) AS m, generate_series(0, m - 1) AS r WHERE id = 1'),
  ('SELECT count(*) FROM found WHERE is_it AND set_config(''regress.guess'', ?, true) <> '''''), ('SELECT set_config(''regress.guess'', ?, true) || (SELECT count(*) FROM policed)'),
  ('SELECT blind_index(?, NULL) = blind_index(''secret'', NULL)');
CREATE FUNCTION told(role_ text) RETURNS TABLE (result text, statement text) LANGUAGE plpgsql SET client_min_messages = error AS $$
DECLARE
  guess text; outcome text; a attack;
BEGIN
  FOR a IN SELECT * FROM attack ORDER BY n LOOP
    result := NULL;
    statement := a.statement;
    FOREACH guess IN ARRAY ARRAY['secret', 'wrong'] LOOP
      BEGIN
        EXECUTE format('SET LOCAL ROLE %I', role_);
        PERFORM set_config('regress.guess', guess, true);
        IF a.statement ~ '^(SELECT|WITH)' THEN
          EXECUTE replace(a.statement, '?', quote_literal(guess)) INTO outcome;
        ELSE
          EXECUTE replace(a.statement, '?', quote_literal(guess));
          outcome := 'done';
        END IF;
        RAISE division_by_zero;
      EXCEPTION WHEN division_by_zero THEN
      WHEN OTHERS THEN outcome := SQLSTATE || ' ' || SQLERRM;
      END;
      result := CASE WHEN result IS NULL THEN coalesce(outcome, 'null') WHEN result IS DISTINCT FROM coalesce(outcome, 'null') THEN format('TOLD: %s or %s', result, outcome) ELSE result END;
    END LOOP;
    RETURN NEXT;
  END LOOP;
END $$;
\pset format unaligned
\pset tuples_only on
-- Nobody: no right, and the right to decrypt alone, which takes what the implicit cast gives.
SELECT t.result, t.statement FROM told('regress_prism_app') AS t;
SELECT prism_crypt.grant_access('regress_prism_reader', 'decrypt');
SELECT t.result, t.statement FROM told('regress_prism_reader') AS t WHERE t.result !~ '^42501';
-- All of them work for a role that may search: otherwise they would prove nothing. (Two give no row; where a value goes is chance.)
SELECT prism_crypt.grant_access('regress_prism_monitor', 'search');
SELECT t.result, t.statement FROM told('regress_prism_monitor') AS t WHERE t.result !~ '^TOLD' AND t.statement !~ 'MODULUS 2';
SELECT count(*) FROM told('regress_prism_monitor') AS t WHERE t.result ~ '^TOLD' AND t.statement !~ 'MODULUS 2';
SELECT prism_crypt.revoke_access('regress_prism_monitor', 'search');
SELECT t.result, t.statement FROM told('regress_prism_monitor') AS t WHERE t.result !~ '^42501';
-- The right is that of all its functions: some of them are not enough, by none of these ways.
GRANT EXECUTE ON FUNCTION encrypted_text_eq(encrypted_text, encrypted_text), encrypted_text_eq(encrypted_text, text), encrypted_text_hash(encrypted_text), encrypted_text_cmp(encrypted_text, encrypted_text) TO regress_prism_monitor;
SELECT t.result, t.statement FROM told('regress_prism_monitor') AS t WHERE t.result !~ '^42501';
\pset tuples_only off
\pset format aligned
