"""
Everything that the catalogs say about the extension in a database, in a form that is the same wherever the extension is the same:
names instead of OIDs, and nothing of where or when it was made.
"""

import json

# Objects that belong to members, too: indexes, constraints, triggers, defaults, row types, operators of families. Names of TOAST tables and
# of triggers behind constraints have an OID in them. The view is none of the members, so that dumps write its definition.
QUERY = r"""
    SET search_path = pg_catalog;
    -- The view shows the wrapped keys of that moment.
    CREATE FUNCTION pg_temp.definition(text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace($1, '''.*''(::prism_crypt.key_rows)', '...\1') $$;
    WITH RECURSIVE ours (classid, objid) AS (
      SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
      WHERE d.deptype = 'e' AND e.extname = 'prism_crypt'
      UNION SELECT 'pg_class'::regclass, to_regclass('prism_crypt.carried_keys') WHERE to_regclass('prism_crypt.carried_keys') IS NOT NULL
      UNION SELECT d.classid, d.objid FROM ours AS o JOIN pg_depend AS d ON d.refclassid = o.classid AND d.refobjid = o.objid
      WHERE d.deptype IN ('i', 'a')
        AND NOT EXISTS (SELECT FROM pg_class AS c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 't')
        AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid AND t.tgisinternal)
    ), rights (classid, objid, objsubid, owner, acl) AS (
      SELECT 'pg_proc'::regclass, oid, 0, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
      UNION ALL SELECT 'pg_class'::regclass, oid, 0, relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) FROM pg_class
      UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, NULL, attacl FROM pg_attribute WHERE attacl IS NOT NULL
      UNION ALL SELECT 'pg_type'::regclass, oid, 0, typowner, coalesce(typacl, acldefault('T', typowner)) FROM pg_type
      UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
      UNION ALL SELECT 'pg_operator'::regclass, oid, 0, oprowner, NULL FROM pg_operator
      UNION ALL SELECT 'pg_opclass'::regclass, oid, 0, opcowner, NULL FROM pg_opclass
      UNION ALL SELECT 'pg_opfamily'::regclass, oid, 0, opfowner, NULL FROM pg_opfamily
    ), aspects (classid, objid, objsubid, aspect, value) AS (
      SELECT classid, objid, 0, 'exists', NULL FROM ours
      UNION ALL SELECT classid, objid, 0, 'comment', to_jsonb(obj_description(objid, classid::regclass::name)) FROM ours
      UNION ALL SELECT classid, objid, 0, 'depends on', (
        SELECT jsonb_agg(DISTINCT format('%s %s %s', d.deptype, i.type, i.identity)) FROM pg_depend AS d, pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) AS i
        WHERE d.classid = o.classid AND d.objid = o.objid) FROM ours AS o
      UNION ALL SELECT classid, objid, objsubid, 'owner', to_jsonb(owner::regrole::text) FROM rights
      UNION ALL SELECT classid, objid, objsubid, 'rights', (
        SELECT jsonb_agg(format('%s%s to %s by %s', a.privilege_type, CASE WHEN a.is_grantable THEN '*' END,
          CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.grantor::regrole) ORDER BY a.grantee::regrole::text, a.privilege_type)
        FROM aclexplode(acl) AS a) FROM rights
      UNION ALL SELECT classoid, objoid, objsubid, 'initial rights', jsonb_build_array(privtype, (
        SELECT jsonb_agg(format('%s%s to %s', a.privilege_type, CASE WHEN a.is_grantable THEN '*' END,
          CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END) ORDER BY a.grantee::regrole::text, a.privilege_type)
        FROM aclexplode(initprivs) AS a)) FROM pg_init_privs
      UNION ALL SELECT 'pg_proc'::regclass, oid, 0, 'definition', to_jsonb(pg_get_functiondef(oid)) FROM pg_proc WHERE prokind IN ('f', 'p', 'w') AND oid IN (SELECT objid FROM ours)
      UNION ALL SELECT 'pg_proc'::regclass, oid, 0, 'aggregate', jsonb_build_array(a.aggtransfn, a.aggfinalfn, a.aggtranstype::regtype, a.agginitval)
      FROM pg_proc JOIN pg_aggregate AS a ON a.aggfnoid = oid
      UNION ALL SELECT 'pg_class'::regclass, c.oid, 0, 'relation', to_jsonb(ARRAY[c.relkind::text, c.relpersistence::text, a.amname, c.reloptions::text, c.relreplident::text,
        c.relrowsecurity::text, c.relforcerowsecurity::text, c.relispartition::text, c.relispopulated::text, t.spcname])
      FROM pg_class AS c LEFT JOIN pg_am AS a ON a.oid = c.relam LEFT JOIN pg_tablespace AS t ON t.oid = c.reltablespace
      UNION ALL SELECT 'pg_class'::regclass, oid, 0, 'definition', to_jsonb(pg_temp.definition(pg_get_viewdef(oid))) FROM pg_class WHERE relkind IN ('v', 'm') AND oid IN (SELECT objid FROM ours)
      UNION ALL SELECT 'pg_class'::regclass, seqrelid, 0, 'sequence', to_jsonb(s) - '{seqrelid,seqtypid}'::text[] || jsonb_build_object('type', seqtypid::regtype) FROM pg_sequence AS s
      UNION ALL SELECT 'pg_class'::regclass, indexrelid, 0, 'definition', to_jsonb(ARRAY[pg_get_indexdef(indexrelid), indisunique::text, indisprimary::text, indisexclusion::text,
        indimmediate::text, indisclustered::text, indisvalid::text, indisready::text, indislive::text, indisreplident::text]) FROM pg_index WHERE indexrelid IN (SELECT objid FROM ours)
      UNION ALL SELECT 'pg_class'::regclass, a.attrelid, a.attnum, 'column', to_jsonb(ARRAY[
        (row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum))::text, format_type(a.atttypid, a.atttypmod), a.attnotnull::text, a.attidentity::text, a.attgenerated::text,
        a.attstorage::text, a.attcompression::text, a.attstattarget::text, (SELECT array_agg(o ORDER BY o)::text FROM unnest(a.attoptions) AS o WHERE o NOT LIKE 'pg_attver=%'), pg_get_expr(d.adbin, d.adrelid), k.collname, col_description(a.attrelid, a.attnum)])
      FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum LEFT JOIN pg_collation AS k ON k.oid = a.attcollation
      WHERE a.attnum > 0 AND NOT a.attisdropped
      UNION ALL SELECT 'pg_constraint'::regclass, oid, 0, 'definition', to_jsonb(ARRAY[pg_get_constraintdef(oid), convalidated::text, condeferrable::text, condeferred::text, connoinherit::text])
      FROM pg_constraint WHERE oid IN (SELECT objid FROM ours)
      UNION ALL SELECT 'pg_trigger'::regclass, oid, 0, 'definition', to_jsonb(ARRAY[pg_get_triggerdef(oid), tgenabled::text]) FROM pg_trigger
      UNION ALL SELECT 'pg_event_trigger'::regclass, oid, 0, 'definition', to_jsonb(e) - '{oid,evtowner}'::text[] FROM pg_event_trigger AS e
      UNION ALL SELECT 'pg_rewrite'::regclass, oid, 0, 'definition', to_jsonb(ARRAY[pg_temp.definition(pg_get_ruledef(oid)), ev_enabled::text]) FROM pg_rewrite WHERE oid IN (SELECT objid FROM ours)
      UNION ALL SELECT 'pg_policy'::regclass, oid, 0, 'definition', to_jsonb(ARRAY[polcmd::text, polpermissive::text, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)]) FROM pg_policy
      UNION ALL SELECT 'pg_type'::regclass, oid, 0, 'definition',
        to_jsonb(t) - '{oid,typnamespace,typowner,typrelid,typelem,typarray,typbasetype,typcollation,typacl,typdefaultbin}'::text[]
        || jsonb_build_object('element', typelem::regtype, 'array', typarray::regtype, 'base', typbasetype::regtype, 'collation', typcollation::regcollation) FROM pg_type AS t
      UNION ALL SELECT 'pg_operator'::regclass, oid, 0, 'definition', to_jsonb(o) - '{oid,oprnamespace,oprowner,oprleft,oprright,oprresult,oprcom,oprnegate}'::text[]
        || jsonb_build_object('result', oprresult::regtype, 'commutator', oprcom::regoperator, 'negator', oprnegate::regoperator, 'function', oprcode::oid::regprocedure) FROM pg_operator AS o
      UNION ALL SELECT 'pg_opclass'::regclass, c.oid, 0, 'definition', to_jsonb(ARRAY[c.opcintype::regtype::text, c.opckeytype::regtype::text, c.opcdefault::text, f.opfname])
      FROM pg_opclass AS c JOIN pg_opfamily AS f ON f.oid = c.opcfamily
      UNION ALL SELECT 'pg_amop'::regclass, oid, 0, 'definition', to_jsonb(ARRAY[amoppurpose::text, amopopr::regoperator::text]) FROM pg_amop
      UNION ALL SELECT 'pg_amproc'::regclass, oid, 0, 'definition', to_jsonb(amproc::oid::regprocedure::text) FROM pg_amproc
      UNION ALL SELECT 'pg_cast'::regclass, oid, 0, 'definition', to_jsonb(ARRAY[castfunc::regprocedure::text, castcontext::text, castmethod::text]) FROM pg_cast
    ), extension AS (
      SELECT jsonb_build_object('version', e.extversion, 'owner', e.extowner::regrole, 'schema', e.extnamespace::regnamespace, 'relocatable', e.extrelocatable,
        'comment', obj_description(e.oid, 'pg_extension'), 'dumped',
        (SELECT jsonb_object_agg(c.config::regclass, c.condition) FROM unnest(e.extconfig, e.extcondition) AS c (config, condition))) AS value
      FROM pg_extension AS e WHERE e.extname = 'prism_crypt'
    )
    SELECT jsonb_object_agg(object, value)
    FROM (
      SELECT i.type || ' ' || i.identity AS object, jsonb_object_agg(a.aspect, a.value) AS value
      FROM ours AS o JOIN aspects AS a USING (classid, objid), pg_identify_object(a.classid, a.objid, a.objsubid) AS i GROUP BY 1
      UNION ALL SELECT 'extension', value FROM extension
      UNION ALL SELECT 'row of job_kind: ' || k.name, to_jsonb(k) FROM prism_crypt.job_kind AS k
    ) AS objects
"""


def catalog(cluster, db, change=""):
    """{object: {aspect: value}}. change: statements that are done before, and rolled back."""
    return json.loads(cluster.psql(f"BEGIN; {change};\n{QUERY}", db=db))


def differences(found, expected):
    """What of an extension is otherwise, by the names of objects."""
    lines = [f"{name}: is missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name}: should not be there" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(found.keys() & expected.keys()):
        a, b = found[name], expected[name]
        lines += [f"{name}: {aspect}: {a.get(aspect)!r}, not {b.get(aspect)!r}" for aspect in sorted(a.keys() | b.keys()) if a.get(aspect) != b.get(aspect)]
    return lines


# Each right of each of these roles, also those that a membership gives.
RIGHTS = r"""
    SET search_path = pg_catalog;
    WITH members AS (
      SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
      WHERE d.deptype = 'e' AND e.extname = 'prism_crypt'
    ), roles AS (SELECT rolname FROM pg_roles WHERE rolname = ANY (string_to_array(:'roles', ' ')))
    SELECT format('%s may execute %s', r.rolname, m.objid::regprocedure) FROM roles AS r, members AS m
    WHERE m.classid = 'pg_proc'::regclass AND has_function_privilege(r.rolname, m.objid, 'EXECUTE')
    UNION ALL SELECT format('%s may %s %s', r.rolname, right_, m.objid::regclass) FROM roles AS r, members AS m JOIN pg_class AS c ON c.oid = m.objid,
      unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS right_
    WHERE m.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v') AND has_table_privilege(r.rolname, m.objid, right_)
    UNION ALL SELECT format('%s may %s %s', r.rolname, right_, m.objid::regclass) FROM roles AS r, members AS m JOIN pg_class AS c ON c.oid = m.objid,
      unnest('{USAGE,SELECT,UPDATE}'::text[]) AS right_
    WHERE m.classid = 'pg_class'::regclass AND c.relkind = 'S' AND has_sequence_privilege(r.rolname, m.objid, right_)
    UNION ALL SELECT format('%s may use %s', r.rolname, m.objid::regtype) FROM roles AS r, members AS m
    WHERE m.classid = 'pg_type'::regclass AND has_type_privilege(r.rolname, m.objid, 'USAGE')
    UNION ALL SELECT format('%s may %s in %s', r.rolname, right_, m.objid::regnamespace) FROM roles AS r, members AS m, unnest('{USAGE,CREATE}'::text[]) AS right_
    WHERE m.classid = 'pg_namespace'::regclass AND has_schema_privilege(r.rolname, m.objid, right_)
    ORDER BY 1
"""


def rights(cluster, db, roles):
    return cluster.psql(RIGHTS, db=db, vars={"roles": " ".join(roles)}).splitlines()
