-- migrate:up

-- Trunks and routes made by the API; those of gateway.toml stay in their file. A row's version is the revision that
-- wrote it, so that no version comes twice, not even when a name is deleted and made anew. Secrets are never here.
CREATE TABLE plan_rows (
    kind       text        NOT NULL CHECK (kind IN ('trunk', 'route')),
    name       text        NOT NULL,
    position   integer     NOT NULL,
    version    bigint      NOT NULL,
    row        jsonb       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

-- One row. Who changes the plan moves it on from the revision that was checked: two at once cannot both succeed.
CREATE TABLE plan_revision (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint  NOT NULL
);
INSERT INTO plan_revision (revision) VALUES (0);

-- migrate:down

DROP TABLE plan_revision;
DROP TABLE plan_rows;
