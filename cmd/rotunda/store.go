package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/spf13/cobra"

	controlplane "github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

func newStoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Move the store to another place",
		Long: `A store is a SQLite file, for one server, or a PostgreSQL database, which many
servers share. It is named under store: in rotunda.yaml.`,
		Example: `  rotunda store migrate --to 'postgres://rotunda@db.example.org/rotunda?sslmode=verify-full'`,
	}
	cmd.AddCommand(newStoreMigrateCommand())
	return cmd
}

func newStoreMigrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate --to PLACE",
		Short: "Copy the store to another place, compare both, and retire the old one",
		Long: `Copies everything that the store holds into a file or database that is made for
it, reads the copy back and compares it row by row with what was copied. Then the
old store is marked so that no server serves it again: two that went on from one
log would fork it. Cut off before that it leaves the old store in use; where the
copy was whole by then, it is there too, and has to be removed before another try.

Stop the servers first: a SQLite store that a server uses is refused; servers on a
database wait while it is copied, and are refused from then on. Then write
the new place under store: in each server's rotunda.yaml. Keys, archives and
rotunda.yaml are not part of the store and stay where they are.

A place is a path, or a URL as libpq understands it, postgres://ROLE@HOST/DATABASE
with sslmode, sslrootcert, sslcert and sslkey. A password is better kept in
~/.pgpass, or a file named with passfile=, than in the URL.`,
		Example: `  rotunda store migrate --to 'postgres://rotunda@db.example.org/rotunda?sslmode=verify-full&sslrootcert=/etc/rotunda/db-ca.pem' --dry-run
  rotunda store migrate --from 'postgres://rotunda@db.example.org/rotunda' --to /var/lib/rotunda/rotunda.db`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(cmd)
	state := cmd.Flags().String("state", "/var/lib/rotunda", "the server's state `directory`, whose rotunda.yaml names the store")
	from := cmd.Flags().String("from", "", "the `place` to copy from (default: store in STATE/rotunda.yaml)")
	to := cmd.Flags().String("to", "", "the `place` to copy to; nothing may be there")
	dryRun := cmd.Flags().Bool("dry-run", false, "look whether it could be done, and change nothing")
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.MarkFlagDirname("state")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		source, err := sourceOf(*from, *state)
		if err != nil {
			return err
		}
		return migrateStore(cmd.Context(), newUI(cmd), *output, source, store.Locate(*to), *dryRun)
	}
	return cmd
}

func sourceOf(from, state string) (store.Options, error) {
	if from != "" {
		return store.Locate(from), nil
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return store.Options{}, err
	}
	config, err := controlplane.LoadConfig(state)
	return store.Locate(config.Store), err
}

// migrated is what a migration did, or would do.
type migrated struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Rows   uint64 `json:"rows"`
	DryRun bool   `json:"dryRun,omitempty"`
}

func migrateStore(ctx context.Context, u *ui, output format, from, to store.Options, dryRun bool) error {
	did := migrated{DryRun: dryRun}
	var err error
	if did.From, err = from.Place(); err != nil {
		return err
	}
	if did.To, err = to.Place(); err != nil {
		return err
	}
	var rows atomic.Uint64
	var table atomic.Value
	table.Store("")
	done := u.progressOf(func() string { return fmt.Sprintf("copying the store: %d rows, table %s", rows.Load(), table.Load()) })
	if dryRun {
		err = store.TryMove(ctx, from, to)
	} else {
		err = store.Move(ctx, from, to, func(c store.Copied) { rows.Store(c.Rows); table.Store(c.Table) })
	}
	done()
	if err != nil {
		return err
	}
	did.Rows = rows.Load()
	return u.showValue(output, did, func() {
		if dryRun {
			u.say("%s could be moved to %s.", did.From, did.To)
			return
		}
		u.say("The store is at %s now: %d rows, compared with what was copied.", did.To, did.Rows)
		u.note("%s is retired: no server serves it any more. Write the new place under store: in rotunda.yaml, and start the servers.", did.From)
	})
}
