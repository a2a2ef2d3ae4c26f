-- After the cut-over the old column is closed to everybody but the owner. PostgreSQL has no way to take one column out of a grant on
-- the table, so such grants are split into grants on the other columns, and put together again when the old column is gone.

-- Grants that the owner has made on tables, and the columns that have them anyway.
CREATE FUNCTION prism_crypt._table_grants(
  relation regclass, OUT member text, OUT oid oid, OUT grantee text, OUT privilege text, OUT grantable boolean, OUT columns jsonb
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._qualified_name(t.member), t.member, prism_crypt._grantee(g.grantee),
         g.privilege_type, g.is_grantable,
         (SELECT coalesce(jsonb_object_agg(a.attname, o.is_grantable), '{}')
          FROM pg_attribute AS a CROSS JOIN LATERAL aclexplode(a.attacl) AS o
          WHERE a.attrelid = t.member AND NOT a.attisdropped AND o.grantor = c.relowner AND o.grantee = g.grantee
            AND o.privilege_type = g.privilege_type)
  FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member
  CROSS JOIN LATERAL aclexplode(c.relacl) AS g
  WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND g.grantor = c.relowner AND g.grantee <> c.relowner
  ORDER BY 1, 3, 4
$$;
COMMENT ON FUNCTION prism_crypt._table_grants(regclass) IS 'Grants on a table that are for all of its columns. Internal';

-- Closes a column; gives what has to be put together again.
CREATE FUNCTION prism_crypt._close_column(relation regclass, column_name name) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  closed jsonb := '[]';
  one record;
  extra record;
  others name[];
BEGIN
  FOR one IN
    SELECT DISTINCT prism_crypt._qualified_name(t.member) AS member, g.grantee
    FROM prism_crypt._table_tree(relation) AS t JOIN pg_attribute AS a ON a.attrelid = t.member AND a.attname = column_name
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
  LOOP
    EXECUTE format('REVOKE ALL (%I) ON %s FROM %s CASCADE', column_name, one.member, prism_crypt._grantee(one.grantee));
  END LOOP;
  FOR one IN SELECT * FROM prism_crypt._table_grants(relation) LOOP
    others := ARRAY(
      SELECT a.attname FROM pg_attribute AS a
      WHERE a.attrelid = one.member::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> column_name ORDER BY a.attnum);
    closed := closed || jsonb_build_array(to_jsonb(one) || jsonb_build_object('others', others));
    EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', one.privilege, one.member, one.grantee);
    IF others <> '{}' THEN
      EXECUTE format('GRANT %s (%s) ON %s TO %s%s', one.privilege,
                     (SELECT string_agg(quote_ident(o.name), ', ' ORDER BY o.number) FROM unnest(others) WITH ORDINALITY AS o (name, number)),
                     one.member, one.grantee, prism_crypt._with_option(one.grantable));
    END IF;
    -- With a grant option that they had beside.
    FOR extra IN SELECT c.key FROM jsonb_each_text(one.columns) AS c WHERE c.value::boolean AND c.key::name = ANY (others) LOOP
      EXECUTE format('GRANT %s (%I) ON %s TO %s%s', one.privilege, extra.key, one.member, one.grantee, prism_crypt._with_option(true));
    END LOOP;
  END LOOP;
  RETURN closed;
END $$;
COMMENT ON FUNCTION prism_crypt._close_column(regclass, name) IS 'Closes a column to everybody but the owner. Internal';

-- Grants on columns that the owner has made to one grantee, among these.
CREATE FUNCTION prism_crypt._column_grants(member oid, grantee text, privilege text, columns jsonb, OUT name name, OUT grantable boolean)
  RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  -- A column that is there, and null if it is not granted.
  SELECT a.attname, (SELECT bool_or(g.is_grantable) FROM aclexplode(a.attacl) AS g
                     WHERE g.grantor = c.relowner AND prism_crypt._grantee(g.grantee) = $2 AND g.privilege_type = $3)
  FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  WHERE c.oid = $1 AND $4 ? a.attname
$$;
COMMENT ON FUNCTION prism_crypt._column_grants(oid, text, text, jsonb) IS 'Which columns are granted to a role. Internal';

-- A member of the table that is gone, or a role, needs nothing any more. A member is known by its name; by its OID if it was renamed. What is
-- recorded may have been recorded by hand, so it is taken as names, and concerns tables of this tree. What the owner has revoked since,
-- from the whole or from a column, stays revoked: then the grants on columns stay as they are.
CREATE FUNCTION prism_crypt._open_column(relation regclass, closed jsonb) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  extra record;
  are_granted boolean;
  are_grantable boolean;
BEGIN
  FOR one IN
    SELECT t.member AS oid, prism_crypt._qualified_name(t.member) AS member, c.grantee, c.privilege, c.columns, c.others
    FROM jsonb_to_recordset(closed) AS c (member text, oid oid, grantee text, privilege text, columns jsonb, others jsonb)
    JOIN prism_crypt._table_tree(relation) AS t ON t.member = coalesce(to_regclass(c.member), c.oid)
    WHERE c.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
      AND (c.grantee = 'PUBLIC' OR c.grantee IN (SELECT quote_ident(r.rolname) FROM pg_roles AS r))
  LOOP
    SELECT bool_and(g.grantable IS NOT NULL), bool_and(g.grantable) INTO are_granted, are_grantable
    FROM prism_crypt._column_grants(one.oid, one.grantee, one.privilege, one.others) AS g;
    CONTINUE WHEN are_granted IS NOT TRUE;
    -- Those of before, if they are still there.
    SELECT coalesce(jsonb_object_agg(g.name, g.grantable) FILTER (WHERE g.grantable IS NOT NULL), '{}') INTO one.columns
    FROM prism_crypt._column_grants(one.oid, one.grantee, one.privilege, one.columns) AS g;
    EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', one.privilege, one.member, one.grantee);
    EXECUTE format('GRANT %s ON %s TO %s%s', one.privilege, one.member, one.grantee, prism_crypt._with_option(are_grantable));
    FOR extra IN SELECT c.key, c.value::boolean AS grantable FROM jsonb_each_text(one.columns) AS c LOOP
      EXECUTE format('GRANT %s (%I) ON %s TO %s%s', one.privilege, extra.key, one.member, one.grantee,
                     prism_crypt._with_option(extra.grantable));
    END LOOP;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._open_column(regclass, jsonb) IS 'Puts the grants together again that _close_column() split. Internal';

-- Grants that others made with their grant option are gone when that is split.
CREATE FUNCTION prism_crypt._handed_on_grants(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH grants AS (
    SELECT prism_crypt._qualified_name(c.oid) AS named, c.oid, c.relowner, g.grantor, g.grantee, g.privilege_type, NULL::name AS column_name
    FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member CROSS JOIN LATERAL aclexplode(c.relacl) AS g
    UNION ALL
    SELECT prism_crypt._qualified_name(c.oid), c.oid, c.relowner, g.grantor, g.grantee, g.privilege_type, a.attname
    FROM prism_crypt._table_tree($1) AS t JOIN pg_class AS c ON c.oid = t.member
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped CROSS JOIN LATERAL aclexplode(a.attacl) AS g
  )
  SELECT prism_crypt._dependant('grant', format('%s on %s', g.what, g.named),
    blocks => format('role %s has granted it to %s: splitting grants of the table, so that the old column is closed, takes that away',
                     prism_crypt._grantee(g.grantor), prism_crypt._grantee(g.grantee)),
    unblock => format('GRANT %s ON %s TO %s; REVOKE GRANT OPTION FOR %1$s ON %2$s FROM %4$s CASCADE', g.what, g.named,
                      prism_crypt._grantee(g.grantee), prism_crypt._grantee(g.grantor)))
  FROM (SELECT x.*, x.privilege_type || coalesce(' (' || quote_ident(x.column_name) || ')', '') AS what FROM grants AS x) AS g
  WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND g.grantor <> g.relowner
    -- A grant on columns only is not split.
    AND EXISTS (SELECT FROM grants AS w WHERE w.oid = g.oid AND w.column_name IS NULL AND w.grantor = w.relowner
                  AND w.grantee = g.grantor AND w.privilege_type = g.privilege_type)
  ORDER BY g.named, g.what, g.grantor, g.grantee
$$;
COMMENT ON FUNCTION prism_crypt._handed_on_grants(regclass) IS 'Grants of a table that would be lost. Internal';
