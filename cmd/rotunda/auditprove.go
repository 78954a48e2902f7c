package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newAuditShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show INDEX|ID",
		Short: "Show one audit entry, and whether the log proves it",
		Long: `Shows one entry in full, by its index or its id. Where the log's key is pinned, the
entry's inclusion in the newest checkpoint is checked.`,
		Example: `  rotunda audit show 17
  rotunda audit show 0199c2f4-6a51-7c1e-8000-000000000017 -o json`,
		Args: cobra.ExactArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	cmd.ValidArgsFunction = completeFirst(conn, newestEntryNames)
	key := logKeyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			shown, err := invoke(ctx, s.ShowAuditEntry, entryRequest(args[0], 0))
			if err != nil {
				return err
			}
			proven := "no: it is pending"
			if !shown.Entry.Pending {
				verifier, err := pinnedKey(*key, s.credentials)
				if err != nil && *key != "" {
					return err
				}
				proven = "not checked: no log key is pinned, say --log-key"
				if err == nil {
					if _, err := checkShown(shown, verifier); err != nil {
						return err
					}
					proven = fmt.Sprintf("yes, in the log of %d entries", shown.Size)
				}
			}
			return u.show(*output, shown, func() { u.showEntry(shown.Entry, proven) })
		})
	}
	return cmd
}

// newestEntryNames are the newest entries' indexes.
func newestEntryNames(ctx context.Context, s *server) ([]string, error) {
	list, err := invoke(ctx, s.ListAuditEntries, &api.ListAuditEntriesRequest{Newest: true, Limit: 20})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range list.Entries {
		if !entry.Pending {
			names = append(names, number(entry.Index))
		}
	}
	return names, nil
}

func entryRequest(name string, size uint64) *api.ShowAuditEntryRequest {
	if index, err := strconv.ParseUint(name, 10, 63); err == nil {
		return &api.ShowAuditEntryRequest{Index: index, Size: size}
	}
	return &api.ShowAuditEntryRequest{Id: name, Size: size}
}

func (u *ui) showEntry(wire *api.AuditEntry, proven string) {
	index := number(wire.Index)
	if wire.Pending {
		index = "pending"
	}
	entry, err := audit.Decode(wire.Content)
	if err != nil {
		u.sheet([]field{{"index", index}, {"id", wire.Id}, {"content", fmt.Sprintf("is no audit entry: %v", err)}})
		return
	}
	outcome := entry.Outcome
	if entry.Reason != "" {
		outcome += ": " + entry.Reason
	}
	u.sheet([]field{
		{"index", index}, {"id", entry.ID}, {"time", entry.Time.Local().Format("2006-01-02 15:04:05.000000 MST")},
		{"actor", actor(entry.Actor)}, {"serial", entry.Actor.Serial}, {"address", entry.Actor.Address},
		{"verb", entry.Verb}, {"object", entry.Object}, {"outcome", outcome}, {"detail", details(entry.Detail)},
		{"leaf hash", base64.StdEncoding.EncodeToString(wire.LeafHash)}, {"proven", proven},
	})
}

// checkShown checks that what a server shows is in the log that was signed.
func checkShown(shown *api.ShowAuditEntryResponse, verifier note.Verifier) (audit.Checkpoint, error) {
	if len(shown.Checkpoint) == 0 {
		return audit.Checkpoint{}, fault.New(fault.NotFound, "no checkpoint was signed at a size of %d, or none is kept", shown.Size).
			WithRemedy("leave out --size: the proof then leads to the newest checkpoint")
	}
	checkpoint, err := openNewest(shown.Checkpoint, verifier)
	if err != nil {
		return checkpoint, err
	}
	proof, err := wireHashes(shown.Proof)
	if err != nil {
		return checkpoint, err
	}
	if err := audit.CheckInclusion(proof, shown.Entry.Index, audit.LeafHash(shown.Entry.Content), checkpoint); err != nil {
		return checkpoint, tampered(err)
	}
	return checkpoint, nil
}

func wireHashes(wire [][]byte) ([]audit.Hash, error) {
	hashes := make([]audit.Hash, len(wire))
	for i, hash := range wire {
		if len(hash) != audit.HashSize {
			return nil, fault.New(fault.Internal, "hash %d of the server's proof has %d bytes", i, len(hash))
		}
		hashes[i] = audit.Hash(hash)
	}
	return hashes, nil
}

func newAuditProveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prove INDEX|ID | --from SIZE",
		Short: "Print a proof about the audit log that standard tools check",
		Long: `Prints the proof that the log has an entry, in the format of C2SP tlog-proof: index,
inclusion proof, checkpoint. The entry's exact bytes, which it is about, are
.entry.content of rotunda audit show -o json, decoded.

With --from it prints the proof that the log was only grown since it had SIZE
entries, in the form in which C2SP tlog-witness sends it to a witness: the old size,
consistency proof, checkpoint.

Both are checked before they are printed.`,
		Example: `  rotunda audit prove 17 > entry-17.tlog-proof
  rotunda audit prove --from 1200
  rotunda audit prove 17 --size 1200`,
		Args: cobra.MaximumNArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	cmd.ValidArgsFunction = completeFirst(conn, newestEntryNames)
	key := logKeyFlag(cmd)
	from := cmd.Flags().Uint64("from", 0, "prove growth from this `size` on")
	size := cmd.Flags().Uint64("size", 0, "prove to the checkpoint of this `size`, which the server must have kept (default: the newest)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == cmd.Flags().Changed("from") {
			return usagef("audit prove wants an entry or --from, and one of them")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			verifier, err := pinnedKey(*key, s.credentials)
			if err != nil {
				return err
			}
			var text []byte
			if len(args) == 1 {
				text, err = proveEntry(ctx, s, entryRequest(args[0], *size), verifier)
			} else {
				text, err = proveGrowth(ctx, s, &api.ProveAuditGrowthRequest{From: *from, To: *size}, verifier)
			}
			if err == nil {
				_, err = u.out.Write(text)
			}
			return err
		})
	}
	return cmd
}

func proveEntry(ctx context.Context, s *server, request *api.ShowAuditEntryRequest, verifier note.Verifier) ([]byte, error) {
	shown, err := invoke(ctx, s.ShowAuditEntry, request)
	if err != nil {
		return nil, err
	}
	if shown.Entry.Pending {
		return nil, fault.New(fault.Unavailable, "the entry has no place in the log yet").WithRemedy("try again in a moment")
	}
	if _, err := checkShown(shown, verifier); err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, "c2sp.org/tlog-proof@v1\nindex %d\n", shown.Entry.Index)
	return appendProof(text, shown.Proof, shown.Checkpoint), nil
}

func appendProof(text []byte, proof [][]byte, checkpoint []byte) []byte {
	for _, hash := range proof {
		text = append(base64.StdEncoding.AppendEncode(text, hash), '\n')
	}
	return append(append(text, '\n'), checkpoint...)
}

func proveGrowth(ctx context.Context, s *server, request *api.ProveAuditGrowthRequest, verifier note.Verifier) ([]byte, error) {
	grown, err := invoke(ctx, s.ProveAuditGrowth, request)
	if err != nil {
		return nil, err
	}
	if len(grown.NewCheckpoint) == 0 {
		return nil, fault.New(fault.NotFound, "no checkpoint was signed at a size of %d, or none is kept", grown.To).
			WithRemedy("leave out --size: the proof then leads to the newest checkpoint")
	}
	newer, err := openNewest(grown.NewCheckpoint, verifier)
	if err != nil {
		return nil, err
	}
	proof, err := wireHashes(grown.Proof)
	if err != nil {
		return nil, err
	}
	if len(grown.OldCheckpoint) > 0 { // else whoever has one of that size checks it
		older, err := openNewest(grown.OldCheckpoint, verifier)
		if err != nil {
			return nil, err
		}
		if err := audit.CheckConsistency(proof, older, newer); err != nil {
			return nil, tampered(err)
		}
	}
	return audit.AddCheckpoint{Old: grown.From, Proof: proof, Signed: grown.NewCheckpoint}.Encode(), nil
}
