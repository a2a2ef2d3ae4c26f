-- What stands in the way of a migration, besides what depends on the column.

CREATE FUNCTION prism_crypt._migration_blocks(target prism_crypt._migration_target) RETURNS SETOF prism_crypt._dependant
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  one record;
  named text;
BEGIN
  IF prism_crypt._conversion(target) IS NULL THEN
    RETURN NEXT prism_crypt._dependant('conversion', format('%s.%I', prism_crypt._qualified_name(target.relation), target.column_name),
      blocks => format('there is no rule for what text a value of type %s becomes: give a using_expression, for example %s',
                       target.old_type, format('%I::text', target.column_name)));
  END IF;
  FOR one IN
    SELECT t.member FROM prism_crypt._table_tree(target.relation) AS t WHERE row_security_active(t.member) ORDER BY t.member
  LOOP
    named := prism_crypt._qualified_name(one.member);
    RETURN NEXT prism_crypt._dependant('row-level security', named, blocks => 'it may hide rows from this role',
                                       unblock => format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', named));
  END LOOP;
END $$;
COMMENT ON FUNCTION prism_crypt._migration_blocks(prism_crypt._migration_target) IS
  'What stands in the way of a migration by any method. Internal';

-- Triggers run in the order of their names, by bytes. The one that keeps a twin in step has to see what the others have made of
-- the row.
CREATE FUNCTION prism_crypt._late_triggers(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._dependant('trigger', format('%I on %s', t.tgname, prism_crypt._qualified_name(t.tgrelid)),
    blocks => 'it may change the row after the trigger that keeps both columns in step',
    unblock => format('ALTER TRIGGER %I ON %s RENAME TO %I', t.tgname, prism_crypt._qualified_name(t.tgrelid),
                      prism_crypt._side_name('a_', t.tgname)))
  FROM prism_crypt._table_tree($1) AS m JOIN pg_trigger AS t ON t.tgrelid = m.member
  -- ROW is bit 1 of tgtype, BEFORE 2, INSERT 4, UPDATE 16 (pg_trigger.h).
  WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled <> 'D'
    AND t.tgtype & 1 <> 0 AND t.tgtype & 2 <> 0 AND t.tgtype & 20 <> 0
    AND t.tgname::text COLLATE "C" > '~prism_crypt'
    AND t.tgfoid NOT IN (SELECT p.oid FROM prism_crypt._members('pg_proc') AS p (oid))
  ORDER BY t.tgname
$$;
COMMENT ON FUNCTION prism_crypt._late_triggers(regclass) IS 'Triggers that run after those of a migration. Internal';

CREATE FUNCTION prism_crypt._has_late_triggers(relation regclass) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT EXISTS (SELECT FROM prism_crypt._late_triggers($1)) $$;
COMMENT ON FUNCTION prism_crypt._has_late_triggers(regclass) IS 'Whether triggers run after those of a migration. Internal';

-- A backfill updates rows, which PostgreSQL refuses where they are published without a replica identity.
CREATE FUNCTION prism_crypt._unidentified_rows(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._dependant('publication', format('%I', p.pubname),
    blocks => format('it publishes updates of %s, which has no replica identity', prism_crypt._qualified_name(c.oid)),
    unblock => format('ALTER TABLE %s REPLICA IDENTITY FULL', prism_crypt._qualified_name(c.oid)))
  FROM prism_crypt._table_tree($1) AS m JOIN pg_class AS c ON c.oid = m.member AND c.relkind = 'r'
  JOIN pg_publication AS p ON p.pubupdate
  WHERE NOT (c.relreplident = 'f'
      OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END))
    AND EXISTS (
      SELECT FROM pg_publication_tables AS t JOIN pg_namespace AS n ON n.nspname = t.schemaname
      JOIN pg_class AS published ON published.relnamespace = n.oid AND published.relname = t.tablename
      WHERE t.pubname = p.pubname
        AND (published.oid = c.oid OR published.oid IN (SELECT a.relid FROM pg_partition_ancestors(c.oid) AS a)))
  ORDER BY p.pubname, c.relname, c.oid
$$;
COMMENT ON FUNCTION prism_crypt._unidentified_rows(regclass) IS 'Publications that let nobody update rows of a table. Internal';

-- The old column is closed, but not to what reads whole rows with the rights of its owner. It would show the plaintext of whatever others
-- write, also of ciphertext that they have from elsewhere. A row as a whole is column 0 in a tree of nodes.
CREATE FUNCTION prism_crypt._whole_rows(relation regclass) RETURNS SETOF prism_crypt._dependant
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT prism_crypt._dependant(w.kind, w.identity, blocks => 'it reads whole rows of the table, and would show the old column',
                                unblock => format('DROP %s %s', CASE w.kind WHEN 'function' THEN 'ROUTINE' ELSE upper(w.kind) END, w.identity))
  FROM (
    SELECT DISTINCT CASE WHEN v.relkind = 'm' THEN 'materialized view' WHEN v.relkind = 'v' THEN 'view' ELSE 'function' END AS kind,
           coalesce(prism_crypt._qualified_name(v.oid), p.oid::regprocedure::text) AS identity
    FROM prism_crypt._table_tree($1) AS m
    JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.member
    LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_class AS v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
    LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.prosecdef
    WHERE CASE WHEN v.oid IS NOT NULL THEN r.ev_action::text ELSE p.prosqlbody::text END ~ '\{VAR :varno \d+ :varattno 0 '
  ) AS w
  ORDER BY w.kind, w.identity
$$;
COMMENT ON FUNCTION prism_crypt._whole_rows(regclass) IS 'What would show the old column of a migration. Internal';
