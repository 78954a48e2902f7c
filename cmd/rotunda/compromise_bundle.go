package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/forensic"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newCompromiseBundleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle ID FILE",
		Short: "Write what is known of one to a file that proves itself",
		Long: `Verifies the audit log, and writes a tar.zst with the entries that have to do with
the compromise, each with its proof; the certificates; what was observed, as its
observers signed it; a timeline; and who had access to the keys.

rotunda compromise check reads one and checks all of it, without a server.`,
		Example: `  rotunda compromise bundle 0199c2f4-… orders.tar.zst`,
		Args:    cobra.ExactArgs(2),
	}
	conn := connectionFlags(cmd.Flags())
	key := logKeyFlag(cmd)
	cmd.ValidArgsFunction = completeFirst(conn, compromiseIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			verifier, err := pinnedKey(*key, s.credentials)
			if err != nil {
				return err
			}
			return writeBundle(ctx, s, u, args[0], args[1], verifier)
		})
	}
	return cmd
}

// writeBundle collects what the server knows, verifies the log and takes from it
// the entries that mention any of it.
func writeBundle(ctx context.Context, s *server, u *ui, id, path string, verifier *pinned) error {
	bundle := &forensic.Bundle{ID: id, Made: time.Now(), By: "rotunda " + version(), LogKey: verifier.text}
	terms, err := collect(ctx, s, id, bundle)
	if err != nil {
		return err
	}
	log := &fetchedLog{server: s, ui: u, verifier: verifier}
	if err := log.fetch(ctx, nil); err != nil {
		if bad, ok := errors.AsType[*audit.BadEntry](err); ok {
			return tampered(bad)
		}
		return err
	}
	bundle.Checkpoint = log.signed
	prover := audit.NewProver(log.tree)
	err = log.pages(ctx, func(page []*api.AuditEntry) error {
		for _, entry := range page {
			if !mentions(entry.Content, terms) {
				continue
			}
			leaf := audit.LeafHash(entry.Content)
			if leaf != log.tree.Leaf(entry.Index) {
				return tampered(&audit.BadEntry{Index: entry.Index, End: entry.Index + 1, Reason: "it is another than a moment ago"})
			}
			bundle.Entries = append(bundle.Entries, audit.Exported{Index: entry.Index, Leaf: leaf, Proof: prover.Prove(entry.Index), Content: entry.Content})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := writeExport(path, u.out, false, bundle.Write); err != nil {
		return err
	}
	u.note("%s: %d entries of the log, %s, %s.", path, len(bundle.Entries), plural(len(bundle.Certificates), "certificate"), plural(len(bundle.Evidence), "observation"))
	return nil
}

func mentions(content []byte, terms map[string]bool) (yes bool) {
	forensic.Tokens(content, func(token string) { yes = yes || terms[token] })
	return yes
}

// collect puts what the server sends into the bundle, and returns what to look
// for in the log.
func collect(ctx context.Context, s *server, id string, bundle *forensic.Bundle) (map[string]bool, error) {
	stream, err := s.CollectCompromise(ctx, connect.NewRequest(&api.CollectCompromiseRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	defer stream.Close() //nolint:errcheck // it was read to its end, or failed
	terms, subject := map[string]bool{}, map[string]json.RawMessage{}
	for stream.Receive() {
		switch piece := stream.Msg().Piece.(type) {
		case *api.CollectCompromiseResponse_Compromise:
			subject["compromise"], err = protojson.Marshal(piece.Compromise)
		case *api.CollectCompromiseResponse_Revocation:
			subject["revocation"], err = protojson.Marshal(piece.Revocation)
		case *api.CollectCompromiseResponse_Certificate:
			bundle.Certificates = append(bundle.Certificates, collectedCertificate(piece.Certificate))
		case *api.CollectCompromiseResponse_Evidence:
			e := piece.Evidence
			bundle.Evidence = append(bundle.Evidence, forensic.Evidence{
				Placement: e.Placement, Observer: e.Observer, Digest: e.Digest, Verdict: e.Verdict, At: e.At.AsTime(), Statement: e.Statement, Signature: e.Signature,
			})
		case *api.CollectCompromiseResponse_Agent:
			a := piece.Agent
			bundle.Hosts = append(bundle.Hosts, forensic.Host{
				Agent: a.Id, Labels: a.Labels, Facts: a.Facts, State: a.State, EnrolledAt: a.EnrolledAt.AsTime(), SeenAt: a.SeenAt.AsTime(),
			})
		case *api.CollectCompromiseResponse_Term:
			terms[piece.Term] = true
		}
		if err != nil {
			return nil, err
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	bundle.Subject, err = json.MarshalIndent(subject, "", "  ")
	return terms, err
}

func collectedCertificate(c *api.CollectedCertificate) forensic.Certificate {
	return forensic.Certificate{
		Role: c.Role, Serial: c.Serial, Kind: c.Kind, Subject: c.Subject, Intent: c.Intent, Agent: c.Agent, Placement: c.Placement,
		Generation: c.Generation, IssuedAt: c.IssuedAt.AsTime(), NotAfter: c.NotAfter.AsTime(), RevokedAt: moment(c.RevokedAt), Reason: c.Reason, DER: c.Der,
	}
}

func moment(at *timestamppb.Timestamp) *time.Time {
	if at == nil {
		return nil
	}
	t := at.AsTime()
	return &t
}

func newCompromiseCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a forensic bundle, without a server",
		Long: `Checks that each file of the bundle is there and unchanged, that each entry is in the
log of the pinned key, that each certificate is signed by an authority in the
bundle, and that each observation is signed by its observer.`,
		Example: `  rotunda compromise check orders.tar.zst --log-key log.pub`,
		Args:    cobra.ExactArgs(1),
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	key := logKeyFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		verifier, err := pinnedKey(*key, conn.directory())
		if err != nil {
			return err
		}
		var in io.Reader = cmd.InOrStdin()
		if args[0] != "-" {
			file, err := os.Open(args[0])
			if err != nil {
				return fault.Wrap(fault.Invalid, err, "open the bundle")
			}
			defer file.Close() //nolint:errcheck // it was only read
			in = file
		}
		report, err := forensic.Check(in, verifier)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		u := newUI(cmd)
		return u.showValue(*output, report, func() { u.showReport(report) })
	}
	return cmd
}

func (u *ui) showReport(r forensic.Report) {
	u.say("The bundle is whole.")
	u.sheet([]field{
		{"compromise", r.Compromise}, {"made", r.Made.Local().Format("2006-01-02 15:04:05 MST") + " by " + r.By},
		{"files", fmt.Sprint(r.Files)}, {"entries", fmt.Sprintf("%d, each in the log of %d", r.Entries, r.TreeSize)},
		{"certificates", fmt.Sprintf("%d, of %d the key was in wrong hands", r.Certificates, r.Affected)}, {"observations", fmt.Sprint(r.Evidence)},
	})
	for _, serial := range r.Unrecorded {
		u.say("%s", u.paint(bad, "! ")+"none of the entries mentions certificate "+serial)
	}
}
