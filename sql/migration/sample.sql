-- How much a migration has to do, by a sample: some rows are copied and converted, in a subtransaction that is always rolled back.

CREATE TYPE prism_crypt._migration_estimate AS (
  tables           integer,
  rows             bigint,
  bytes_now        bigint,
  bytes_after      bigint,
  -- While both columns are there, before the table is vacuumed.
  bytes_peak       bigint,
  rewrite_seconds  double precision,
  online_seconds   double precision,
  rewrite_wal      bigint,
  online_wal       bigint,
  basis            text,
  blocks           text
);
COMMENT ON TYPE prism_crypt._migration_estimate IS 'How much a migration has to do. Internal';

-- What is measured of one table. Temporary tables write no WAL, so only sizes and times are measured.
CREATE TYPE prism_crypt._migration_sample AS (
  sampled       bigint,
  -- A row before and after, with what is stored out of line.
  old_bytes     double precision,
  new_bytes     double precision,
  rewrite_seconds double precision,
  online_seconds  double precision,
  index_seconds   double precision
);
COMMENT ON TYPE prism_crypt._migration_sample IS 'What is measured of a sample. Internal';

CREATE FUNCTION prism_crypt._largest_member(relation regclass) RETURNS regclass
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.member FROM prism_crypt._table_tree($1) AS t WHERE t.relkind = 'r' ORDER BY pg_table_size(t.member) DESC, t.member LIMIT 1
$$;
COMMENT ON FUNCTION prism_crypt._largest_member(regclass) IS 'The largest of the tables that hold the rows of a table. Internal';

CREATE FUNCTION prism_crypt._convert_sample(target prism_crypt._migration_target, member regclass, sample_rows integer)
  RETURNS prism_crypt._migration_sample
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  copy regclass;
  twin CONSTANT name := prism_crypt._side_name('prism_crypt_new_', target.column_name);
  -- In an expression, columns may be qualified by the table's name.
  alias CONSTANT text := (SELECT quote_ident(c.relname) FROM pg_class AS c WHERE c.oid = target.relation);
  conversion CONSTANT text := prism_crypt._conversion(target);
  statements text[];
  began timestamptz;
  seconds double precision[] := '{}';
  statement text;
  answer prism_crypt._migration_sample;
  done boolean := false;
BEGIN
  answer.sampled := 0;
  IF pg_relation_size(member) = 0 THEN
    RETURN answer;
  END IF;
  PERFORM prism_crypt._make_sample_table(member);
  copy := 'pg_temp.prism_crypt_sample'::regclass;
  answer.sampled := prism_crypt._copy_sample(member, copy, ARRAY(
    SELECT a.attnum FROM prism_crypt._sample_columns(member) AS a ORDER BY a.attnum), sample_rows);
  IF answer.sampled = 0 THEN
    RETURN answer;
  END IF;
  answer.old_bytes := pg_table_size(copy)::double precision / answer.sampled;
  began := clock_timestamp();
  PERFORM prism_crypt._index_sample_table(member);
  PERFORM prism_crypt._drop_side_columns(copy, target.column_name);
  answer.index_seconds := EXTRACT(epoch FROM clock_timestamp() - began);
  -- The statements are run as the expression is meant: on the caller's path.
  statements := ARRAY[
    format('CREATE TEMPORARY TABLE prism_crypt_converted ON COMMIT DROP AS SELECT %s FROM pg_temp.prism_crypt_sample AS %s',
           (SELECT string_agg(CASE WHEN a.attname = target.column_name
                                   THEN format('(%s)::%s AS %I', conversion, target.new_type, a.attname)
                                   ELSE format('%s.%I', alias, a.attname) END, ', ' ORDER BY a.attnum)
            FROM pg_attribute AS a WHERE a.attrelid = copy AND a.attnum > 0 AND NOT a.attisdropped), alias),
    format('ALTER TABLE pg_temp.prism_crypt_sample ADD %I %s', twin, target.new_type),
    format('UPDATE pg_temp.prism_crypt_sample AS %s SET %I = %s', alias, twin, conversion)];
  PERFORM set_config('search_path', target.path, true);
  FOREACH statement IN ARRAY statements LOOP
    began := pg_catalog.clock_timestamp();
    EXECUTE statement;
    seconds := pg_catalog.array_append(
      seconds, EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::pg_catalog.float8);
  END LOOP;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  answer.rewrite_seconds := seconds[1];
  answer.online_seconds := seconds[3];
  answer.new_bytes := pg_table_size('pg_temp.prism_crypt_converted'::regclass)::double precision / answer.sampled;
  done := true;
  RAISE SQLSTATE 'PC000';
EXCEPTION WHEN SQLSTATE 'PC000' THEN
  IF NOT done THEN
    RAISE;
  END IF;
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._convert_sample(prism_crypt._migration_target, regclass, integer) IS
  'Measures a migration with a sample of one table, and leaves nothing behind. Internal';

-- The sample is from the largest of the tables. A rewrite builds all indexes anew. What is done online writes each row once more,
-- with its index entries, and each page as a whole, once after a checkpoint.
CREATE FUNCTION prism_crypt._estimate_migration(target prism_crypt._migration_target, sample_rows integer)
  RETURNS prism_crypt._migration_estimate
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
#variable_conflict use_variable
DECLARE
  largest CONSTANT regclass := prism_crypt._largest_member(target.relation);
  sample prism_crypt._migration_sample;
  answer prism_crypt._migration_estimate;
  heap_bytes bigint;
  index_bytes bigint;
  indexes bigint;
  factor double precision;
BEGIN
  SELECT count(*), coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint,
         coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint,
         coalesce(max((SELECT count(*) FROM pg_index AS i WHERE i.indrelid = c.oid)), 0)
    INTO answer.tables, answer.rows, answer.bytes_now, heap_bytes, index_bytes, indexes
  FROM prism_crypt._table_tree(target.relation) AS t JOIN pg_class AS c ON c.oid = t.member WHERE t.relkind = 'r';
  IF largest IS NULL OR prism_crypt._conversion(target) IS NULL THEN
    answer.basis := 'no sample';
    answer.rows := nullif(answer.rows, 0);
    RETURN answer;
  END IF;
  BEGIN
    sample := prism_crypt._convert_sample(target, largest, sample_rows);
  EXCEPTION WHEN OTHERS OR assert_failure THEN
    -- Messages of conversions quote what they can't convert.
    answer.blocks := format('a sample of its values could not be converted (SQLSTATE %s)', SQLSTATE);
    answer.basis := 'no sample';
    answer.rows := nullif(answer.rows, 0);
    RETURN answer;
  END;
  IF answer.rows = 0 AND sample.sampled > 0 THEN
    -- Never analyzed: as many rows as fit.
    answer.rows := greatest(sample.sampled, CASE WHEN sample.sampled < sample_rows AND answer.tables = 1 THEN sample.sampled
                                                 ELSE (heap_bytes / greatest(sample.old_bytes, 1))::bigint END);
  END IF;
  answer.basis := format('sample of %s rows', sample.sampled);
  IF sample.sampled = 0 THEN
    answer.bytes_after := answer.bytes_now;
    answer.bytes_peak := answer.bytes_now;
    answer.rewrite_seconds := 0;
    answer.online_seconds := 0;
    answer.rewrite_wal := 0;
    answer.online_wal := 0;
    RETURN answer;
  END IF;
  factor := answer.rows::double precision / sample.sampled;
  answer.bytes_after := (answer.rows * sample.new_bytes)::bigint + index_bytes;
  answer.bytes_peak := answer.bytes_now + (answer.rows * (sample.old_bytes + sample.new_bytes))::bigint;
  answer.rewrite_seconds := (sample.rewrite_seconds + sample.index_seconds) * factor;
  answer.online_seconds := (sample.online_seconds + sample.index_seconds) * factor;
  answer.rewrite_wal := answer.bytes_after;
  answer.online_wal := (answer.rows * (sample.old_bytes + sample.new_bytes + 64 * indexes))::bigint
    + CASE WHEN current_setting('full_page_writes')::boolean THEN answer.bytes_now ELSE 0 END;
  RETURN answer;
EXCEPTION WHEN lock_not_available THEN
  answer.blocks := 'the table is locked by another session';
  answer.basis := 'no sample';
  RETURN answer;
END $$;
COMMENT ON FUNCTION prism_crypt._estimate_migration(prism_crypt._migration_target, integer) IS
  'How much a migration has to do, by a sample. Internal';

CREATE FUNCTION prism_crypt._spell_seconds(seconds double precision) RETURNS text
  LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $1 < 1 THEN format('%s ms', round($1 * 1000)) WHEN $1 < 100 THEN format('%s s', round($1))
              WHEN $1 < 6000 THEN format('%s min', round($1 / 60)) WHEN $1 < 360000 THEN format('%s h', round($1 / 3600))
              ELSE format('%s days', round($1 / 86400)) END
$$;
COMMENT ON FUNCTION prism_crypt._spell_seconds(double precision) IS 'A time in round numbers. Internal';
