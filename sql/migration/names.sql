-- Names of what a migration makes beside a column, and small pieces of statements.

-- The prefix and a name, at most 63 bytes; a name that was cut ends with a part of its hash.
CREATE FUNCTION prism_crypt._side_name(prefix text, name name) RETURNS name
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN octet_length($1 || $2::text) <= 63 THEN $1 || $2::text
    ELSE $1 || (SELECT left($2::text, max(n)) FROM generate_series(0, 63) AS n
                WHERE octet_length($1 || left($2::text, n)) <= 63 - 9) || '_' || left(md5($2::text), 8)
  END::name
$$;
COMMENT ON FUNCTION prism_crypt._side_name(text, name) IS 'The name of what stands beside something of that name. Internal';

-- Runs statements in their order.
CREATE FUNCTION prism_crypt._execute_all(statements text[]) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  statement text;
BEGIN
  FOREACH statement IN ARRAY coalesce(statements, '{}') LOOP
    EXECUTE statement;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._execute_all(text[]) IS 'Runs statements with the caller''s rights. Internal';

-- The same under a search path, and undone if one fails. Null, or the error.
CREATE FUNCTION prism_crypt._try(statements text[], path text) RETURNS text
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
  statement text;
BEGIN
  PERFORM set_config('search_path', path, true);
  FOREACH statement IN ARRAY statements LOOP
    EXECUTE statement;
  END LOOP;
  RETURN NULL;
EXCEPTION WHEN OTHERS OR assert_failure THEN
  RETURN SQLERRM;
END $$;
COMMENT ON FUNCTION prism_crypt._try(text[], text) IS 'Tries statements, and gives the error of one that fails. Internal';

-- Comment and security labels of an object, whose kind and name are given as COMMENT ON takes them.
CREATE FUNCTION prism_crypt._remarks(class regclass, object oid, part integer, named text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT format('COMMENT ON %s IS %L', $4, d.description) FROM pg_description AS d
    WHERE d.classoid = $1 AND d.objoid = $2 AND d.objsubid = $3)
  || ARRAY(
    SELECT format('SECURITY LABEL FOR %I ON %s IS %L', l.provider, $4, l.label) FROM pg_seclabel AS l
    WHERE l.classoid = $1 AND l.objoid = $2 AND l.objsubid = $3 ORDER BY l.provider)
$$;
COMMENT ON FUNCTION prism_crypt._remarks(regclass, oid, integer, text) IS
  'What makes the comment and the security labels of an object again. Internal';

-- As another role, if it was another role that granted something.
CREATE FUNCTION prism_crypt._as_role(role oid, statement text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY[format('SET LOCAL ROLE %I', pg_get_userbyid($1)), $2,
    CASE current_setting('role') WHEN 'none' THEN 'SET LOCAL ROLE NONE' ELSE format('SET LOCAL ROLE %I', current_user) END]
$$;
COMMENT ON FUNCTION prism_crypt._as_role(oid, text) IS 'A statement that is run as another role. Internal';

CREATE FUNCTION prism_crypt._with_option(grantable boolean) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $1 THEN ' WITH GRANT OPTION' ELSE '' END
$$;
COMMENT ON FUNCTION prism_crypt._with_option(boolean) IS 'The end of a GRANT. Internal';

-- A role as GRANT and REVOKE take it.
CREATE FUNCTION prism_crypt._grantee(role oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE $1 WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid($1)) END
$$;
COMMENT ON FUNCTION prism_crypt._grantee(oid) IS 'A role as GRANT takes it. Internal';

-- The owner's grants come first, then those that others made with a grant option.
CREATE FUNCTION prism_crypt._grants(acl aclitem[], owner oid, target text, quoted_column text DEFAULT NULL) RETURNS text[]
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  granted text;
  statements text[] := '{}';
BEGIN
  FOR one IN
    SELECT a.grantor, a.grantee, a.is_grantable,
           string_agg(a.privilege_type || coalesce(' (' || quoted_column || ')', ''), ', ' ORDER BY a.privilege_type) AS privileges
    FROM aclexplode(acl) AS a
    GROUP BY a.grantor, a.grantee, a.is_grantable
    ORDER BY a.grantor <> owner, a.is_grantable DESC, a.grantor, a.grantee
  LOOP
    granted := format('GRANT %s ON TABLE %s TO %s%s', one.privileges, target,
                      prism_crypt._grantee(one.grantee), prism_crypt._with_option(one.is_grantable));
    statements := statements || CASE WHEN one.grantor = owner THEN ARRAY[granted]
                                     ELSE prism_crypt._as_role(one.grantor, granted) END;
  END LOOP;
  RETURN statements;
END $$;
COMMENT ON FUNCTION prism_crypt._grants(aclitem[], oid, text, text) IS
  'What grants the rights to a table or column again. Internal';

CREATE FUNCTION prism_crypt._options(options text[]) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT string_agg(format('%I = %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') FROM unnest($1) AS o
$$;
COMMENT ON FUNCTION prism_crypt._options(text[]) IS 'Storage parameters or options of a view, as WITH takes them. Internal';

-- Statistics target, options, storage and compression of a column. The last two belong to a type, so a column that changes its
-- type does not keep them.
CREATE FUNCTION prism_crypt._column_settings(relation regclass, attnum smallint, altered text, with_storage boolean) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT format('%s ALTER COLUMN %I %s', $3, a.attname, s.change)
    FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    -- By 17 a target that is not set is null; before, it is -1.
    CROSS JOIN LATERAL (VALUES
      (CASE WHEN a.attstattarget >= 0 THEN format('SET STATISTICS %s', a.attstattarget) END),
      -- There are no others that are set by ALTER TABLE.
      ('SET (' || prism_crypt._options(ARRAY(
         SELECT o FROM unnest(a.attoptions) AS o WHERE split_part(o, '=', 1) IN ('n_distinct', 'n_distinct_inherited'))) || ')'),
      (CASE WHEN with_storage AND a.attstorage <> t.typstorage THEN 'SET STORAGE ' ||
         CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
      (CASE WHEN with_storage AND a.attcompression <> '' THEN 'SET COMPRESSION ' ||
         CASE a.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END END)
    ) AS s (change)
    WHERE a.attrelid = $1 AND a.attnum = $2 AND s.change IS NOT NULL)
$$;
COMMENT ON FUNCTION prism_crypt._column_settings(regclass, smallint, text, boolean) IS
  'What gives a column its statistics target and options again. Internal';

-- Puts a clause for the tablespace into the definition of an index: pg_get_indexdef() leaves it out.
CREATE FUNCTION prism_crypt._with_tablespace(definition text, index oid, predicate text) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT left($1, length($1) - length(p.tail)) || format(' TABLESPACE %I', t.spcname) || p.tail
     FROM pg_class AS c JOIN pg_tablespace AS t ON t.oid = c.reltablespace
     CROSS JOIN LATERAL (SELECT coalesce(' WHERE ' || $3, '')) AS p (tail)
     WHERE c.oid = $2 AND right($1, length(p.tail)) = p.tail), $1)
$$;
COMMENT ON FUNCTION prism_crypt._with_tablespace(text, oid, text) IS 'The definition of an index with its tablespace. Internal';

-- What a new index does not have yet: statistics targets of its expressions, comment.
CREATE FUNCTION prism_crypt._index_settings(index oid, named text) RETURNS text[]
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(
    SELECT format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', $2, a.attnum, a.attstattarget)
    FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attstattarget >= 0 AND a.attnum > 0 ORDER BY a.attnum)
  || prism_crypt._remarks('pg_class', $1, 0, format('INDEX %s', $2))
$$;
COMMENT ON FUNCTION prism_crypt._index_settings(oid, text) IS 'What gives an index its settings and comment again. Internal';

-- After all others, because triggers fire in the order of their names.
CREATE FUNCTION prism_crypt._trigger_name(id bigint) RETURNS name
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT format('~prism_crypt_%s', $1)::name $$;
COMMENT ON FUNCTION prism_crypt._trigger_name(bigint) IS 'The name of a migration''s triggers. Internal';

-- The order in which PostgreSQL locks a table and its partitions for statements.
CREATE FUNCTION prism_crypt._lock_tree(relation regclass) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', prism_crypt._qualified_name(relation));
END $$;
COMMENT ON FUNCTION prism_crypt._lock_tree(regclass) IS 'Locks a table with its partitions and children. Internal';
