package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	controlplane "github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the store, whether its server runs or not",
		Long: `Copies the store of this machine's server, as it is at one moment, into a new
file that only you may read. The server goes on meanwhile. The copy is checked
before it gets its name: SQLite finds nothing amiss in it, it is of the server's
trust domain, and its audit log hashes up to the checkpoint that the log's key
signed. An existing file is not overwritten.

The keys in the copy are sealed. The KEK that opens them is not in it, and
neither is the root's key: keep them apart from it and from each other.

Run it as root or as the server's user. docs/operations.md says how a copy is
put back: rotunda restore.`,
		Example: `  rotunda backup /backup/rotunda-$(date +%F).db
  rotunda backup --state ./rotunda copy.db`,
		Args: cobra.ExactArgs(1),
	}
	state := cmd.Flags().String("state", "/var/lib/rotunda", "the server's state `directory`")
	key := cmd.Flags().String("log-key", "", "the audit log's public `key`, or the file that holds it (default: STATE/admin/log.pub, or by the KEK)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return backup(cmd.Context(), newUI(cmd), *state, *key, args[0])
	}
	return cmd
}

func backup(ctx context.Context, u *ui, state, logKey, to string) error {
	state, err := filepath.Abs(state)
	if err != nil {
		return err
	}
	config, err := controlplane.LoadConfig(state)
	if err != nil {
		return err
	}
	domain := config.TrustDomain
	var found control.CheckedCopy
	done := u.progressOf(func() string { return "copying the store" + grown(to) })
	err = store.Backup(ctx, config.Store, to, func(tx *store.Tx) error {
		verifier, err := backupVerifier(ctx, tx, config, state, logKey)
		if err != nil {
			return err
		}
		if domain == "" { // this server serves whichever its store is of
			domain = strings.TrimSuffix(verifier.Name(), "/audit")
		}
		found, err = control.CheckCopy(ctx, tx, domain, verifier)
		return err
	})
	done()
	if err != nil {
		return err
	}
	u.say("%s is a copy of %s, checked.", to, config.Store)
	u.sheet([]field{
		{"trust domain", found.TrustDomain}, {"epoch", number(found.Epoch)},
		{"as of", found.LastCommit.Format(time.RFC3339)},
		{"audit log", fmt.Sprintf("entries under the newest checkpoint: %d; pending: %d", found.Entries, found.Pending)},
		{"size", fileSize(to)},
	})
	u.note("Not in it, and needed to use it: the KEK (%s) and the root's key (%s, or wherever you keep it).", kekPlace(config), filepath.Join(state, "root", "key.pem"))
	return nil
}

// backupVerifier is the key that the copy's checkpoint must be signed by: as
// pinned, or as the KEK, which no store holds, bears out.
func backupVerifier(ctx context.Context, tx *store.Tx, config controlplane.Config, state, logKey string) (note.Verifier, error) {
	if admin := filepath.Join(state, "admin"); logKey != "" || exists(filepath.Join(admin, logKeyFile)) {
		return pinnedKey(logKey, admin)
	}
	kek, err := keys.OpenKEK(keys.Source{File: config.KEK.File, Credential: config.KEK.Credential})
	if err != nil {
		return nil, fault.Wrap(fault.CodeOf(err), err, "the audit log's key is neither pinned here nor to be had by the KEK").
			WithRemedy("say --log-key; agents keep it as logKey in agent.yaml, operators as log.pub")
	}
	return control.LogVerifier(ctx, tx, kek)
}

func kekPlace(config controlplane.Config) string {
	if config.KEK.Credential != "" {
		return "the systemd credential " + config.KEK.Credential
	}
	return config.KEK.File
}

// grown says how large the file is that the backup is written to.
func grown(to string) string {
	if size := fileSize(store.PartialBackup(to)); size != "" {
		return ", " + size
	}
	return ""
}

func fileSize(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%.1f MiB", float64(info.Size())/(1<<20))
}
