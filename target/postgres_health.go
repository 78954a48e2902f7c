package target

import (
	"context"
	"fmt"

	"github.com/rotunda-pki/rotunda/probe"
)

// healthOfPostgres asks over the socket. A standby has to stream; where it is
// given no primary (it restores from an archive) there is nothing to stream.
// A primary has to take writes and to have all its standbys. A standby that is
// away leaves no trace there but its replication slot, if it has one.
func healthOfPostgres(ctx context.Context, _ Host, t Target, _ probe.Spec) error {
	if t.Control == nil || t.Control.Address == "" {
		return nil
	}
	s, err := t.postgresLogin(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	row, err := s.row(`SELECT pg_is_in_recovery(), current_setting('transaction_read_only')`)
	if err != nil {
		return err
	}
	if row[0] == "t" {
		return s.standbyStreams()
	}
	if row[1] != "off" {
		return fmt.Errorf("it is a primary and takes no writes: default_transaction_read_only is on")
	}
	return s.standbysStream()
}

func (s *postgresSession) standbyStreams() error {
	row, err := s.row(`SELECT coalesce((SELECT setting <> '' FROM pg_catalog.pg_settings WHERE name = 'primary_conninfo'), true),
		(SELECT status FROM pg_catalog.pg_stat_wal_receiver)`)
	switch {
	case err != nil:
		return err
	case row[0] != "t" || row[1] == "streaming":
		return nil
	case row[1] == "":
		return fmt.Errorf("it is a standby without a connection to its primary: its log says why")
	}
	return fmt.Errorf("it is a standby and its walreceiver is %s, not streaming", row[1])
}

func (s *postgresSession) standbysStream() error {
	rows, err := s.rows(`SELECT coalesce(nullif(application_name, ''), host(client_addr), '?'), state FROM pg_catalog.pg_stat_replication
			WHERE state NOT IN ('streaming', 'backup')
		UNION ALL SELECT slot_name, 'away: its replication slot is not in use' FROM pg_catalog.pg_replication_slots
			WHERE slot_type = 'physical' AND NOT active
		UNION ALL SELECT 'synchronous_standby_names', 'without any standby: commits wait'
			WHERE current_setting('synchronous_standby_names') <> ''
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
		ORDER BY 1 LIMIT 1`)
	if err != nil || len(rows) == 0 {
		return err
	}
	return fmt.Errorf("it is a primary, and its standby %s is %s", rows[0][0], rows[0][1])
}
