-- migrate:up

-- What happened: the one ordered truth of a call. Append-only; `sequence` counts from 1 without a gap.
-- No foreign key to calls: both are written by one statement, and a check for every event would only cost.
CREATE TABLE call_events (
    call_id  uuid        NOT NULL,
    sequence integer     NOT NULL CHECK (sequence > 0),
    type     text        NOT NULL,
    at       timestamptz NOT NULL,
    data     jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (call_id, sequence)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER call_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON call_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What a call is now: a projection of its events. The room left in each page lets a change stay beside the old row.
CREATE TABLE calls (
    id                uuid        PRIMARY KEY,
    direction         text        NOT NULL,
    status            text        NOT NULL,
    "from"            text        NOT NULL,
    "to"              text        NOT NULL,
    trunk             text,
    route             text,
    sip_call_id       text,
    client_state      text,
    timeout           float8      NOT NULL,
    created_at        timestamptz NOT NULL,
    ringing_at        timestamptz,
    answered_at       timestamptz,
    ended_at          timestamptz,
    duration          float8      NOT NULL,
    hangup_cause      text,
    hangup_source     text,
    sip_response_code integer,
    reason            text,
    sequence          integer     NOT NULL,
    legs              jsonb       NOT NULL DEFAULT '[]'
) WITH (fillfactor = 75);

-- One index for pages without a filter, one for every mixture of status and direction (queries.py asks it once for each pair).
CREATE INDEX calls_by_time ON calls (created_at DESC, id DESC);
CREATE INDEX calls_by_status ON calls (status, direction, created_at DESC, id DESC);

-- Legs change with every step of their call, so they are written with it, in its row; here they are as a table.
CREATE VIEW legs AS
    SELECT leg.id, calls.id AS call_id, leg.kind, leg.side, leg.state, leg.codec, leg.session_id, leg.stats
    FROM calls CROSS JOIN LATERAL jsonb_to_recordset(calls.legs)
        AS leg (id uuid, kind text, side text, state text, codec text, session_id uuid, stats jsonb);

-- A participant's ticket. Of its token there is only the SHA-256.
CREATE TABLE sessions (
    id         uuid        PRIMARY KEY,
    call_id    uuid        NOT NULL,
    role       text        NOT NULL,
    token_hash text        UNIQUE,
    ws_url     text        NOT NULL,
    created_at timestamptz NOT NULL,
    joined_at  timestamptz,
    left_at    timestamptz
);
CREATE INDEX sessions_by_call ON sessions (call_id);

-- migrate:down

DROP TABLE sessions;
DROP VIEW legs;
DROP TABLE calls;
DROP TABLE call_events;
DROP FUNCTION refuse_change();
