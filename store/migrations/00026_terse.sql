-- +goose Up

-- From min_server_schema 26 on a certificate's DER, what the policy saw of it and
-- the rule that allowed it are packed into der, and entries into content: see
-- store/terse.go. A new store is so from the start. Of an older one the servers of
-- the schema before go on to read all: it is so once there are none any more. What
-- stood there stays as it is.
UPDATE store_meta SET schema_version = 26;
UPDATE store_meta SET min_server_schema = 26 WHERE created_at = 0 AND trust_domain = '';
