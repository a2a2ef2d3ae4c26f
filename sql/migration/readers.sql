-- Who reads and writes a column, and what they would lack once it is encrypted.

CREATE FUNCTION prism_crypt._has_access(role oid, access text) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT bool_and(CASE $1 WHEN 0 THEN has_function_privilege('public', f.oid, 'EXECUTE')
                          ELSE has_function_privilege($1, f.oid, 'EXECUTE') END)
  FROM (SELECT p.oid FROM pg_proc AS p WHERE p.oid IN (SELECT prism_crypt._members('pg_proc'))
          AND (access = 'decrypt' AND p.proname IN ('text', 'decrypt_field')
            OR access = 'search' AND p.proname IN ('encrypted_text_eq', 'encrypted_text_cmp')
            OR access = 'encrypt' AND p.proname = 'encrypt_field')) AS f
$$;
COMMENT ON FUNCTION prism_crypt._has_access(oid, text) IS
  'Whether a role (0: PUBLIC) has what makes a kind of access. Internal';

-- What the settings of a role, a database or the server make of prism_crypt.output for it.
CREATE FUNCTION prism_crypt._output_of(role oid) RETURNS text
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(
    (SELECT substr(c, strpos(c, '=') + 1)
     FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c
     WHERE s.setrole IN (0, $1) AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
       AND split_part(c, '=', 1) = 'prism_crypt.output'
     ORDER BY (s.setrole = $1) DESC, s.setdatabase DESC LIMIT 1),
    (SELECT g.reset_val FROM pg_settings AS g WHERE g.name = 'prism_crypt.output' AND g.source = 'configuration file'),
    'ciphertext')
$$;
COMMENT ON FUNCTION prism_crypt._output_of(oid) IS 'The output that a role gets when it logs in. Internal';

-- Rights to the column: of the table, of the column, and through views.
CREATE FUNCTION prism_crypt._column_roles(
  relation regclass, column_name name, OUT role oid, OUT reads boolean, OUT writes boolean, OUT through text[]
) RETURNS SETOF record
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH sources AS (
    SELECT m.member AS oid, m.attnum FROM prism_crypt._column_members($1, $2) AS m
    UNION ALL
    SELECT g.object, NULL FROM prism_crypt._dependant_graph($1, $2) AS g JOIN pg_class AS c ON c.oid = g.object
    WHERE g.class = 'pg_class'::regclass AND c.relkind IN ('v', 'm')
  ), rights AS (
    SELECT s.oid, a.grantee, a.privilege_type
    FROM sources AS s JOIN pg_class AS c ON c.oid = s.oid
    CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
    UNION ALL
    SELECT s.oid, a.grantee, a.privilege_type
    FROM sources AS s JOIN pg_attribute AS t ON t.attrelid = s.oid AND t.attnum = coalesce(s.attnum, t.attnum)
    CROSS JOIN LATERAL aclexplode(t.attacl) AS a
  )
  SELECT r.grantee, bool_or(r.privilege_type = 'SELECT'), bool_or(r.privilege_type IN ('INSERT', 'UPDATE')),
         array_agg(DISTINCT prism_crypt._qualified_name(r.oid))
  FROM rights AS r
  WHERE r.privilege_type IN ('SELECT', 'INSERT', 'UPDATE') GROUP BY r.grantee
$$;
COMMENT ON FUNCTION prism_crypt._column_roles(regclass, name) IS 'Roles that may read or write a column. Internal';

-- A setting of a role counts where the role itself logs in, not for its members.
CREATE FUNCTION prism_crypt._logins_of(role oid) RETURNS SETOF name
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT r.rolname FROM pg_roles AS r
  WHERE r.rolcanlogin AND (r.oid = $1 OR $1 <> 0 AND NOT r.rolsuper AND pg_has_role(r.oid, $1, 'USAGE'))
    AND prism_crypt._output_of(r.oid) <> 'plaintext'
  ORDER BY r.oid <> $1, r.rolname
$$;
COMMENT ON FUNCTION prism_crypt._logins_of(oid) IS
  'Roles that log in with the rights of a role, and get something else than plaintext. Internal';

CREATE FUNCTION prism_crypt._plan_roles(target prism_crypt._migration_target) RETURNS jsonb
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH roles AS (
    SELECT r.*, CASE r.role WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r.role)::text END AS name,
           r.reads AND NOT prism_crypt._has_access(r.role, 'decrypt') AS lacks_decrypt,
           target.is_searchable AND NOT prism_crypt._has_access(r.role, 'search') AS lacks_search,
           -- search includes it.
           r.writes AND NOT target.is_searchable AND NOT prism_crypt._has_access(r.role, 'encrypt') AS lacks_encrypt,
           r.reads AND prism_crypt._output_of(r.role) <> 'plaintext' AS sees_ciphertext
    FROM prism_crypt._column_roles(target.relation, target.column_name) AS r
  ), lacking AS (
    SELECT r.*, array_remove(ARRAY[CASE WHEN r.lacks_decrypt THEN 'decrypt' END, CASE WHEN r.lacks_search THEN 'search' END,
                                   CASE WHEN r.lacks_encrypt THEN 'encrypt' END], NULL) AS lacks
    FROM roles AS r
  )
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'role', l.name, 'reads', l.reads, 'writes', l.writes, 'through', l.through, 'lacks', l.lacks,
    'output', CASE WHEN l.sees_ciphertext THEN prism_crypt._output_of(l.role) ELSE 'plaintext' END,
    'sql', (SELECT coalesce(jsonb_agg(s.statement), '[]') FROM (
              SELECT format('SELECT prism_crypt.%I(%L, %L)', 'grant_access', quote_ident(l.name), a) FROM unnest(l.lacks) AS a
              WHERE l.role <> 0
              UNION ALL
              SELECT format('ALTER ROLE %I SET prism_crypt.output = ''plaintext''', m.name)
              FROM prism_crypt._logins_of(l.role) AS m (name) WHERE l.sees_ciphertext) AS s (statement)))
    ORDER BY l.name), '[]')
  FROM lacking AS l
  WHERE target.is_encrypting AND (l.lacks <> '{}' OR l.sees_ciphertext)
$$;
COMMENT ON FUNCTION prism_crypt._plan_roles(prism_crypt._migration_target) IS
  'Roles that would lose sight of a column, and what they need. Internal';
