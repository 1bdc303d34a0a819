-- Roles beside asker and writer. Rows stay as they are, so that the release before this one goes on with them: a writer's key in
-- the group `administrators` or `editors` has the role that the group stands for when it is read (docs/adr/0053).

ALTER TABLE api_keys DROP CONSTRAINT api_keys_role_check;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_role_check
    CHECK (role IN ('asker', 'writer', 'curator', 'operator', 'administrator'));
