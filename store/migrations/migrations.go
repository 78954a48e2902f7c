// Package migrations holds the schema of Rotunda's store as numbered SQL files.
//
// A file is never edited once it has landed. A change expands first and
// contracts a version later, so that a server of the version before still works
// on the store; where it could not, the migration raises min_server_schema.
// The text is the same for SQLite and PostgreSQL: BIGINT for integers and for
// times (µs since 1970, UTC), BYTEA for bytes, no dialect's own words.
package migrations

import "embed"

// Schema is the number of the newest migration: the schema that this binary
// reads and writes.
const Schema = 26

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
