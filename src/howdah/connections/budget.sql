-- Budgets, and who holds or waits for how many of their slots.
CREATE SCHEMA IF NOT EXISTS howdah;

CREATE TABLE IF NOT EXISTS howdah.budgets (
    name       text        PRIMARY KEY,
    slots      integer     NOT NULL CHECK (slots > 0),
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE howdah.budgets IS 'howdah.Budget: how many connections a fleet may hold together';

-- Unlogged: a crash ends every session, and with the sessions every reservation.
CREATE UNLOGGED TABLE IF NOT EXISTS howdah.reservations (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget     text        NOT NULL,
    slots      integer     NOT NULL CHECK (slots > 0),
    priority   integer     NOT NULL,
    purpose    text        NOT NULL,
    host       text        NOT NULL,
    process    integer     NOT NULL,
    backend    integer     NOT NULL DEFAULT pg_backend_pid(),
    asked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    granted_at timestamptz,
    lost_at    timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX IF NOT EXISTS reservations_budget_id_idx ON howdah.reservations (budget, id);
COMMENT ON TABLE howdah.reservations IS 'howdah.Budget: who holds slots (granted_at) or waits for them; a row counts as long as a session holds its advisory lock';
