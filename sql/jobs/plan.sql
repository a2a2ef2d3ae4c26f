-- The statements that change one table, for any kind of job.

CREATE FUNCTION prism_crypt._target_name(relation regclass, column_name name) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._qualified_name($1) || CASE WHEN $2 IS NULL THEN '' ELSE format('.%I', $2) END
$$;
COMMENT ON FUNCTION prism_crypt._target_name(regclass, name) IS 'Table, or table and column, as reports name it. Internal';

CREATE TYPE prism_crypt._changes AS (
  -- Expressions over one row, which is called `changed`. They come from the kind of job. Whether the row is due:
  due                 text,
  -- Whether it is due and its content can be changed.
  possible            text,
  -- What is set in rows that are due.
  assignments         text,
  -- The same in rows that are locked: values that can't be changed stay as they are.
  assignments_or_kept text,
  -- For each column, why it can't be changed; empty if it can, null if it need not be.
  errors              text[],
  -- What an index finds instead of a walk; null if there is no such index.
  by_index            text,
  -- Whether what the index finds leaves out values that can't be changed.
  hides_rest          boolean
);
COMMENT ON TYPE prism_crypt._changes IS 'What a kind of job does with the rows of one table. Internal';

CREATE TYPE prism_crypt._plan AS (
  job            bigint,
  relation       regclass,
  target         text,
  table_name     text,
  -- Statements. Rows are between places $1 and $2, both exclusive; $3 is a number, $4 the number of stripes, $5 places. A row of
  -- a range that is due.
  find           text,
  -- Changes a range.
  update_range   text,
  -- Changes one stripe of a range: $3.
  update_stripe  text,
  -- Changes rows at places.
  update_places  text,
  -- Locks at most $3 rows of a range that nobody else has locked and that can be changed; gives their places.
  lock_range     text,
  -- Changes locked rows, at places.
  update_locked  text,
  -- Places of rows that an index finds: at most $3. Null where there is no such index.
  find_by_index  text,
  -- A row that is due and can be changed, anywhere in the table.
  find_any       text,
  -- What is left, and why.
  rest           text,
  hides_rest     boolean,
  rows_per_block double precision,
  stripes        integer
);
COMMENT ON TYPE prism_crypt._plan IS 'The statements that change one table. Internal';

CREATE FUNCTION prism_crypt._stripe(place tid, stripes integer) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_stripe_wrapper';
COMMENT ON FUNCTION prism_crypt._stripe(tid, integer) IS 'Which stripe of its block a row is in. Internal';

-- An UPDATE of a column that a foreign key may refer to locks its row as a DELETE does. A weaker lock would not skip rows that others
-- have locked for such a key, and the UPDATE would wait for them.
CREATE FUNCTION prism_crypt._row_lock(relation regclass) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN EXISTS (
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
      AND (a.atttypid = 'bytea'::regtype OR prism_crypt._holds_encrypted(a.atttypid)))
    THEN 'UPDATE' ELSE 'NO KEY UPDATE' END
$$;
COMMENT ON FUNCTION prism_crypt._row_lock(regclass) IS 'How rows of a table are locked before they are changed. Internal';

-- The table has an alias, and every column is qualified by it: a table, or a column, may have any name.
CREATE FUNCTION prism_crypt._plan_part(
  kind prism_crypt.job_kind, job bigint, relation regclass, column_name name, scope jsonb
) RETURNS prism_crypt._plan
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  changes prism_crypt._changes;
  plan prism_crypt._plan;
  source CONSTANT text := prism_crypt._qualified_name(relation) || ' AS changed';
BEGIN
  IF source IS NULL THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  END IF;
  EXECUTE format('SELECT * FROM %s($1, $2, $3)', kind.changes) INTO changes USING relation, column_name, scope;
  plan.job := job;
  plan.relation := relation;
  plan.table_name := prism_crypt._qualified_name(relation);
  plan.target := prism_crypt._target_name(relation, column_name);
  plan.hides_rest := changes.hides_rest;

  SELECT greatest(CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages ELSE 50 END, 1)
    INTO plan.rows_per_block
  FROM pg_class AS c WHERE c.oid = relation;
  -- Four stripes leave a quarter of the dead space that one would leave. More leave less, but each has to look at every row.
  plan.stripes := least(4, greatest(1, floor(plan.rows_per_block / 2)));

  plan.find := format(
    'SELECT ARRAY[changed.ctid] FROM ONLY %s WHERE changed.ctid OPERATOR(pg_catalog.>) $1
       AND changed.ctid OPERATOR(pg_catalog.<) $2 AND (%s) LIMIT 1',
    source, changes.due);
  plan.update_range := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.>) $1
       AND changed.ctid OPERATOR(pg_catalog.<) $2 AND (%s)',
    source, changes.assignments, changes.due);
  plan.update_stripe := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.>) $1 AND changed.ctid OPERATOR(pg_catalog.<) $2
       AND prism_crypt._stripe(changed.ctid, $4) OPERATOR(pg_catalog.=) $3 AND (%s)',
    source, changes.assignments, changes.due);
  plan.update_places := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.=) ANY ($5) AND (%s)',
    source, changes.assignments, changes.due);
  plan.lock_range := format(
    'SELECT pg_catalog.array_agg(chosen.place) FROM (SELECT changed.ctid AS place FROM ONLY %s
       WHERE changed.ctid OPERATOR(pg_catalog.>) $1 AND changed.ctid OPERATOR(pg_catalog.<) $2 AND (%s)
       LIMIT $3 FOR %s SKIP LOCKED) AS chosen',
    source, changes.possible, prism_crypt._row_lock(relation));
  plan.update_locked := format(
    'UPDATE ONLY %s SET %s WHERE changed.ctid OPERATOR(pg_catalog.=) ANY ($5)', source, changes.assignments_or_kept);
  plan.rest := format(
    'SELECT coalesce(pg_catalog.sum(rest.rows) FILTER (WHERE rest.error OPERATOR(pg_catalog.=) ''''), 0),
            coalesce(pg_catalog.sum(rest.rows) FILTER (WHERE rest.error OPERATOR(pg_catalog.<>) ''''), 0),
            pg_catalog.string_agg(pg_catalog.format(''%%s. Values: %%s.'', rest.error, rest.rows), '' '' ORDER BY rest.error)
              FILTER (WHERE rest.error OPERATOR(pg_catalog.<>) '''')
     FROM (SELECT found.error, pg_catalog.count(*) AS rows FROM ONLY %s, LATERAL (VALUES (%s)) AS found (error)
           WHERE found.error IS NOT NULL GROUP BY found.error) AS rest',
    source, array_to_string(changes.errors, '), ('));
  plan.find_any := format(
    'SELECT changed.ctid FROM ONLY %s WHERE %s LIMIT 1', source,
    coalesce(changes.by_index, format('(%s) AND (%s)', changes.due, changes.possible)));
  IF changes.by_index IS NOT NULL THEN
    plan.find_by_index := format(
      'SELECT pg_catalog.array_agg(x.place ORDER BY x.place)
       FROM (SELECT changed.ctid AS place FROM ONLY %s WHERE %s LIMIT $3) AS x', source, changes.by_index);
  END IF;
  RETURN plan;
END $$;
COMMENT ON FUNCTION prism_crypt._plan_part(prism_crypt.job_kind, bigint, regclass, name, jsonb) IS
  'The statements that change one table. Internal';
