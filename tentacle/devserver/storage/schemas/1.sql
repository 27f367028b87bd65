CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE counter (name TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE resource (
    id TEXT COLLATE NOCASE PRIMARY KEY,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    space TEXT NOT NULL,
    name TEXT COLLATE NOCASE NOT NULL,
    body TEXT NOT NULL,
    observed TEXT NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX resource_name ON resource (kind, space, name);
CREATE TABLE api_key (
    hash TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    user TEXT NOT NULL,
    purpose TEXT NOT NULL,
    shown TEXT NOT NULL,
    created TEXT NOT NULL
);
CREATE TABLE task (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    space TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    queued TEXT NOT NULL,
    started TEXT,
    completed TEXT,
    error TEXT NOT NULL DEFAULT '',
    warnings INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX task_state ON task (state);
CREATE TABLE activity (
    id TEXT PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES task (number) ON DELETE CASCADE,
    parent TEXT,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    started TEXT,
    ended TEXT,
    progress INTEGER NOT NULL DEFAULT 0,
    progress_message TEXT NOT NULL DEFAULT ''
);
CREATE INDEX activity_task ON activity (task);
CREATE TABLE log (
    task INTEGER NOT NULL REFERENCES task (number) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    activity TEXT NOT NULL,
    category TEXT NOT NULL,
    occurred TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (task, number)
) WITHOUT ROWID;
