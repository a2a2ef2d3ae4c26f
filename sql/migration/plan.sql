-- What a migration of a column would do, and what stands in its way. It changes nothing.

CREATE FUNCTION prism_crypt._migration_notes(target prism_crypt._migration_target, method text) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  notes text[] := '{}';
  own record;
BEGIN
  SELECT b.base, a.attcollation, l.collisdeterministic, t.typname,
         a.attnum = (SELECT max(m.attnum) FROM pg_attribute AS m WHERE m.attrelid = a.attrelid AND NOT m.attisdropped) AS is_last
    INTO own
  FROM pg_attribute AS a CROSS JOIN LATERAL (SELECT to_regtype(prism_crypt._base_of_column(a.atttypid, -1))) AS b (base)
  LEFT JOIN pg_collation AS l ON l.oid = a.attcollation LEFT JOIN pg_type AS t ON t.oid = b.base
  WHERE a.attrelid = target.relation AND a.attname = target.column_name;
  IF method = 'online' AND NOT own.is_last THEN
    notes := notes || ('the column moves to the end of the row: SELECT * shows it last, and an INSERT or COPY without a list of '
                       'columns puts values elsewhere')::text;
  END IF;
  IF method = 'online' THEN
    notes := notes || format('the old column stays as %s until it is dropped, and SELECT * shows it as well',
                             quote_ident(prism_crypt._side_name('prism_crypt_old_', target.column_name)));
  END IF;
  notes := notes || ('statements that sessions have prepared may fail once with "cached plan must not change result type": '
                     'they are prepared again by most drivers, or by reconnecting')::text;
  notes := notes || ('bodies of functions in PL/pgSQL and of SQL functions given as a string are not looked into; neither are '
                     'the statements of applications, such as ON CONFLICT')::text;
  IF target.is_encrypting THEN
    IF own.collisdeterministic IS FALSE OR own.typname = 'citext' THEN
      notes := notes || 'encrypted values are compared exactly: text that the column takes for equal now will differ'::text;
    END IF;
    IF own.base = 'date'::regtype AND target.using_expression IS NULL THEN
      notes := notes || 'dates become text as ISO 8601 has them: 2026-11-27'::text;
    END IF;
    IF NOT target.is_searchable THEN
      notes := notes || 'the type is not searchable: = opens every value, and no index helps'::text;
    END IF;
    notes := notes || 'there is no order: ORDER BY, <, BETWEEN and LIKE work on column::text, for roles with decrypt'::text;
  END IF;
  RETURN notes;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_notes(prism_crypt._migration_target, text) IS
  'What to know about a migration. Internal';

-- The method: a rewrite if the table would be locked for less than that, in seconds.
CREATE FUNCTION prism_crypt._max_lock_seconds() RETURNS double precision
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT 1::double precision $$;
COMMENT ON FUNCTION prism_crypt._max_lock_seconds() IS 'How long a rewrite may lock a table. Internal';

CREATE FUNCTION prism_crypt._plan_migration(target prism_crypt._migration_target) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  estimate CONSTANT prism_crypt._migration_estimate := prism_crypt._estimate_migration(target, 1000);
  method CONSTANT text := CASE WHEN estimate.rewrite_seconds < prism_crypt._max_lock_seconds() THEN 'rewrite' ELSE 'online' END;
  dependants jsonb;
  refilled bigint;
BEGIN
  SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
           'kind', d.kind, 'identity', d.identity, 'carried_over', d.blocks IS NULL, 'blocks', d.blocks, 'unblock', d.unblock,
           'note', d.note)) ORDER BY d.blocks IS NULL, d.source, d.ordinal), '[]'),
         count(*) FILTER (WHERE d.kind = 'materialized view' AND d.note IS NOT NULL)
    INTO dependants, refilled
  FROM (
    -- migrate_column() keeps the plaintext unless told otherwise; decrypt_column() never does.
    SELECT 1 AS source, b.* FROM prism_crypt._obstacles(target, method, target.is_encrypting) AS b
    UNION ALL
    SELECT 3, (prism_crypt._dependant('values', prism_crypt._target_name(target.relation, target.column_name),
                                      blocks => estimate.blocks)).*
    WHERE estimate.blocks IS NOT NULL AND NOT EXISTS (SELECT FROM prism_crypt._migration_blocks(target))
    UNION ALL
    SELECT 4, b.* FROM prism_crypt._dependants(target.relation, target.column_name, target.new_type) AS b
  ) AS d;
  RETURN jsonb_build_object(
    'relation', prism_crypt._qualified_name(target.relation),
    'column', target.column_name,
    'old_type', target.old_type,
    'new_type', target.new_type,
    'using', target.using_expression,
    'method', method,
    'why', CASE
      WHEN estimate.rewrite_seconds IS NULL THEN 'it is not known how long a rewrite would lock the table'
      WHEN method = 'rewrite' THEN format('a rewrite locks the table for about %s, which is less than %s',
        prism_crypt._spell_seconds(estimate.rewrite_seconds), prism_crypt._spell_seconds(prism_crypt._max_lock_seconds()))
      ELSE format('a rewrite would lock the table for about %s', prism_crypt._spell_seconds(estimate.rewrite_seconds)) END,
    'blocked', jsonb_path_exists(dependants, '$[*] ? (@.carried_over == false)'),
    'tables', estimate.tables,
    'rows', estimate.rows,
    'bytes_now', estimate.bytes_now,
    'bytes_after', estimate.bytes_after,
    'bytes_peak', CASE method WHEN 'online' THEN estimate.bytes_peak ELSE estimate.bytes_now + estimate.bytes_after END,
    'seconds', round((CASE method WHEN 'online' THEN estimate.online_seconds ELSE estimate.rewrite_seconds END)::numeric, 3),
    'wal_bytes', CASE method WHEN 'online' THEN estimate.online_wal ELSE estimate.rewrite_wal END,
    'locked', CASE WHEN method = 'rewrite' THEN 'for the whole time' ELSE 'for milliseconds' END
      || CASE WHEN refilled > 0 THEN format(', and while %s materialized view(s) are filled again', refilled) ELSE '' END,
    'basis', estimate.basis,
    'dependants', dependants,
    'roles', prism_crypt._plan_roles(target),
    'notes', to_jsonb(prism_crypt._migration_notes(target, method)));
END $$;
COMMENT ON FUNCTION prism_crypt._plan_migration(prism_crypt._migration_target) IS 'What a migration would do. Internal';

-- The type and the expression are understood on the caller's path, so these functions have none of their own.
CREATE FUNCTION prism_crypt.plan_migration(relation regclass, column_name name, type text, using_expression text DEFAULT NULL)
  RETURNS jsonb
  LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN prism_crypt._plan_migration(prism_crypt._check_migratable(
    relation, column_name, type, using_expression, pg_catalog.current_setting('search_path')));
END $$;
COMMENT ON FUNCTION prism_crypt.plan_migration(regclass, name, text, text) IS
  'What it would take to encrypt a column, or to decrypt it: size, time, method, all that touches it, and who would lose sight';
