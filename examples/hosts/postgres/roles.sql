-- Run once, on the primary, as a superuser. The agent reads system views and
-- calls one function; it may read no table and change nothing.
CREATE ROLE rotunda LOGIN PASSWORD 'the line of /etc/rotunda/postgres.password';
GRANT pg_monitor TO rotunda;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO rotunda;
-- When a root is replaced it ends sessions and breaks links, if it is told to. That takes a right to end
-- the sessions of all but superusers; leave it out, and do it by hand.
GRANT pg_signal_backend TO rotunda;

-- What a standby logs in as.
CREATE ROLE replicator LOGIN REPLICATION;
