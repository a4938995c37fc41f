"""The tables of the job store, and the steps that bring an older file up to date.

What is listed and changed often (`jobs`) is apart from what is big and written once (`documents`, `results`), so that
a change of status never rewrites a document. Triggers keep the counters, note what is to be delivered to whom, and remove
what belongs to a deleted job.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x4E47_4A42
"""Says in the file's header that it is a job store (`NGJB`)."""

VERSION_1 = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    number REAL NOT NULL,
    status TEXT NOT NULL,
    client_id TEXT,
    targets TEXT NOT NULL,
    priority REAL,
    front INTEGER NOT NULL,
    timeout REAL,
    max_attempts INTEGER NOT NULL,
    idempotency_key TEXT,
    webhook TEXT,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    worker TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    interruptions INTEGER NOT NULL DEFAULT 0,
    cancelling INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_queued ON jobs (number, seq) WHERE status = 'queued';
CREATE INDEX jobs_ended ON jobs (finished, seq) WHERE finished IS NOT NULL;
CREATE TABLE documents (seq INTEGER PRIMARY KEY, document TEXT NOT NULL, extra_data TEXT NOT NULL);
CREATE TABLE results (seq INTEGER PRIMARY KEY, outputs TEXT, meta TEXT, messages TEXT, problems TEXT);
CREATE TABLE counts (status TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counts VALUES ('queued', 0), ('running', 0), ('finished', 0), ('failed', 0), ('cancelled', 0);
CREATE TABLE settings (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO settings VALUES ('paused', 0);
CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1 WHERE status = NEW.status;
END;
CREATE TRIGGER job_changed AFTER UPDATE OF status ON jobs WHEN OLD.status <> NEW.status BEGIN
    UPDATE counts SET n = n - 1 WHERE status = OLD.status;
    UPDATE counts SET n = n + 1 WHERE status = NEW.status;
END;
CREATE TRIGGER job_removed AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE status = OLD.status;
    DELETE FROM documents WHERE seq = OLD.seq;
    DELETE FROM results WHERE seq = OLD.seq;
END;
"""

VERSION_2 = """
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    url TEXT NOT NULL,
    status TEXT NOT NULL,
    body TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL,
    delivered INTEGER NOT NULL DEFAULT 0,
    problem TEXT
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (due) WHERE due IS NOT NULL;
CREATE INDEX deliveries_by_job ON deliveries (job);
CREATE TRIGGER job_ended AFTER UPDATE OF status ON jobs
WHEN NEW.webhook IS NOT NULL AND NEW.status IN ('finished', 'failed', 'cancelled') AND OLD.status <> NEW.status BEGIN
    INSERT INTO deliveries (id, job, url, status, due)
    VALUES ('msg_' || lower(hex(randomblob(16))), NEW.id, NEW.webhook, NEW.status, 0);
END;
CREATE TRIGGER job_forgotten AFTER DELETE ON jobs WHEN OLD.webhook IS NOT NULL BEGIN
    DELETE FROM deliveries WHERE job = OLD.id AND due IS NULL;
END;
"""
"""Webhooks: that a job has ended is to be delivered from the very commit in which it ended."""

MIGRATIONS: Final = (VERSION_1, VERSION_2)
"""What brings a file from each version to the next; a new file starts at 0. Released ones never change."""
