ALTER TABLE api_key ADD COLUMN expires TEXT;
DELETE FROM api_key WHERE purpose = 'devserver';
UPDATE resource SET body = json_remove(json_set(body, '$.Username', name, '$.IsActive', json('true')), '$.Name')
WHERE kind = 'users';
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    occurred TEXT NOT NULL,
    category TEXT NOT NULL,
    user TEXT NOT NULL,
    username TEXT NOT NULL,
    space TEXT NOT NULL,
    resource TEXT NOT NULL,
    message TEXT NOT NULL
);
