package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
)

func newGetServersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "servers",
		Aliases: []string{"server"},
		Short:   "List the servers that share the store, and how many agents each has",
		Long: `Lists the servers of this installation as each last said in the store that it is
there, which it does every ten seconds. One that has not for thirty is taken for
dead: its agents count as connected again when they are at another. A server on a
SQLite file is alone.`,
		Example: `  rotunda get servers
  rotunda get servers -o json | jq '.servers[] | select(.alive | not)'`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			list, err := invoke(ctx, s.ListServers, &api.ListServersRequest{})
			if err != nil {
				return err
			}
			return u.show(*output, list, func() { serverTable(u, list.Servers).write(u, "There are none.") })
		})
	}
	return cmd
}

func serverTable(u *ui, servers []*api.ServerInfo) *table {
	t := newTable("SERVER", "AGENTS AT", "STATE", "CONNECTED", "STARTED", "VERSION", "SCHEMA")
	for _, one := range servers {
		state := cell{"up", good}
		switch {
		case !one.Alive:
			state = cell{"dead, seen " + relative(u.now, one.SeenAt), bad}
		case one.Here:
			state = cell{"up, answers", good}
		}
		t.row(orElse(one.Name, "-"), orElse(one.Address, "-"), state, number(uint64(one.Agents)), relative(u.now, one.StartedAt), one.Version, number(one.Schema))
	}
	return t
}
