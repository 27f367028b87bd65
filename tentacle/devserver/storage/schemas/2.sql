CREATE TABLE script (
    activity TEXT PRIMARY KEY REFERENCES activity (id) ON DELETE CASCADE,
    ticket TEXT NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER
);
