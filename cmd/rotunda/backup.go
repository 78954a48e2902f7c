package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/archive"
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

Archives of certificates are files beside the store, and not in the copy. With
--archives DIR those that DIR lacks are copied there too, each once it has the
hash that the audit log says.

The keys in the copy are sealed. The KEK that opens them is not in it, and
neither is the root's key: keep them apart from it and from each other.

Run it as root or as the server's user. docs/operations.md says how a copy is
put back: rotunda restore.`,
		Example: `  rotunda backup /backup/rotunda-$(date +%F).db --archives /backup/archive
  rotunda backup --state ./rotunda copy.db`,
		Args: cobra.ExactArgs(1),
	}
	state := cmd.Flags().String("state", "/var/lib/rotunda", "the server's state `directory`")
	key := cmd.Flags().String("log-key", "", "the audit log's public `key`, or the file that holds it (default: STATE/admin/log.pub, or by the KEK)")
	archives := cmd.Flags().String("archives", "", "copy archives that this `directory` lacks into it; it is made in one that exists")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return backup(cmd.Context(), newUI(cmd), *state, *key, args[0], *archives)
	}
	return cmd
}

func backup(ctx context.Context, u *ui, state, logKey, to, archives string) error {
	state, err := filepath.Abs(state)
	if err != nil {
		return err
	}
	config, err := controlplane.LoadConfig(state)
	if err != nil {
		return err
	}
	place, err := store.Locate(config.Store).Place()
	if err != nil {
		return err
	}
	domain := config.TrustDomain
	var found control.CheckedCopy
	done := u.progressOf(func() string { return "copying the store" + grown(to) })
	err = store.Backup(ctx, store.Locate(config.Store), to, func(tx *store.Tx) error {
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
	u.say("%s is a copy of %s, checked.", to, place)
	u.sheet([]field{
		{"trust domain", found.TrustDomain}, {"epoch", number(found.Epoch)},
		{"as of", found.LastCommit.Format(time.RFC3339)},
		{"audit log", fmt.Sprintf("entries under the newest checkpoint: %d; pending: %d", found.Entries, found.Pending)},
		{"size", fileSize(to)},
	})
	if err := backupArchives(u, found.Archives, archive.Dir(config.Retention.Archive), archives); err != nil {
		return err
	}
	u.note("Not in it, and needed to use it: the KEK (%s) and the root's key (%s, or wherever you keep it).", kekPlace(config), filepath.Join(state, "root", "key.pem"))
	return nil
}

// backupArchives copies the archives that the place of the backup lacks. Without
// one it says where they are.
func backupArchives(u *ui, all []archive.Manifest, from archive.Dir, to string) error {
	if len(all) == 0 {
		return nil
	}
	if to == "" {
		u.note("Not in it: %s of certificates in %s; --archives DIR copies what DIR lacks.", plural(len(all), "archive"), from)
		return nil
	}
	into, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	copied, failed := 0, []error(nil)
	done := u.progressOf(func() string { return "copying archives" })
	for _, one := range all {
		if _, err := archive.Dir(into).Read(one); err == nil {
			continue
		}
		packed, err := from.Read(one)
		if err == nil {
			err = archive.Dir(into).Put(one, packed)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		copied++
	}
	done()
	u.say("%s in %s, %d of them new there.", plural(len(all)-len(failed), "archive"), to, copied)
	return errors.Join(failed...)
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
