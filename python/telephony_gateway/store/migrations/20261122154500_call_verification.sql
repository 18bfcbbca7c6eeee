-- migrate:up

-- Whether somebody vouched for the caller's number (STIR/SHAKEN).
ALTER TABLE calls ADD COLUMN verification jsonb;

-- migrate:down

ALTER TABLE calls DROP COLUMN verification;
