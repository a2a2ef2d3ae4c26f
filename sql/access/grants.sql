-- What contradicts "a right is EXECUTE on a function": grants that grant_access() has not made, and objects of others with the
-- names of ours. prism_crypt.status() reports both.

CREATE FUNCTION prism_crypt._unexpected_grants() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH granted AS (
    SELECT 'pg_proc'::regclass AS class, p.oid AS object, a.grantee, a.privilege_type, a.is_grantable
    FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS p ON p.oid = m.oid
    CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE a.grantee <> p.proowner
    UNION ALL
    SELECT 'pg_class', c.oid, a.grantee, a.privilege_type, a.is_grantable
    FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
    WHERE (c.oid IN (SELECT prism_crypt._members('pg_class')) OR c.oid = to_regclass('prism_crypt.carried_keys'))
      AND a.grantee <> c.relowner
    UNION ALL
    SELECT 'pg_class', c.oid, a.grantee, a.privilege_type || ' of columns', a.is_grantable
    FROM prism_crypt._members('pg_class') AS m (oid) JOIN pg_class AS c ON c.oid = m.oid
    JOIN pg_attribute AS t ON t.attrelid = c.oid
    CROSS JOIN aclexplode(t.attacl) AS a WHERE a.grantee <> c.relowner
    UNION ALL
    SELECT 'pg_namespace', n.oid, a.grantee, a.privilege_type, a.is_grantable
    FROM prism_crypt._members('pg_namespace') AS m (oid) JOIN pg_namespace AS n ON n.oid = m.oid
    CROSS JOIN aclexplode(n.nspacl) AS a WHERE a.grantee <> n.nspowner
  ), functions AS (
    SELECT kind, f.oid, count(*) OVER (PARTITION BY kind) AS number
    FROM unnest(prism_crypt._access_kinds()) AS kind
    CROSS JOIN unnest(prism_crypt._access_functions(kind)::oid[]) AS f (oid)
  ), held AS MATERIALIZED (
    -- Kinds of access that a role has completely, by its own grants.
    SELECT g.grantee, f.kind
    FROM functions AS f JOIN granted AS g ON g.class = 'pg_proc'::regclass AND g.object = f.oid AND g.grantee <> 0
    GROUP BY g.grantee, f.kind, f.number HAVING count(DISTINCT f.oid) = f.number
  ), expected AS (
    SELECT 'pg_proc'::regclass AS class, f.oid AS object, h.grantee, 'EXECUTE' AS privilege_type
    FROM held AS h JOIN functions AS f ON f.kind = h.kind
    UNION
    SELECT i.classoid, i.objoid, 0, a.privilege_type
    FROM pg_init_privs AS i CROSS JOIN aclexplode(i.initprivs) AS a
    WHERE i.classoid IN ('pg_proc'::regclass, 'pg_class'::regclass) AND a.grantee = 0
    UNION
    SELECT 'pg_namespace', 'prism_crypt'::regnamespace, h.grantee, 'USAGE' FROM held AS h
    UNION
    SELECT 'pg_class', c.oid, h.grantee, 'SELECT'
    FROM pg_class AS c JOIN held AS h ON h.kind IN ('rotate', 'migrate') AND c.relname = 'progress'
      OR h.kind IN ('migrate', 'monitor') AND c.relname = 'migrations'
      OR h.kind IN ('monitor', 'key_admin') AND c.relname IN ('progress', 'key_status', 'index_key_status', 'audit_log')
    WHERE c.relnamespace = 'prism_crypt'::regnamespace
  ), unexpected AS (
    SELECT DISTINCT format(
      '%s on %s to %s%s', g.privilege_type,
      CASE g.class WHEN 'pg_proc'::regclass THEN g.object::regprocedure::text
                   WHEN 'pg_class'::regclass THEN g.object::regclass::text ELSE 'schema ' || g.object::regnamespace END,
      CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
      CASE WHEN g.is_grantable THEN ' with grant option' ELSE '' END) AS what
    FROM granted AS g
    WHERE g.is_grantable
       OR (g.class, g.object, g.grantee, g.privilege_type) NOT IN (
         SELECT e.class, e.object, e.grantee, e.privilege_type FROM expected AS e)
  )
  SELECT CASE WHEN count(*) > 20 THEN format('%s grants, among them: ', count(*)) ELSE '' END
           || string_agg(what, '; ' ORDER BY what) FILTER (WHERE number <= 20)
  FROM (SELECT what, row_number() OVER (ORDER BY what) AS number FROM unexpected) AS u
$$;
COMMENT ON FUNCTION prism_crypt._unexpected_grants() IS
  'Grants on objects of the extension that neither installation nor grant_access() made; null if there are none. Internal';

-- PostgreSQL finds cast functions by their types, so namesakes of these don't matter.
CREATE FUNCTION prism_crypt._namesakes() RETURNS text
  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH types AS (SELECT type FROM prism_crypt._encrypted_types() WHERE NOT nested), others AS (
    SELECT format('%s of %s', p.oid::regprocedure, quote_ident(pg_get_userbyid(p.proowner))) AS what
    FROM pg_proc AS p
    WHERE p.oid NOT IN (SELECT prism_crypt._members('pg_proc'))
      AND (p.pronamespace = 'prism_crypt'::regnamespace
        OR p.pronamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'prism_crypt')
          AND p.proname IN (SELECT o.proname FROM prism_crypt._members('pg_proc') AS m (oid) JOIN pg_proc AS o ON o.oid = m.oid)
          AND p.proname NOT IN ('text', 'varchar', 'bpchar', 'name', 'bytea'))
    UNION ALL
    SELECT format('%s of %s', o.oid::regoperator, quote_ident(pg_get_userbyid(o.oprowner)))
    FROM pg_operator AS o
    WHERE o.oid NOT IN (SELECT prism_crypt._members('pg_operator'))
      AND (o.oprnamespace = 'prism_crypt'::regnamespace
        OR o.oprnamespace = (SELECT extnamespace FROM pg_extension WHERE extname = 'prism_crypt')
          AND (o.oprleft IN (SELECT type FROM types) OR o.oprright IN (SELECT type FROM types)))
    UNION ALL
    SELECT format('%s of %s', c.oid::regclass, quote_ident(pg_get_userbyid(c.relowner)))
    FROM pg_class AS c
    WHERE c.relnamespace = 'prism_crypt'::regnamespace AND c.relkind NOT IN ('i', 'I', 't', 'c') AND c.relname <> 'carried_keys'
      AND c.oid NOT IN (SELECT prism_crypt._members('pg_class'))
      -- Sequences of identity columns belong to their tables.
      AND NOT EXISTS (SELECT FROM pg_depend AS d JOIN prism_crypt._members('pg_class') AS m (oid) ON m.oid = d.refobjid
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')
  )
  SELECT string_agg(what, '; ' ORDER BY what) FROM others
$$;
COMMENT ON FUNCTION prism_crypt._namesakes() IS
  'Functions, operators and tables of others that may be mistaken for ours; null if there are none. Internal';
