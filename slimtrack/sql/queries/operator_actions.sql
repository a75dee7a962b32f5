-- record_action --
-- Who did what, and why; no row comes back where an action of that name was recorded before.
INSERT INTO operator_actions
       (action, operation, operator, reason, selection, affected, expected)
VALUES (%(action)s, %(operation)s, %(operator)s, %(reason)s, %(selection)s::jsonb, %(affected)s,
        %(expected)s)
    ON CONFLICT (operation) DO NOTHING
RETURNING id;

-- list_actions --
-- What operators did, the latest first.
SELECT id, action, operation, operator, reason, selection, affected, expected, acted_at
  FROM operator_actions
 WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
 ORDER BY id DESC
 LIMIT %(limit)s;

-- get_action --
SELECT id, action, operation, operator, reason, selection, affected, expected, acted_at
  FROM operator_actions
 WHERE operation = %(operation)s;
