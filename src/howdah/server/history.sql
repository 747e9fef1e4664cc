CREATE SCHEMA IF NOT EXISTS howdah;
CREATE TABLE IF NOT EXISTS howdah.setting_changes (
    number     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text        NOT NULL DEFAULT session_user,
    reason     text        NOT NULL,
    way        text        NOT NULL CHECK (way IN ('ALTER SYSTEM', 'include file')),
    state      text        NOT NULL,
    undoes     bigint,
    steps      jsonb       NOT NULL  -- [{"name", "before", "after", "written"}, ...]
);
