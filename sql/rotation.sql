-- Online re-encryption. A procedure that commits can neither be SECURITY DEFINER nor have a SET clause, and triggers of
-- the table must run under the caller's own search_path. So nothing here relies on it: every name and every operator is
-- qualified.

CREATE FUNCTION prism_crypt._require_no_transaction_block() RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', '_require_no_transaction_block_wrapper';
COMMENT ON FUNCTION prism_crypt._require_no_transaction_block() IS
  'Raises an error where a procedure could not commit. Internal';

CREATE FUNCTION prism_crypt._needs_rotation(value encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_needs_rotation_wrapper';
COMMENT ON FUNCTION prism_crypt._needs_rotation(encrypted_text) IS
  'Whether a value is under another key than the active one of its keyset. Internal';

CREATE FUNCTION prism_crypt._is_rotatable(value encrypted_text) RETURNS boolean
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_is_rotatable_wrapper';
COMMENT ON FUNCTION prism_crypt._is_rotatable(encrypted_text) IS
  'Whether a value needs rotation and can be opened. Internal';

CREATE FUNCTION prism_crypt._reencrypt_or_keep(value encrypted_text) RETURNS encrypted_text
  LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_reencrypt_or_keep_wrapper';
COMMENT ON FUNCTION prism_crypt._reencrypt_or_keep(encrypted_text) IS
  'reencrypt_field(), or the value itself where it can''t be opened. Internal';

CREATE FUNCTION prism_crypt._rotation_error(value encrypted_text) RETURNS text
  LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', '_rotation_error_wrapper';
COMMENT ON FUNCTION prism_crypt._rotation_error(encrypted_text) IS
  'Why a value can''t be re-encrypted; NULL when it can. Internal';

-- The tables that hold the rows of a table: itself, its partitions, its children.
CREATE FUNCTION prism_crypt._rotation_targets(relation regclass, column_name name) RETURNS regclass[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  root pg_class;
  column_type oid;
  tables regclass[];
  foreign_tables regclass[];
BEGIN
  SELECT * INTO root FROM pg_class WHERE oid = relation;
  IF relation IS NULL OR column_name IS NULL THEN
    RAISE null_value_not_allowed USING
      MESSAGE = CASE WHEN relation IS NULL THEN 'relation must not be null' ELSE 'column_name must not be null' END;
  ELSIF NOT FOUND THEN
    RAISE undefined_table USING MESSAGE = format('relation with OID %s does not exist', relation::oid);
  ELSIF root.relkind NOT IN ('r', 'p') THEN
    RAISE wrong_object_type USING MESSAGE = format('"%s" is not a table', root.relname);
  END IF;
  SELECT atttypid INTO column_type
  FROM pg_attribute WHERE attrelid = relation AND attname = column_name AND attnum > 0 AND NOT attisdropped;
  IF NOT FOUND THEN
    RAISE undefined_column USING
      MESSAGE = format('column "%s" of relation "%s" does not exist', column_name, root.relname);
  ELSIF column_type <> '@extschema@.encrypted_text'::regtype THEN
    RAISE datatype_mismatch USING
      MESSAGE = format('column "%s" of relation "%s" is of type %s, not encrypted_text',
                       column_name, root.relname, format_type(column_type, NULL));
  END IF;
  WITH RECURSIVE tree AS (
    SELECT relation::oid AS oid
    UNION
    SELECT i.inhrelid FROM pg_inherits AS i JOIN tree AS t ON t.oid = i.inhparent
  )
  SELECT array_agg(c.oid::regclass ORDER BY c.oid) FILTER (WHERE c.relkind = 'r'),
         array_agg(c.oid::regclass ORDER BY c.oid) FILTER (WHERE c.relkind = 'f')
    INTO tables, foreign_tables
  FROM tree AS t JOIN pg_class AS c ON c.oid = t.oid;
  IF foreign_tables IS NOT NULL THEN
    RAISE WARNING 'foreign tables are not rotated: %', array_to_string(foreign_tables, ', ')
      USING HINT = 'Rotate them on their own server.';
  END IF;
  IF EXISTS (SELECT FROM unnest(tables) AS t (oid) WHERE row_security_active(t.oid)) THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('row-level security may hide rows of "%s" from this role', root.relname),
      HINT = 'Let the owner of the table rotate it, or a role with BYPASSRLS.';
  END IF;
  RETURN coalesce(tables, '{}');
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_targets(regclass, name) IS
  'Checks a rotation''s target and gives the tables that hold its rows. Internal';

CREATE FUNCTION prism_crypt._block_count(relation regclass) RETURNS bigint
  LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_relation_size(relation) / current_setting('block_size')::bigint
$$;
COMMENT ON FUNCTION prism_crypt._block_count(regclass) IS 'Length of a table in blocks. Internal';

-- Blocks that hold about one batch of rows.
CREATE FUNCTION prism_crypt._window_blocks(relation regclass, batch_size integer) RETURNS bigint
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT greatest(1, ceil(batch_size / CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples / relpages ELSE 50 END))
         ::bigint
  FROM pg_class WHERE oid = relation
$$;
COMMENT ON FUNCTION prism_crypt._window_blocks(regclass, integer) IS 'Blocks that hold about one batch. Internal';

CREATE FUNCTION prism_crypt._tid(block bigint) RETURNS tid
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT format('(%s,0)', block)::tid $$;
COMMENT ON FUNCTION prism_crypt._tid(bigint) IS 'The first place of a block. Internal';

CREATE FUNCTION prism_crypt._block(place tid) RETURNS bigint
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT split_part(ltrim(place::text, '('), ',', 1)::bigint
$$;
COMMENT ON FUNCTION prism_crypt._block(tid) IS 'The block of a place. Internal';

-- The first block between two places (both exclusive) that has a row to rotate; NULL where there is none.
CREATE FUNCTION prism_crypt._next_block(relation regclass, column_name name, from_place tid, to_place tid)
  RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  place pg_catalog.tid;
BEGIN
  EXECUTE pg_catalog.format(
      'SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.>) $1 AND ctid OPERATOR(pg_catalog.<) $2
         AND prism_crypt._is_rotatable(%I) LIMIT 1',
      prism_crypt._qualified_name(relation), column_name)
    INTO place USING from_place, to_place;
  RETURN prism_crypt._block(place);
END $$;
COMMENT ON FUNCTION prism_crypt._next_block(regclass, name, tid, tid) IS
  'The next block that has a row to rotate. Internal';

-- Re-encrypts the first batch_size rows between two places (both exclusive) that nobody else has locked. The rows are
-- locked first, so none is waited for, and none can change between the choice and the update. Gives the number of rows
-- re-encrypted and the place where to go on: behind the last row chosen, or the end where there were fewer.
CREATE FUNCTION prism_crypt._rotate_window(
  relation regclass, column_name name, from_place tid, to_place tid, batch_size integer,
  OUT rotated integer, OUT next_place tid
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  places pg_catalog.tid[];
BEGIN
  EXECUTE pg_catalog.format(
      'SELECT pg_catalog.array_agg(ctid) FROM (
         SELECT ctid FROM ONLY %s WHERE ctid OPERATOR(pg_catalog.>) $1 AND ctid OPERATOR(pg_catalog.<) $2
           AND prism_crypt._is_rotatable(%I) LIMIT $3 FOR UPDATE SKIP LOCKED) AS chosen',
      prism_crypt._qualified_name(relation), column_name)
    INTO places USING from_place, to_place, batch_size;
  EXECUTE pg_catalog.format(
      'UPDATE ONLY %1$s SET %2$I = prism_crypt._reencrypt_or_keep(%2$I) WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)',
      prism_crypt._qualified_name(relation), column_name)
    USING places;
  GET DIAGNOSTICS rotated = ROW_COUNT;
  next_place := to_place;
  IF pg_catalog.cardinality(places) OPERATOR(pg_catalog.=) batch_size THEN
    -- A row that changed meanwhile was chosen at its new place, which may be far behind the others.
    next_place := coalesce(
      (SELECT pg_catalog.max(place) FROM pg_catalog.unnest(places) AS place
       WHERE place OPERATOR(pg_catalog.<) to_place), to_place);
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._rotate_window(regclass, name, tid, tid, integer) IS
  'Re-encrypts one batch. Internal';

-- What is left under other keys: rows that can be rotated but were not, and why the others can't be.
CREATE FUNCTION prism_crypt._rotation_rest(
  relation regclass, column_name name, OUT rotatable bigint, OUT unreadable bigint, OUT reasons text
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  EXECUTE pg_catalog.format(
      'SELECT coalesce(pg_catalog.sum(rows) FILTER (WHERE error IS NULL), 0),
              coalesce(pg_catalog.sum(rows) FILTER (WHERE error IS NOT NULL), 0),
              pg_catalog.string_agg(pg_catalog.format(''%%s. Rows: %%s.'', error, rows), '' '' ORDER BY error)
                FILTER (WHERE error IS NOT NULL)
       FROM (SELECT prism_crypt._rotation_error(%2$I) AS error, pg_catalog.count(*) AS rows
             FROM ONLY %1$s WHERE prism_crypt._needs_rotation(%2$I) GROUP BY 1) AS rest',
      prism_crypt._qualified_name(relation), column_name)
    INTO rotatable, unreadable, reasons;
END $$;
COMMENT ON FUNCTION prism_crypt._rotation_rest(regclass, name) IS 'What a rotation has left. Internal';

CREATE FUNCTION prism_crypt._report_rotation(
  relation regclass, column_name name, rotated bigint, left_over bigint, unreadable bigint, reasons text
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  target text := format('%s.%I', prism_crypt._qualified_name(relation), column_name);
BEGIN
  RAISE NOTICE '%: rows re-encrypted: %', target, rotated;
  IF unreadable > 0 THEN
    RAISE WARNING '%: rows that can''t be read, left as they are: %', target, unreadable USING DETAIL = reasons;
  END IF;
  IF left_over > 0 THEN
    RAISE WARNING '%: rows that stayed as they were, locked by others or kept by a trigger: %', target, left_over
      USING HINT = 'Call rotate_batch() again later.';
  END IF;
END $$;
COMMENT ON FUNCTION prism_crypt._report_rotation(regclass, name, bigint, bigint, bigint, text) IS
  'Says what a rotation did. Internal';

-- One table. Passes are repeated until one finds nothing: an UPDATE of another column copies old ciphertext, maybe to a
-- block that the walk has left behind.
CREATE PROCEDURE prism_crypt._rotate_table(relation regclass, column_name name, batch_size integer)
  LANGUAGE plpgsql AS $$
DECLARE
  -- Blocks looked at in one transaction while nothing is found: 512 MiB. A long snapshot would hold back VACUUM.
  scan_blocks CONSTANT bigint := 65536;
  -- Passes in a row that rotate nothing although there is something left, half a second apart, before it is given up.
  max_fruitless CONSTANT integer := 10;
  place pg_catalog.tid;
  block bigint;
  blocks bigint;
  batch record;
  rotated_in_pass bigint;
  rotated_in_all bigint := 0;
  fruitless integer := 0;
  last_notice timestamptz := pg_catalog.clock_timestamp();
  rest record;
BEGIN
  LOOP
    place := prism_crypt._tid(0);
    rotated_in_pass := 0;
    LOOP
      -- The server's default may be a level at which a concurrent change is an error.
      COMMIT;
      SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
      blocks := prism_crypt._block_count(relation);
      block := prism_crypt._block(place);
      EXIT WHEN block OPERATOR(pg_catalog.>=) blocks;
      blocks := LEAST(blocks, block OPERATOR(pg_catalog.+) scan_blocks);
      block := prism_crypt._next_block(relation, column_name, place, prism_crypt._tid(blocks));
      IF block IS NULL THEN
        place := prism_crypt._tid(blocks);
        CONTINUE;
      END IF;
      batch := prism_crypt._rotate_window(
        relation, column_name, place,
        prism_crypt._tid(block OPERATOR(pg_catalog.+) prism_crypt._window_blocks(relation, batch_size)), batch_size);
      place := batch.next_place;
      rotated_in_pass := rotated_in_pass OPERATOR(pg_catalog.+) batch.rotated;
      IF pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) last_notice OPERATOR(pg_catalog.>) '5 s'::interval THEN
        last_notice := pg_catalog.clock_timestamp();
        RAISE NOTICE '%.%: rows re-encrypted so far: %, block % of %', prism_crypt._qualified_name(relation),
          pg_catalog.quote_ident(column_name), rotated_in_all OPERATOR(pg_catalog.+) rotated_in_pass,
          LEAST(prism_crypt._block(place), prism_crypt._block_count(relation)), prism_crypt._block_count(relation);
      END IF;
    END LOOP;
    rotated_in_all := rotated_in_all OPERATOR(pg_catalog.+) rotated_in_pass;
    IF rotated_in_pass OPERATOR(pg_catalog.>) 0 THEN
      fruitless := 0;
    ELSE
      rest := prism_crypt._rotation_rest(relation, column_name);
      EXIT WHEN rest.rotatable OPERATOR(pg_catalog.=) 0 OR fruitless OPERATOR(pg_catalog.>=) max_fruitless;
      fruitless := fruitless OPERATOR(pg_catalog.+) 1;
      COMMIT;
      PERFORM pg_catalog.pg_sleep(0.5);
    END IF;
  END LOOP;
  PERFORM prism_crypt._report_rotation(
    relation, column_name, rotated_in_all, rest.rotatable, rest.unreadable, rest.reasons);
  COMMIT;
END $$;
COMMENT ON PROCEDURE prism_crypt._rotate_table(regclass, name, integer) IS
  'Re-encrypts one table. Internal: call rotate_batch()';

CREATE PROCEDURE rotate_batch(relation regclass, column_name name, batch_size integer DEFAULT 1000)
  LANGUAGE plpgsql AS $$
DECLARE
  target pg_catalog.regclass;
BEGIN
  PERFORM prism_crypt._require_no_transaction_block();
  IF batch_size IS NULL OR batch_size OPERATOR(pg_catalog.<) 1 THEN
    RAISE invalid_parameter_value USING MESSAGE = 'batch_size must be at least 1';
  END IF;
  FOREACH target IN ARRAY prism_crypt._rotation_targets(relation, column_name) LOOP
    CALL prism_crypt._rotate_table(target, column_name, batch_size);
  END LOOP;
END $$;
COMMENT ON PROCEDURE rotate_batch(regclass, name, integer) IS
  'Re-encrypts every value of a column that is not under the active key of its keyset, in batches that are committed';
