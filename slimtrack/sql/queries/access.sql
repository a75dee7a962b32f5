-- create_tenant --
-- No row comes back where the name is taken.
INSERT INTO tenants (name, flow) VALUES (%(name)s, %(flow)s)
    ON CONFLICT (name) DO NOTHING
RETURNING id, name, flow, created_at;

-- list_tenants --
SELECT id, name, flow, created_at FROM tenants ORDER BY id;

-- get_tenant --
SELECT id, name, flow, created_at FROM tenants WHERE name = %(name)s;

-- set_flow --
UPDATE tenants SET flow = %(flow)s WHERE name = %(name)s
RETURNING id, name, flow, created_at;

-- create_key --
-- The row is there already if the same key is made again; nothing where there is no such tenant.
INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes, expires_at)
SELECT %(id)s, id, %(name)s, %(secret_hash)s, %(scopes)s, %(expires_at)s
  FROM tenants
 WHERE tenants.name = %(tenant)s
    ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash
RETURNING id;

-- list_keys --
SELECT api_keys.id, tenants.name, api_keys.name, scopes, api_keys.created_at, expires_at,
       last_used_at, revoked_at
  FROM api_keys JOIN tenants ON tenants.id = tenant_id
 ORDER BY api_keys.created_at;

-- revoke_key --
-- Nothing comes back for an unknown key; one that was revoked stays so since then.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = %(id)s
RETURNING id;

-- get_key --
-- A key that may be used now, and whose it is.
SELECT secret_hash, tenant_id, scopes, flow, expires_at,
       last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS unrecorded
  FROM api_keys JOIN tenants ON tenants.id = tenant_id
 WHERE api_keys.id = %(id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- record_use --
-- At most once a minute, so that a busy key costs nothing.
UPDATE api_keys SET last_used_at = now()
 WHERE id = %(id)s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute');

-- get_session_secret --
SELECT secret FROM session_secrets ORDER BY id DESC LIMIT 1;
