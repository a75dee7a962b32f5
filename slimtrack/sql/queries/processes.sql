-- note_process --
-- A process lives. Only the clock of the database counts: ages come, not times.
INSERT INTO processes
       (id, kind, host, pid, queues, version, memory_bytes, started_at, seen_at)
VALUES (%(id)s, %(kind)s, %(host)s, %(pid)s, %(queues)s, %(version)s, %(memory_bytes)s,
        now() - make_interval(secs => %(age)s), now())
    ON CONFLICT (id) DO UPDATE
   SET queues = EXCLUDED.queues, memory_bytes = EXCLUDED.memory_bytes, seen_at = EXCLUDED.seen_at;

-- forget_process --
DELETE FROM processes WHERE id = %(id)s;

-- list_processes --
-- Every process that gave a sign of life lately, also those that have gone without a word.
SELECT id, kind, host, pid, queues, version, memory_bytes, started_at, seen_at,
       extract(epoch FROM now() - seen_at)::float8
  FROM processes
 ORDER BY kind, queues, host, started_at, id;

-- prune_processes --
DELETE FROM processes WHERE seen_at < now() - make_interval(secs => %(silence)s);
