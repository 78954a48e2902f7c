package main

import (
	"context"
	"encoding/pem"
	"os"

	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Set a store right that was put back from a copy",
		Long: `A store that is behind what an agent has seen of the audit log is rolled back:
nothing is issued, revoked or changed. This shows what was found that the store
does not know, and with --go sets it right, in one transaction:

  - each certificate that an agent holds and an authority of this store signed
    gets its record, and its number at its placement stays used
  - revocations are made again: those on the lists that agents hold, on those
    given with --crl, and in the entries given with --export
  - a compromise that was not over is named: it is to be begun anew
  - a new epoch begins, with an audit entry that names both logs

Agents that are away testify when they come back. With an export of the audit
log that reaches what agents have seen it is proven that no revocation is
missing; without one say --accept-unknown-revocations.

It wants the admin socket of the server's host. docs/operations.md has the rest.`,
		Example: `  rotunda restore --socket /run/rotunda/admin.sock
  rotunda restore --export audit.jsonl --go --reason "disk failed"
  rotunda restore --crl revoked.crl --accept-unknown-revocations --go --reason "disk failed"`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	request := &api.RestoreRequest{}
	flags := cmd.Flags()
	flags.BoolVar(&request.Go, "go", false, "do it; without this nothing is changed")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log and the agents' alarms")
	flags.BoolVar(&request.AcceptUnknown, "accept-unknown-revocations", false, "go on although entries are missing, and revocations may be among them")
	lists := flags.StringSlice("crl", nil, "a `file` with CRLs, DER or PEM; may be repeated")
	export := flags.String("export", "", "a `file` of the audit log's entries, as rotunda audit export or audit tail -o json write them, one a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := readRestore(request, *lists, *export); err != nil {
			return err
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			if err := leaveOut(ctx, s, request); err != nil {
				return err
			}
			response, err := invoke(ctx, s.Restore, request)
			if err != nil {
				return err
			}
			u.meetHosts(ctx, s, *output)
			return u.show(*output, response, func() { showRestore(u, request, response) })
		})
	}
	return cmd
}

func readRestore(request *api.RestoreRequest, lists []string, export string) error {
	for _, path := range lists {
		content, err := os.ReadFile(path)
		if err != nil {
			return fault.Wrap(fault.NotFound, err, "CRL")
		}
		request.Crls = append(request.Crls, crlsIn(content)...)
	}
	if export == "" {
		return nil
	}
	return readLost(request, export)
}

// crlsIn are the lists of a PEM file, or the one of a DER file.
func crlsIn(content []byte) (all [][]byte) {
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		all = append(all, block.Bytes)
	}
	if all == nil {
		all = [][]byte{content}
	}
	return all
}

func showRestore(u *ui, request *api.RestoreRequest, r *api.RestoreResponse) {
	u.say("%s.", r.RolledBack)
	recorded, refused := 0, 0
	t := newTable("CERTIFICATE", "AGENT", "KIND", "PLACEMENT", "GEN", "RECORD")
	for _, one := range r.Certificates {
		verdict := cell{"gets one", good}
		if recorded++; one.Refused != "" {
			verdict, recorded = cell{one.Refused, bad}, recorded-1
			refused++
		}
		gen := ""
		if one.Generation > 0 {
			gen = number(one.Generation)
		}
		t.row(one.Serial, u.hosts.name(one.AgentId), one.Kind, one.PlacementId, gen, verdict)
	}
	t.write(u, "No agent that was heard holds a certificate without a record.")
	for _, one := range r.Revocations {
		u.say("revoked again: %s (%s), known by %s", one.Serial, one.Reason, one.From)
	}
	silent := 0
	for _, one := range r.Agents {
		if one.TestifiedAt == nil {
			silent++
			u.note("agent %s was not heard%s: what it holds gets its record when it comes back", u.hosts.name(one.AgentId), connectedWords(one.Connected))
		}
	}
	for _, words := range r.Lost {
		u.note("%s", words)
	}
	if !r.Complete {
		u.note("The entries that the store lost are not all given: what was revoked then may be good again.")
	}
	if !request.Go {
		u.say("Epoch %d would begin; %d certificates would get a record, %d revocations would be made again. Nothing was changed: say --go.", r.Epoch, recorded, len(r.Revocations))
		return
	}
	u.say("Epoch %d began: %d certificates got a record, %d did not, %d revocations were made again, %d agents were not heard. Audit entry %s.",
		r.Epoch, recorded, refused, len(r.Revocations), silent, r.AuditId)
	u.note("Each agent keeps an alarm until somebody on its host has looked: rotunda agent acknowledge.")
}

func connectedWords(connected bool) string {
	if connected {
		return " yet"
	}
	return ", it is not connected"
}
