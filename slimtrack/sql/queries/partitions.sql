-- may_make_partitions --
-- Whether this session's role may do it.
SELECT has_function_privilege('make_order_event_partitions()', 'EXECUTE');

-- make_partitions --
-- Make the partitions of this month and the next two that are missing.
SELECT make_order_event_partitions();

-- list_partitions --
-- The partitions of order_events, those of older orders first and the default one last. Of which
-- ids each is comes from the text in which PostgreSQL shows it.
SELECT relname,
       coalesce(substring(bound FROM 'FROM \(''(.+?)''\)'),
                '00000000-0000-0000-0000-000000000000')::uuid,
       coalesce(substring(bound FROM 'TO \(''(.+?)''\)'),
                'ffffffff-ffff-ffff-ffff-ffffffffffff')::uuid,
       bound = 'DEFAULT',
       pg_total_relation_size(oid)
  FROM pg_partition_tree('order_events') AS tree
  JOIN (SELECT oid, relname, pg_get_expr(relpartbound, oid) AS bound FROM pg_class) AS partitions
    ON oid = tree.relid
 WHERE isleaf
 ORDER BY bound = 'DEFAULT', 2;
