-- The last batch that each lane of a writer has committed; in the transaction of its rows.
CREATE SCHEMA IF NOT EXISTS howdah;

CREATE TABLE IF NOT EXISTS howdah.writer_batches (
    writer       uuid        NOT NULL,
    lane         integer     NOT NULL,
    batch        bigint      NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer, lane, batch)
);
COMMENT ON TABLE howdah.writer_batches IS 'howdah.Writer: the last batch that each of its connections has committed';
