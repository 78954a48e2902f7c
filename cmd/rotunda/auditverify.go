package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	logKeyFile     = "log.pub"          // the pinned key, in the credentials directory
	checkpointFile = "audit-checkpoint" // the newest one verified from here
	pageOfEntries  = 1000
)

func newAuditVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that the audit log is whole and was not rewritten",
		Long: `Fetches every entry and trusts none: it checks the signature of the newest
checkpoint with the log key pinned in log.pub or --log-key, computes the Merkle
tree anew from the exact bytes of each entry, and checks that the log begins
with the one that was verified from here before. The newest checkpoint is kept
beside the credentials, or in --memory, for the next time.

A bad entry is named by its index. The exit code is 1 then.`,
		Example: `  rotunda audit verify
  rotunda audit verify --log-key log.pub --memory /var/lib/auditor
  rotunda audit verify --socket /run/rotunda/admin.sock --log-key "$KEY" --memory .`,
		Args: cobra.NoArgs,
	}
	conn := connectionFlags(cmd.Flags())
	key := cmd.Flags().String("log-key", "", "the log's public `key`, or the file that holds it (default: log.pub beside the credentials)")
	memory := cmd.Flags().String("memory", "", "`directory` that keeps the newest checkpoint (default: that of the credentials)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			verifier, err := pinnedKey(*key, s.credentials)
			if err != nil {
				return err
			}
			witness, err := openMemory(u, orElse(*memory, s.credentials), verifier)
			if err != nil {
				return err
			}
			return verifyLog(ctx, s, u, verifier, witness)
		})
	}
	return cmd
}

func orElse(text, fallback string) string {
	if text != "" {
		return text
	}
	return fallback
}

// pinnedKey reads the key from the flag, which holds it or names its file, or
// from the credentials. What the server says its key is proves nothing.
func pinnedKey(flag, credentials string) (note.Verifier, error) {
	text := flag
	if flag == "" || exists(flag) {
		path := orElse(flag, filepath.Join(credentials, logKeyFile))
		content, err := os.ReadFile(path)
		if err != nil || flag == "" && credentials == "" {
			return nil, fault.New(fault.NotFound, "there is no pinned log key to verify with").
				WithRemedy("say --log-key KEY; agents keep it as logKey in agent.yaml, rotunda init and operator create write log.pub")
		}
		text = string(content)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the log key is malformed").
			WithRemedy("it is one line like DOMAIN/audit+1a2b3c4d+AbCd…")
	}
	return verifier, nil
}

// openMemory opens the witness in dir. Without a directory there is no
// earlier checkpoint to hold the log to.
func openMemory(u *ui, dir string, verifier note.Verifier) (*audit.Witness, error) {
	if dir == "" {
		u.note("no earlier checkpoint is looked at and none is kept: say --memory DIR for that")
		return nil, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the earlier checkpoint: %w", err)
	}
	witness, err := audit.NewWitness(root, checkpointFile, verifier.Name(), verifier)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, fault.Wrap(fault.Forbidden, err, "keep the checkpoint in %s", dir).WithRemedy("say --memory DIR")
		}
		return nil, fmt.Errorf("read the earlier checkpoint in %s: %w", dir, err)
	}
	return witness, nil
}

func verifyLog(ctx context.Context, s *server, u *ui, verifier note.Verifier, witness *audit.Witness) error {
	log := &fetchedLog{tree: audit.NewTree()}
	signed, checkpoint, err := log.fetch(ctx, s, verifier)
	if err != nil {
		return err
	}
	earlier, err := checkpointOf(witness, verifier)
	if err != nil {
		return err
	}
	if log.tree.Root() != checkpoint.Root {
		return log.blame(earlier)
	}
	if checkpoint.Size < earlier.Size {
		return tampered("the log has %d entries and had %d when it was verified before: the server was set back",
			checkpoint.Size, earlier.Size)
	}
	if witness != nil {
		if err := witness.Advance(signed, log.prove); err != nil {
			return tampered("the log does not go with the one that was verified before: %v", err)
		}
	}
	u.say("The audit log is whole.")
	u.sheet(log.sheet(checkpoint, earlier.Size))
	return nil
}

// checkpointOf is the one that was verified before; of size 0 when none was.
func checkpointOf(witness *audit.Witness, verifier note.Verifier) (audit.Checkpoint, error) {
	if witness == nil || witness.Newest() == nil {
		return audit.Checkpoint{}, nil
	}
	return audit.OpenCheckpoint(witness.Newest(), verifier.Name(), verifier)
}

func tampered(format string, args ...any) error {
	return fault.New(fault.Conflict, format, args...).
		WithRemedy("keep the server's store as it is, and compare with what agents have witnessed")
}

// fetchedLog is the log as it was fetched, and the tree computed from it.
type fetchedLog struct {
	tree    *audit.Tree
	strange []uint64     // entries whose content is not what the server says was hashed
	last    audit.Entry
}

// fetch reads entries page by page until it has all that the first page's
// checkpoint covers. The log may grow meanwhile.
func (l *fetchedLog) fetch(ctx context.Context, s *server, verifier note.Verifier) (signed []byte, cp audit.Checkpoint, err error) {
	for {
		page, err := invoke(ctx, s.ListAuditEntries, &api.ListAuditEntriesRequest{From: l.tree.Size(), Limit: pageOfEntries})
		if err != nil {
			return nil, cp, err
		}
		if signed == nil {
			signed = page.Checkpoint
			if cp, err = openNewest(signed, verifier); err != nil {
				return nil, cp, err
			}
		}
		if room := cp.Size - l.tree.Size(); uint64(len(page.Entries)) > room {
			page.Entries = page.Entries[:room]
		}
		if err := l.take(page.Entries); err != nil {
			return nil, cp, err
		}
		if l.tree.Size() == cp.Size {
			return signed, cp, nil
		}
		if len(page.Entries) == 0 {
			return nil, cp, tampered("entry %d is missing: the checkpoint covers %d entries and the server has no more", l.tree.Size(), cp.Size)
		}
	}
}

func openNewest(signed []byte, verifier note.Verifier) (audit.Checkpoint, error) {
	if len(signed) == 0 {
		return audit.Checkpoint{}, fault.New(fault.Unavailable, "the server has signed no checkpoint yet").WithRemedy("try again in a moment")
	}
	checkpoint, err := audit.OpenCheckpoint(signed, verifier.Name(), verifier)
	if err != nil {
		return checkpoint, tampered("the checkpoint is not signed by the pinned log key: %v", err)
	}
	return checkpoint, nil
}

// take checks entries and grows the tree by them.
func (l *fetchedLog) take(entries []*api.AuditEntry) error {
	var leaves []audit.Hash
	for _, entry := range entries {
		at := l.tree.Size() + uint64(len(leaves))
		leaf, err := l.check(at, entry)
		if err != nil {
			return err
		}
		leaves = append(leaves, leaf)
	}
	if err := l.tree.Append(leaves...); err != nil {
		return fmt.Errorf("compute the tree: %w", err)
	}
	return nil
}

func (l *fetchedLog) check(at uint64, entry *api.AuditEntry) (audit.Hash, error) {
	if entry.Pending || entry.Index != at {
		return audit.Hash{}, tampered("entry %d is missing: the server sent entry %d in its place", at, entry.Index)
	}
	decoded, err := audit.Decode(entry.Content)
	if err != nil {
		return audit.Hash{}, tampered("entry %d is not in the form that is hashed: %v", at, err)
	}
	if decoded.ID != entry.Id {
		return audit.Hash{}, tampered("entry %d says that it is %s and is kept as %s", at, decoded.ID, entry.Id)
	}
	l.last = decoded
	leaf := audit.LeafHash(entry.Content)
	if len(entry.LeafHash) > 0 && !bytes.Equal(leaf[:], entry.LeafHash) {
		l.strange = append(l.strange, at)
	}
	return leaf, nil
}

func (l *fetchedLog) prove(from, to uint64) ([]audit.Hash, error) {
	return audit.ProveConsistency(from, to, audit.TileReader(l.tree.ReadTile))
}

// blame names the entries that are not what was hashed: by the hashes that
// the server kept, or else by what was verified before.
func (l *fetchedLog) blame(earlier audit.Checkpoint) error {
	const most = 10
	var names []string
	for _, index := range l.strange {
		if len(names) == most {
			names = append(names, fmt.Sprintf("and %d more", len(l.strange)-most))
			break
		}
		names = append(names, number(index))
	}
	if len(names) > 0 {
		return tampered("entry %s is not what was written: its content does not have the hash in the tree", strings.Join(names, ", "))
	}
	if earlier.Size == 0 || earlier.Size > l.tree.Size() {
		return tampered("the entries do not give the root of the signed checkpoint: at least one is not what was written")
	}
	if root, err := l.tree.RootAt(earlier.Size); err != nil || root != earlier.Root {
		return tampered("an entry between 0 and %d is not what was written; they were whole when they were verified before", earlier.Size-1)
	}
	return tampered("an entry between %d and %d is not what was written; those before are as they were verified before",
		earlier.Size, l.tree.Size()-1)
}

func (l *fetchedLog) sheet(checkpoint audit.Checkpoint, before uint64) []field {
	fields := []field{
		{"origin", checkpoint.Origin},
		{"size", number(checkpoint.Size)},
		{"root", hex.EncodeToString(checkpoint.Root[:])},
	}
	if l.tree.Size() > 0 {
		fields = append(fields, field{"newest entry", l.last.Time.Format(time.RFC3339) + ", " + l.last.Verb})
	}
	if before > 0 {
		fields = append(fields, field{"earlier", fmt.Sprintf("begins with the %d that were verified before", before)})
	}
	return fields
}
