-- lock_key --
-- Whether this transaction is the only one to use a key, until it ends.
SELECT pg_try_advisory_xact_lock(hashtextextended(%(tenant_id)s || ':' || %(key)s, 0));

-- lock_rows --
-- Wait until no other transaction uses keys of rows of this tenant. One lock, not one for each
-- key: the server has room for some thousands of locks, whoever holds them.
SELECT pg_advisory_xact_lock(hashtextextended(%(tenant_id)s || ' rows', 0));

-- find_answers --
-- What was answered to commands with these keys. A statement of its own, after the locks: else it
-- would not see what their last holders have just stored.
SELECT key, fingerprint, status, headers, body
  FROM idempotency_keys
 WHERE tenant_id = %(tenant_id)s AND key = ANY(%(keys)s::text[])
   AND created_at > now() - make_interval(secs => %(lifetime)s);

-- store_answers --
-- In the transaction of the effect; one that is too old to be given again makes room.
INSERT INTO idempotency_keys (tenant_id, key, fingerprint, status, headers, body)
SELECT %(tenant_id)s, key, fingerprint, %(status)s, %(headers)s::text::jsonb, body
  FROM unnest(%(keys)s::text[], %(fingerprints)s::bytea[], %(bodies)s::bytea[])
       AS answered (key, fingerprint, body)
    ON CONFLICT (tenant_id, key) DO UPDATE
   SET fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers,
       body = excluded.body, created_at = now();

-- prune_answers --
-- Forget what is too old to be given again, some rows at a time. Without locks, for which the
-- publisher's role has no right: whether a row is old is asked once more, as it may have been
-- written again meanwhile.
DELETE FROM idempotency_keys
 WHERE ctid = ANY(ARRAY(SELECT ctid
                          FROM idempotency_keys
                         WHERE created_at < now() - make_interval(secs => %(lifetime)s)
                         LIMIT %(limit)s))
   AND created_at < now() - make_interval(secs => %(lifetime)s);
