-- From 0.2.0 to 0.3.0. README.md says how such a script is written.

-- What is there already. The setting lasts until the end of the transaction.
SELECT pg_catalog.set_config('prism_upgrade.members', coalesce(pg_catalog.string_agg(
  pg_catalog.format('%s.%s', d.classid::pg_catalog.oid, d.objid), ' '), ''), true)
FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
  AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt';

-- ---- What changed. (Nothing yet.)

-- ---- The end of every such script.
-- What is new belongs to the extension's owner, whichever superuser updates it, and is closed to everybody, whatever ALTER DEFAULT
-- PRIVILEGES says. Then new helpers that run with the caller's rights are opened, and EXECUTE on what is not open is checked at each
-- call. Nothing that was there before is touched: it has the rights that people gave it. See sql/access/privileges.sql.
DO $$
DECLARE
  old CONSTANT pg_catalog.text[] := pg_catalog.string_to_array(pg_catalog.current_setting('prism_upgrade.members'), ' ');
  one pg_catalog.record;
BEGIN
  FOR one IN
    SELECT pg_catalog.format('ALTER %s %s OWNER TO %s', i.type, i.identity, pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(e.extowner)))
             AS command
    FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_depend AS d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
      AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS i
    WHERE e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
      AND pg_catalog.pg_get_userbyid(e.extowner) OPERATOR(pg_catalog.<>) CURRENT_USER
      AND pg_catalog.format('%s.%s', d.classid::pg_catalog.oid, d.objid) OPERATOR(pg_catalog.<>) ALL (old)
      AND i.type OPERATOR(pg_catalog.=) ANY (
        '{function,procedure,aggregate,table,view,sequence,type,schema,operator,operator class,operator family}'::pg_catalog.text[])
      -- Types of rows and arrays follow theirs, and so do sequences of columns.
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.typrelid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) d.objid
          AND (c.relkind OPERATOR(pg_catalog.<>) 'c' OR t.typcategory OPERATOR(pg_catalog.=) 'A'))
      AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend AS l
        WHERE i.type OPERATOR(pg_catalog.=) 'sequence' AND l.classid OPERATOR(pg_catalog.=) d.classid
          AND l.objid OPERATOR(pg_catalog.=) d.objid AND l.refclassid OPERATOR(pg_catalog.=) d.classid
          AND l.deptype OPERATOR(pg_catalog.=) ANY ('{a,i}'::pg_catalog."char"[]))
  LOOP
    EXECUTE one.command;
  END LOOP;

  FOR one IN
    WITH members AS (
      SELECT d.classid, d.objid
      FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
      WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
        AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'prism_crypt'
        AND pg_catalog.format('%s.%s', d.classid::pg_catalog.oid, d.objid) OPERATOR(pg_catalog.<>) ALL (old)
    ), objects (kind, name, owner, acl, is_helper) AS (
      SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner,
             coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)),
             p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
               AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_') AND NOT p.prosecdef
               AND l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql}'::pg_catalog.name[])
               AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{trigger,event_trigger}'::pg_catalog.regtype[])
      FROM members AS m
      JOIN pg_catalog.pg_proc AS p ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
        AND p.oid OPERATOR(pg_catalog.=) m.objid
      JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
      UNION ALL
      SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
             c.oid::pg_catalog.regclass::pg_catalog.text, c.relowner,
             coalesce(c.relacl, pg_catalog.acldefault(
               CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 's'::pg_catalog."char" ELSE 'r' END, c.relowner)), false
      FROM members AS m
      JOIN pg_catalog.pg_class AS c ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        AND c.oid OPERATOR(pg_catalog.=) m.objid AND c.relkind OPERATOR(pg_catalog.<>) 'c'
      UNION ALL
      SELECT 'TYPE', t.oid::pg_catalog.regtype::pg_catalog.text, t.typowner, t.typacl, false
      FROM members AS m
      JOIN pg_catalog.pg_type AS t ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
        AND t.oid OPERATOR(pg_catalog.=) m.objid
      UNION ALL
      SELECT 'SCHEMA', pg_catalog.quote_ident(n.nspname), n.nspowner, n.nspacl, false
      FROM members AS m
      JOIN pg_catalog.pg_namespace AS n ON m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND n.oid OPERATOR(pg_catalog.=) m.objid
    )
    SELECT 1 AS turn, pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
             CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)) END) AS command
    FROM objects AS o
    CROSS JOIN LATERAL (SELECT DISTINCT a.grantee FROM pg_catalog.aclexplode(o.acl) AS a) AS g
    WHERE g.grantee OPERATOR(pg_catalog.<>) o.owner
    UNION ALL
    SELECT 2, pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO PUBLIC', o.name) FROM objects AS o WHERE o.is_helper
    ORDER BY turn
  LOOP
    EXECUTE one.command;
  END LOOP;

  -- A function that was replaced has lost this.
  FOR one IN
    SELECT pg_catalog.format('ALTER FUNCTION %s SUPPORT prism_crypt._role_support', p.oid::pg_catalog.regprocedure) AS command
    FROM prism_crypt._members('pg_catalog.pg_proc') AS m (oid)
    JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) m.oid
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'prism_crypt'::pg_catalog.regnamespace
      AND p.prokind OPERATOR(pg_catalog.=) 'f' AND p.prosupport OPERATOR(pg_catalog.=) 0
      AND p.provolatile OPERATOR(pg_catalog.<>) 'i'
      AND p.prorettype OPERATOR(pg_catalog.<>) ALL ('{internal,trigger,event_trigger}'::pg_catalog.regtype[])
      AND NOT pg_catalog.has_function_privilege('public', p.oid, 'EXECUTE')
  LOOP
    EXECUTE one.command;
  END LOOP;
END $$;
