-- Give the objects of the schema howdah.target what those of the same names in
-- howdah.source have from people: owner, grants, default privileges, comments,
-- publications, replica identity. howdah.is_new: the target is a new schema.
DO $$
DECLARE
    source name := current_setting('howdah.source');
    target name := current_setting('howdah.target');
    source_oid oid := pg_catalog.to_regnamespace(pg_catalog.quote_ident(source));
    target_oid oid := pg_catalog.to_regnamespace(pg_catalog.quote_ident(target));
    role_before text := pg_catalog.current_setting('role');
    todo record;
    statement text;
BEGIN
    IF source_oid IS NULL OR target_oid IS NULL THEN
        RETURN;
    END IF;
    FOR todo IN
        WITH same AS (
            SELECT o.oid AS old, n.oid AS new, o.relkind, o.relowner, n.relowner AS new_owner,
                   o.relacl, o.relname, o.relreplident, n.relreplident AS new_replident,
                   pg_catalog.format('%I.%I', target, n.relname) AS name
              FROM pg_catalog.pg_class AS o
              JOIN pg_catalog.pg_class AS n
                ON n.relnamespace = target_oid AND n.relname = o.relname AND n.relkind = o.relkind
             WHERE o.relnamespace = source_oid AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        ), routine AS (
            SELECT o.oid AS old, n.oid AS new, o.proowner, n.proowner AS new_owner, o.proacl,
                   pg_catalog.format('%I.%I(%s)', target, n.proname,
                          pg_catalog.pg_get_function_identity_arguments(n.oid)) AS name
              FROM pg_catalog.pg_proc AS o
              JOIN pg_catalog.pg_proc AS n
                ON n.pronamespace = target_oid AND n.proname = o.proname
               AND pg_catalog.pg_get_function_identity_arguments(n.oid)
                 = pg_catalog.replace(pg_catalog.pg_get_function_identity_arguments(o.oid),
                                      pg_catalog.quote_ident(source) || '.',
                                      pg_catalog.quote_ident(target) || '.')
             WHERE o.pronamespace = source_oid AND o.prokind <> 'a'
        ), granted AS (
            SELECT 3 AS turn, 'SCHEMA' AS kind, pg_catalog.quote_ident(target) AS name,
                   n.nspowner AS owner, NULL AS columns, a.*
              FROM pg_catalog.pg_namespace AS n,
                   pg_catalog.aclexplode(n.nspacl) WITH ORDINALITY AS a
             WHERE n.oid = source_oid AND a.grantee <> n.nspowner
            UNION ALL
            SELECT 4, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name, relowner, NULL,
                   a.grantor, CASE a.grantee WHEN relowner THEN new_owner ELSE a.grantee END,
                   a.privilege_type, a.is_grantable, a.ordinality
              FROM same, pg_catalog.aclexplode(relacl) WITH ORDINALITY AS a
            UNION ALL
            SELECT 4, 'TABLE', s.name, s.relowner, pg_catalog.format('(%I)', n.attname), a.*
              FROM same AS s
              JOIN pg_catalog.pg_attribute AS o ON o.attrelid = s.old AND o.attacl IS NOT NULL
              JOIN pg_catalog.pg_attribute AS n ON n.attrelid = s.new AND n.attname = o.attname
                   AND NOT n.attisdropped,
                   pg_catalog.aclexplode(o.attacl) WITH ORDINALITY AS a
             WHERE a.grantee <> s.relowner
            UNION ALL
            SELECT 4, 'ROUTINE', name, proowner, NULL, a.*
              FROM routine, pg_catalog.aclexplode(proacl) WITH ORDINALITY AS a
             WHERE a.grantee <> proowner
        ), commented AS (
            SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW'
                     WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
                     ELSE 'TABLE' END AS kind,
                   s.name, d.description
              FROM same AS s
              JOIN pg_catalog.pg_description AS d
                ON d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objoid = s.old AND d.objsubid = 0
             WHERE pg_catalog.obj_description(s.new, 'pg_class') IS NULL
            UNION ALL
            SELECT 'INDEX', pg_catalog.format('%I.%I', target, n.relname), d.description
              FROM pg_catalog.pg_class AS o
              JOIN pg_catalog.pg_class AS n
                ON n.relnamespace = target_oid AND n.relname = o.relname AND n.relkind = o.relkind
              JOIN pg_catalog.pg_description AS d
                ON d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objoid = o.oid AND d.objsubid = 0
             WHERE o.relnamespace = source_oid AND o.relkind IN ('i', 'I')
            UNION ALL
            SELECT 'CONSTRAINT', pg_catalog.format('%I ON %s', n.conname, s.name), d.description
              FROM same AS s
              JOIN pg_catalog.pg_constraint AS o ON o.conrelid = s.old
              JOIN pg_catalog.pg_constraint AS n ON n.conrelid = s.new AND n.conname = o.conname
              JOIN pg_catalog.pg_description AS d
                ON d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
               AND d.objoid = o.oid
            UNION ALL
            SELECT 'COLUMN', pg_catalog.format('%s.%I', s.name, n.attname), d.description
              FROM same AS s
              JOIN pg_catalog.pg_attribute AS o ON o.attrelid = s.old AND o.attnum > 0
              JOIN pg_catalog.pg_attribute AS n ON n.attrelid = s.new AND n.attname = o.attname
                   AND NOT n.attisdropped
              JOIN pg_catalog.pg_description AS d
                ON d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objoid = s.old AND d.objsubid = o.attnum
             WHERE pg_catalog.col_description(s.new, n.attnum) IS NULL
            UNION ALL
            SELECT 'SCHEMA', pg_catalog.quote_ident(target), d.description
              FROM pg_catalog.pg_description AS d
             WHERE d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
               AND d.objoid = source_oid
               AND pg_catalog.obj_description(target_oid, 'pg_namespace') IS NULL
        ), work AS (
            SELECT 1 AS turn, 0::bigint AS ordinality, NULL::name AS grantor, pg_catalog.format(
                       'ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I GRANT %s ON %s TO %s%s',
                       d.defaclrole::pg_catalog.regrole, target, a.privilege_type,
                       CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
                         WHEN 'f' THEN 'ROUTINES' ELSE 'TYPES' END,
                       CASE a.grantee WHEN 0 THEN 'PUBLIC'
                         ELSE a.grantee::pg_catalog.regrole::text END,
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
              FROM pg_catalog.pg_default_acl AS d, pg_catalog.aclexplode(d.defaclacl) AS a
             WHERE d.defaclnamespace = source_oid
            UNION ALL
            -- What default privileges would give to a new table, if it is new.
            SELECT 2, 0, NULL, pg_catalog.format('GRANT %s ON %s %s TO %s%s', a.privilege_type,
                       CASE n.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                       pg_catalog.format('%I.%I', target, n.relname),
                       CASE a.grantee WHEN 0 THEN 'PUBLIC'
                         ELSE a.grantee::pg_catalog.regrole::text END,
                       CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
              FROM pg_catalog.pg_default_acl AS d, pg_catalog.aclexplode(d.defaclacl) AS a,
                   pg_catalog.pg_class AS n
             WHERE d.defaclnamespace = source_oid AND n.relnamespace = target_oid
               AND d.defaclobjtype = CASE WHEN n.relkind = 'S' THEN 'S' ELSE 'r' END::"char"
               AND n.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND d.defaclrole = n.relowner
               AND a.grantee <> n.relowner
               AND NOT EXISTS (SELECT FROM same WHERE same.new = n.oid)
            UNION ALL
            -- An owner may have taken rights from itself: what it has is granted with the rest.
            SELECT 2, 0, NULL, pg_catalog.format('REVOKE ALL ON %s %s FROM %s',
                       CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name,
                       new_owner::pg_catalog.regrole)
              FROM same WHERE relacl IS NOT NULL
            UNION ALL
            -- In the order in which they were given: who passes a right on has been given it.
            SELECT turn, ordinality,
                   CASE WHEN grantor <> owner THEN pg_catalog.pg_get_userbyid(grantor) END,
                   pg_catalog.format('GRANT %s%s ON %s %s TO %s%s', privilege_type, columns,
                       kind, name,
                       CASE grantee WHEN 0 THEN 'PUBLIC'
                         ELSE grantee::pg_catalog.regrole::text END,
                       CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
              FROM granted
            UNION ALL
            SELECT 5, 0, NULL, pg_catalog.format('COMMENT ON %s %s IS %L', kind, name, description)
              FROM commented
             WHERE NOT pg_catalog.starts_with(description, 'howdah rebuild: ')
            UNION ALL
            SELECT 6, 0, NULL, pg_catalog.format('ALTER PUBLICATION %I ADD TABLE %s%s%s', p.pubname, s.name,
                       -- PostgreSQL 15 and later: to_jsonb passes over columns that are not there.
                       (SELECT ' (' || pg_catalog.string_agg(pg_catalog.quote_ident(c.attname), ', ')
                               || ')'
                          FROM pg_catalog.pg_attribute AS c
                         WHERE c.attrelid = r.prrelid
                           AND pg_catalog.to_jsonb(r)->'prattrs'
                               OPERATOR(pg_catalog.@>) pg_catalog.to_jsonb(c.attnum)),
                       (SELECT ' WHERE ' || (pg_catalog.to_jsonb(t)->>'rowfilter')
                          FROM pg_catalog.pg_publication_tables AS t
                         WHERE t.pubname = p.pubname AND t.schemaname = source
                           AND t.tablename = s.relname))
              FROM pg_catalog.pg_publication_rel AS r
              JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid
              JOIN same AS s ON s.old = r.prrelid
            UNION ALL
            SELECT 7, 0, NULL, pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY %s', name,
                       CASE relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END)
              FROM same
             WHERE relreplident IN ('f', 'n') AND relreplident <> new_replident
               AND relkind IN ('r', 'p')
            UNION ALL
            SELECT 7, 0, NULL, pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', s.name,
                       n.relname)
              FROM same AS s
              JOIN pg_catalog.pg_index AS k ON k.indrelid = s.old AND k.indisreplident
              JOIN pg_catalog.pg_class AS o ON o.oid = k.indexrelid
              JOIN pg_catalog.pg_class AS n
                ON n.relnamespace = target_oid AND n.relname = o.relname AND n.relkind = 'i'
             WHERE s.relreplident = 'i'
            UNION ALL
            SELECT 8, 0, NULL, pg_catalog.format('ALTER %s %s OWNER TO %s',
                       CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name,
                       relowner::pg_catalog.regrole)
              FROM same AS s
             WHERE relowner <> new_owner
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                                WHERE s.relkind = 'S' AND d.deptype IN ('a', 'i')
                                  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                  AND d.objid = s.new
                                  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
            UNION ALL
            SELECT 8, 0, NULL, pg_catalog.format('ALTER ROUTINE %s OWNER TO %s', name,
                       proowner::pg_catalog.regrole)
              FROM routine WHERE proowner <> new_owner
            UNION ALL
            SELECT 9, 0, NULL, pg_catalog.format('ALTER SCHEMA %I OWNER TO %s', target,
                       o.nspowner::pg_catalog.regrole)
              FROM pg_catalog.pg_namespace AS o, pg_catalog.pg_namespace AS n
             WHERE o.oid = source_oid AND n.oid = target_oid AND o.nspowner <> n.nspowner
               AND pg_catalog.current_setting('howdah.is_new')::boolean
        )
        SELECT work.grantor, work.statement FROM work ORDER BY turn, ordinality
    LOOP
        IF todo.grantor IS NOT NULL THEN
            BEGIN
                EXECUTE pg_catalog.format('SET LOCAL ROLE %I', todo.grantor);
                EXECUTE todo.statement;
                EXECUTE pg_catalog.format('SET LOCAL ROLE %s', CASE role_before
                    WHEN 'none' THEN 'NONE' ELSE pg_catalog.quote_ident(role_before) END);
                CONTINUE;
            EXCEPTION WHEN insufficient_privilege THEN
                NULL;  -- this role may not act for that one: the owner grants it
            END;
        END IF;
        EXECUTE todo.statement;
    END LOOP;
    -- PostgreSQL 15 and later publish whole schemas.
    IF pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL THEN
        FOR statement IN EXECUTE
            'SELECT pg_catalog.format(''ALTER PUBLICATION %I ADD TABLES IN SCHEMA %I'', p.pubname, $2)
               FROM pg_catalog.pg_publication_namespace AS n
               JOIN pg_catalog.pg_publication AS p ON p.oid = n.pnpubid
              WHERE n.pnnspid = $1' USING source_oid, target
        LOOP
            EXECUTE statement;
        END LOOP;
    END IF;
END
$$
