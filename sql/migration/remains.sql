-- What still holds the plaintext of a column that was encrypted.

CREATE FUNCTION prism_crypt._find_remains(relations oid[], sample bytea[], OUT sampled integer, OUT found integer) RETURNS SETOF record
  LANGUAGE c VOLATILE STRICT ROWS 1 AS 'MODULE_PATHNAME', '_find_remains_wrapper';
COMMENT ON FUNCTION prism_crypt._find_remains(oid[], bytea[]) IS
  'How many of these envelopes have a long enough plaintext, and how many of those are in the files of relations. Internal';

-- The files of a table: its own, those of its TOAST table, and those of its indexes.
CREATE FUNCTION prism_crypt._files_of(relation regclass) RETURNS SETOF oid
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH tables AS (
    SELECT t.member FROM prism_crypt._table_tree($1) AS t WHERE t.relkind IN ('r', 'm')
    UNION ALL
    SELECT c.reltoastrelid FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member WHERE c.reltoastrelid <> 0
  )
  SELECT t.member FROM tables AS t
  UNION ALL
  SELECT i.indexrelid FROM tables AS t JOIN pg_index AS i ON i.indrelid = t.member
  JOIN pg_class AS c ON c.oid = i.indexrelid WHERE c.relkind = 'i'
$$;
COMMENT ON FUNCTION prism_crypt._files_of(regclass) IS 'Relations whose files hold values of a table. Internal';

-- Rows from all over the table, whether it was analyzed or not.
CREATE FUNCTION prism_crypt._sample_of(relation regclass, column_name name, sample_rows integer) RETURNS bytea[]
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  sample bytea[];
BEGIN
  EXECUTE format(
    'SELECT array_agg(s.v) FROM (SELECT %I::bytea AS v FROM %s WHERE %1$I IS NOT NULL ORDER BY random() LIMIT %3$s) AS s',
    column_name, prism_crypt._qualified_name(relation), sample_rows) INTO sample;
  RETURN coalesce(sample, '{}');
END $$;
COMMENT ON FUNCTION prism_crypt._sample_of(regclass, name, integer) IS 'Some values of an encrypted column. Internal';

-- What may still hold the plaintext of a column that was encrypted, and what to do about it.
CREATE FUNCTION prism_crypt.remaining_plaintext(
  relation regclass, column_name name, sample_rows integer DEFAULT 100,
  OUT place text, OUT result text, OUT remedy text
) RETURNS SETOF record
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  name_of CONSTANT text := prism_crypt._qualified_name(relation);
  may_learn CONSTANT boolean := prism_crypt._may_call(CURRENT_USER::regrole::oid, 'decrypt_field')
    OR prism_crypt._may_call(CURRENT_USER::regrole::oid, 'blind_index');
  sample bytea[];
  sampled integer := 0;
  found integer := 0;
BEGIN
  IF relation IS NULL OR column_name IS NULL OR sample_rows IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'relation, column_name and sample_rows must not be null';
  END IF;
  PERFORM prism_crypt._require_owner(CURRENT_USER::regrole::oid, relation);
  PERFORM prism_crypt._require_between('sample_rows', sample_rows, 1, 10000);
  IF NOT EXISTS (SELECT FROM prism_crypt._encrypted_columns() AS c
                 WHERE c.relation = relation::oid AND c.column_name = column_name) THEN
    RAISE undefined_column USING MESSAGE = format('table %s has no encrypted column "%s"', name_of, column_name);
  END IF;
  IF may_learn THEN
    sample := prism_crypt._sample_of(relation, column_name, sample_rows);
    SELECT r.sampled, r.found INTO sampled, found
    FROM prism_crypt._find_remains(ARRAY(SELECT prism_crypt._files_of(relation)), sample) AS r;
  END IF;
  place := 'files of the table: dead rows, free space, indexes, TOAST';
  result := CASE WHEN NOT may_learn THEN 'not searched: it takes the right to decrypt or to search'
                 WHEN sampled = 0 THEN 'not searched: no value of at least 8 bytes'
                 WHEN found = 0 THEN format('not found: none of %s sampled values', sampled)
                 ELSE format('found: %s of %s sampled values', found, sampled) END;
  remedy := format('VACUUM FULL %s', name_of)
    || ' (locks the table), pg_repack, or REPACK ... CONCURRENTLY where there is one; then call this again. '
    || 'Another column may hold the same text';
  RETURN NEXT;
  place := 'statistics';
  result := 'dropped with the old column';
  remedy := 'the old rows of pg_statistic stay in its file until VACUUM FULL pg_catalog.pg_statistic';
  RETURN NEXT;
  place := 'write-ahead log';
  result := format('kept by wal_keep_size (%s), checkpoints and replication slots (%s)', current_setting('wal_keep_size'),
                   (SELECT count(*) FROM pg_replication_slots));
  remedy := 'CHECKPOINT and pg_switch_wal() let PostgreSQL reuse old files; drop slots that nobody uses';
  RETURN NEXT;
  place := 'archived WAL and base backups';
  result := CASE WHEN current_setting('archive_mode') = 'off' THEN 'archive_mode is off; backups are not known here'
                 ELSE format('archive_mode is %s', current_setting('archive_mode')) END;
  remedy := 'take a new base backup after VACUUM FULL, then expire what is older (pgbackrest expire, barman delete)';
  RETURN NEXT;
  place := 'dumps and exports';
  result := 'not known here';
  remedy := 'delete or encrypt the files of pg_dump and COPY that were made before';
  RETURN NEXT;
  place := 'replicas';
  result := format('standbys and subscribers connected: %s', (SELECT count(*) FROM pg_stat_replication));
  remedy := 'standbys follow VACUUM FULL; on subscribers run it there. Their archives and backups count, too';
  RETURN NEXT;
  place := 'server log and pg_stat_statements';
  result := format('log_statement is %s, log_min_duration_statement is %s', current_setting('log_statement'),
                   current_setting('log_min_duration_statement'));
  remedy := 'rotate and delete logs of the time before; SELECT pg_stat_statements_reset()';
  RETURN NEXT;
END $$;
COMMENT ON FUNCTION prism_crypt.remaining_plaintext(regclass, name, integer) IS
  'What may still hold the plaintext of a column that was encrypted: searches the table''s files, and names the rest';
