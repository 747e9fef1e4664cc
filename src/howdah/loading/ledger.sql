-- What has been loaded. A chunk's rows and its row here commit together.
CREATE SCHEMA IF NOT EXISTS howdah;
COMMENT ON SCHEMA howdah IS 'howdah load: what has been loaded, and what could not be';

CREATE TABLE IF NOT EXISTS howdah.sources (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target      regclass    NOT NULL,
    name        text        NOT NULL,
    fingerprint text        NOT NULL,
    loaded_at   timestamptz NOT NULL,
    cut         text        NOT NULL,
    finished    boolean     NOT NULL,
    replaces    boolean     NOT NULL DEFAULT false,
    members     bigint      NOT NULL DEFAULT 0,
    records     bigint      NOT NULL DEFAULT 0,
    rejects     bigint      NOT NULL DEFAULT 0,
    UNIQUE (target, name)
);
COMMENT ON TABLE howdah.sources IS 'one row per source and table it was loaded into';
COMMENT ON COLUMN howdah.sources.fingerprint IS 'changes when the source changes; empty: never skip it';
COMMENT ON COLUMN howdah.sources.loaded_at IS 'with the name, says which rows of the table are the current ones';
COMMENT ON COLUMN howdah.sources.cut IS 'how its chunks were cut; a load resumes only what was cut the same way';
COMMENT ON COLUMN howdah.sources.replaces IS 'rows of an earlier content of the source may be in the table';
COMMENT ON COLUMN howdah.sources.members IS 'how many sources it holds, when it is an archive';

ALTER TABLE howdah.sources ADD COLUMN IF NOT EXISTS properties jsonb;
COMMENT ON COLUMN howdah.sources.properties IS 'what it says of itself as a whole, as Dublin Core, where its records are not the place: a workbook''s author';

ALTER TABLE howdah.sources ADD COLUMN IF NOT EXISTS options jsonb;
COMMENT ON COLUMN howdah.sources.options IS 'how its load was told to read it and to fill columns; null: it found out';

CREATE TABLE IF NOT EXISTS howdah.chunks (
    source    bigint      NOT NULL REFERENCES howdah.sources ON DELETE CASCADE,
    loaded_at timestamptz NOT NULL,
    chunk     integer     NOT NULL,
    load      timestamptz NOT NULL,
    records   bigint      NOT NULL DEFAULT 0,
    rejects   bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (source, loaded_at, chunk)
);
COMMENT ON TABLE howdah.chunks IS 'the committed chunks of sources that are not finished';
COMMENT ON COLUMN howdah.chunks.load IS 'when the load began that committed it';

CREATE TABLE IF NOT EXISTS howdah.rejects (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target    regclass    NOT NULL,
    source    text        NOT NULL,
    loaded_at timestamptz NOT NULL,
    record    bigint,
    place     text        NOT NULL,
    reason    text        NOT NULL,
    content   bytea
);
CREATE INDEX IF NOT EXISTS rejects_target_source_idx ON howdah.rejects (target, source);
COMMENT ON TABLE howdah.rejects IS 'what could not be loaded, and why';
COMMENT ON COLUMN howdah.rejects.record IS 'its number in the source; null: the source as a whole';
COMMENT ON COLUMN howdah.rejects.content IS 'its bytes; null where the source as a whole is meant';

CREATE TABLE IF NOT EXISTS howdah.loads (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target      regclass    NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sources     bigint      NOT NULL,
    skipped     bigint      NOT NULL,
    records     bigint      NOT NULL,
    rejects     bigint      NOT NULL
);
COMMENT ON TABLE howdah.loads IS 'one row per load that came to its end';
COMMENT ON COLUMN howdah.loads.started_at IS 'equals loaded_at of the rows of the sources that it began';

CREATE TABLE IF NOT EXISTS howdah.indexes (
    target     regclass    NOT NULL,
    schema     text        NOT NULL,
    name       text        NOT NULL,
    definition text        NOT NULL,
    tablespace text        NOT NULL,
    comment    text,
    statistics jsonb       NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schema, name)
);
COMMENT ON TABLE howdah.indexes IS 'indexes that a load has dropped and will build again: howdah load --restore-indexes --table NAME';
COMMENT ON COLUMN howdah.indexes.definition IS 'the CREATE INDEX';
COMMENT ON COLUMN howdah.indexes.tablespace IS 'empty: that of the database';
COMMENT ON COLUMN howdah.indexes.statistics IS 'targets of its columns, by number';
