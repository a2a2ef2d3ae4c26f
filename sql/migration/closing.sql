-- After the cut-over the old column is closed to everybody but the owner. PostgreSQL has no way to take one column out of a grant on
-- the table, so such grants are split into grants on the other columns, and put together again when the old column is gone.

-- Grants that the owner has made on tables, and the columns that have them anyway.
CREATE FUNCTION prism_crypt._table_grants(
  relation regclass, OUT member text, OUT oid oid, OUT grantee text, OUT privilege text, OUT grantable boolean, OUT columns jsonb
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._qualified_name(t.member), t.member, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
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

CREATE FUNCTION prism_crypt._with_option(grantable boolean) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN $1 THEN ' WITH GRANT OPTION' ELSE '' END
$$;
COMMENT ON FUNCTION prism_crypt._with_option(boolean) IS 'The end of a GRANT. Internal';

-- Closes a column; gives what has to be put together again.
CREATE FUNCTION prism_crypt._close_column(relation regclass, column_name name) RETURNS jsonb
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  closed jsonb := '[]';
  one record;
  others text;
BEGIN
  FOR one IN
    SELECT DISTINCT prism_crypt._qualified_name(t.member) AS member, g.grantee
    FROM prism_crypt._table_tree(relation) AS t JOIN pg_attribute AS a ON a.attrelid = t.member AND a.attname = column_name
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
  LOOP
    EXECUTE format('REVOKE ALL (%I) ON %s FROM %s CASCADE', column_name, one.member,
                   CASE one.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(one.grantee)) END);
  END LOOP;
  FOR one IN SELECT * FROM prism_crypt._table_grants(relation) LOOP
    closed := closed || jsonb_build_array(to_jsonb(one));
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO others
    FROM pg_attribute AS a
    WHERE a.attrelid = one.member::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> column_name;
    EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', one.privilege, one.member, one.grantee);
    IF others IS NOT NULL THEN
      EXECUTE format('GRANT %s (%s) ON %s TO %s%s', one.privilege, others, one.member, one.grantee,
                     prism_crypt._with_option(one.grantable));
    END IF;
  END LOOP;
  RETURN closed;
END $$;
COMMENT ON FUNCTION prism_crypt._close_column(regclass, name) IS 'Closes a column to everybody but the owner. Internal';

-- A member of the table that is gone, or a role, needs nothing any more. A member is known by its name; by its OID if it was renamed. What is
-- recorded may have been recorded by hand, so it is taken as names, and concerns tables of this tree.
CREATE FUNCTION prism_crypt._open_column(relation regclass, closed jsonb) RETURNS void
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  extra record;
BEGIN
  FOR one IN
    SELECT prism_crypt._qualified_name(t.member) AS member, c.grantee, c.privilege, c.grantable, c.columns
    FROM jsonb_to_recordset(closed) AS c (member text, oid oid, grantee text, privilege text, grantable boolean, columns jsonb)
    JOIN prism_crypt._table_tree(relation) AS t ON t.member = coalesce(to_regclass(c.member), c.oid)
    WHERE c.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
      AND (c.grantee = 'PUBLIC' OR c.grantee IN (SELECT quote_ident(r.rolname) FROM pg_roles AS r))
  LOOP
    EXECUTE format('REVOKE %s ON %s FROM %s CASCADE', one.privilege, one.member, one.grantee);
    EXECUTE format('GRANT %s ON %s TO %s%s', one.privilege, one.member, one.grantee, prism_crypt._with_option(one.grantable));
    FOR extra IN SELECT c.key, c.value::boolean AS grantable FROM jsonb_each_text(one.columns) AS c
                 WHERE prism_crypt._has_column(one.member::regclass, c.key::name) LOOP
      EXECUTE format('GRANT %s (%I) ON %s TO %s%s', one.privilege, extra.key, one.member, one.grantee,
                     prism_crypt._with_option(extra.grantable));
    END LOOP;
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._open_column(regclass, jsonb) IS 'Puts the grants together again that _close_column() split. Internal';
