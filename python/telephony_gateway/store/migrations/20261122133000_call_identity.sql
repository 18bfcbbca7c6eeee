-- migrate:up

-- Who called by name, why it ended in the numbers of Q.850, and the headers that came or went with it.
ALTER TABLE calls ADD COLUMN from_name text;
ALTER TABLE calls ADD COLUMN q850_cause integer;
ALTER TABLE calls ADD COLUMN headers jsonb NOT NULL DEFAULT '{}';

-- migrate:down

ALTER TABLE calls DROP COLUMN headers;
ALTER TABLE calls DROP COLUMN q850_cause;
ALTER TABLE calls DROP COLUMN from_name;
