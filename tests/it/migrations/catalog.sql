-- Everything that the schemas of an application hold, a line each: two equal answers are two equal databases, but for
-- their rows. Diesel's own table is left out.
WITH here AS (
    SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
relations AS (
    SELECT pg_class.* FROM pg_class JOIN here ON here.oid = relnamespace WHERE relname !~ '^__diesel_')
SELECT line FROM (
    SELECT format('relation %s of kind %s', oid::regclass, relkind) AS line FROM relations
  UNION ALL
    SELECT format('column %s.%s %s%s default %s%s', relations.oid::regclass, attname, format_type(atttypid, atttypmod),
                  CASE WHEN attnotnull THEN ' not null' END, attidentity, pg_get_expr(adbin, adrelid))
    FROM relations
        JOIN pg_attribute ON attrelid = relations.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  UNION ALL
    SELECT format('constraint %s on %s: %s, validated %s', conname, conrelid::regclass,
                  pg_get_constraintdef(pg_constraint.oid), convalidated)
    FROM relations JOIN pg_constraint ON conrelid = relations.oid
  UNION ALL
    SELECT pg_get_indexdef(indexrelid) FROM relations JOIN pg_index ON indrelid = relations.oid
  UNION ALL
    SELECT format('%s, enabled %s', pg_get_triggerdef(pg_trigger.oid), tgenabled)
    FROM relations JOIN pg_trigger ON tgrelid = relations.oid AND NOT tgisinternal
  UNION ALL
    SELECT pg_get_functiondef(pg_proc.oid) FROM pg_proc JOIN here ON here.oid = pronamespace
  UNION ALL
    SELECT format('type %s: %s', pg_type.oid::regtype, labels.in_order)
    FROM pg_type JOIN here ON here.oid = typnamespace
        LEFT JOIN (
            SELECT enumtypid, string_agg(enumlabel, ', ' ORDER BY enumsortorder) AS in_order
            FROM pg_enum GROUP BY enumtypid) AS labels ON labels.enumtypid = pg_type.oid
    WHERE typname !~ '^_*diesel_schema'
  UNION ALL
    SELECT format('comment on %s: %s', pg_describe_object(classoid, objoid, objsubid), description)
    FROM pg_description
    WHERE objoid IN (
        SELECT oid FROM relations
        UNION SELECT pg_proc.oid FROM pg_proc JOIN here ON here.oid = pronamespace
        UNION SELECT pg_type.oid FROM pg_type JOIN here ON here.oid = typnamespace)
  UNION ALL
    SELECT format('schema %s', nspname) FROM pg_namespace JOIN here USING (oid)
) AS everything
ORDER BY line COLLATE "C"
