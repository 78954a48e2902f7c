package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read the audit log, verify that nobody rewrote it, see where it is sent on and who cosigned it",
		Example: `  rotunda audit tail -n 50 -f
  rotunda audit show 17
  rotunda audit verify
  rotunda audit sinks`,
	}
	cmd.AddCommand(newAuditTailCommand(), newAuditShowCommand(), newAuditProveCommand(), newAuditVerifyCommand(), newAuditExportCommand(), newAuditSinksCommand(), newAuditWitnessesCommand(), newAuditWitnessCommand())
	return cmd
}

func newAuditTailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest audit entries",
		Long: `Shows the newest entries: when, who, what, and how it ended. An entry that has
no place in the log's tree yet is marked pending. With -o json each line is one
object, with the entry in the exact form that is hashed under "content".`,
		Example: `  rotunda audit tail -n 50
  rotunda audit tail -f
  rotunda audit tail -n 1000 -o json | jq 'select(.content.outcome == "refused")'`,
		Args: cobra.NoArgs,
	}
	conn, output := connectionFlags(cmd.Flags()), outputFlag(cmd)
	limit := cmd.Flags().Uint32P("lines", "n", 20, "how many of the newest `entries` to show")
	on := cmd.Flags().BoolP("follow", "f", false, "go on with new ones until interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output == formatYAML {
			return usagef("audit tail prints lines or json")
		}
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			t := &tail{ui: u, json: *output == formatJSON, pending: map[string]bool{}}
			list, err := invoke(ctx, s.ListAuditEntries, &api.ListAuditEntriesRequest{Newest: true, Limit: max(*limit, 1)})
			if err != nil {
				return err
			}
			t.next = treeSize(list.Checkpoint)
			for _, entry := range list.Entries {
				t.print(entry)
			}
			if !*on {
				return nil
			}
			return follow(ctx, s, true, t.lost, func(ctx context.Context) (bool, error) {
				stream, err := s.WatchAuditEntries(ctx, connect.NewRequest(&api.ListAuditEntriesRequest{From: t.next}))
				return drain(stream, err, t.show)
			})
		})
	}
	return cmd
}

// treeSize is how many entries a checkpoint covers: its second line. Its
// signature does not matter to a tail, which only has to know where to go on.
func treeSize(checkpoint []byte) uint64 {
	lines := strings.SplitN(string(checkpoint), "\n", 3)
	if len(lines) < 3 {
		return 0
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return 0
	}
	return size
}

// tail prints each entry once, when it is first seen: it is the same entry
// whether it has its index already or not.
type tail struct {
	*ui
	json    bool
	next    uint64          // the first index that was not seen
	pending map[string]bool // printed before they had an index
}

// show takes what the watch sends: entries with their index, in order.
func (t *tail) show(list *api.ListAuditEntriesResponse) {
	for _, entry := range list.Entries {
		if entry.Index < t.next {
			continue
		}
		t.next = entry.Index + 1
		if t.pending[entry.Id] {
			delete(t.pending, entry.Id)
			continue
		}
		t.print(entry)
	}
}

func (t *tail) print(entry *api.AuditEntry) {
	if entry.Pending {
		t.pending[entry.Id] = true
	} else {
		t.next = max(t.next, entry.Index+1)
	}
	if t.json {
		_, _ = t.out.Write(append(encodeLine(entry), '\n'))
		return
	}
	_, _ = fmt.Fprintln(t.out, t.line(entry))
}

func (t *tail) lost(err error) { t.note("rotunda: %s; connecting again", lostReason(err)) }

// line is an entry for people: "17  2026-03-01 14:02:11  operator/ann  apply
// Documents  done".
func (t *tail) line(entry *api.AuditEntry) string {
	index := number(entry.Index)
	if entry.Pending {
		index = "pending"
	}
	decoded, err := audit.Decode(entry.Content)
	if err != nil {
		return t.paint(bad, oneLine(fmt.Sprintf("%-7s  %s is no audit entry: %v", index, entry.Id, err)))
	}
	outcome := t.paint(good, oneLine(decoded.Outcome))
	if decoded.Outcome == audit.Refused {
		outcome = t.paint(bad, oneLine(decoded.Outcome+": "+decoded.Reason))
	}
	what := oneLine(strings.TrimSpace(decoded.Verb + " " + decoded.Object))
	line := fmt.Sprintf("%-7s  %s  %s  %s  %s", index, decoded.Time.Local().Format("2006-01-02 15:04:05"),
		oneLine(actor(decoded.Actor)), what, outcome)
	if detail := details(decoded.Detail); detail != "" {
		line += "  " + t.paint(faint, oneLine(detail))
	}
	return line
}

func actor(a audit.Actor) string {
	text := a.Kind
	if a.ID != "" {
		text += "/" + a.ID
	}
	if a.UID != nil {
		text += fmt.Sprintf(" uid %d", *a.UID)
	}
	return text
}

// details is the entry's detail as "key=value", text bare and all else as
// JSON.
func details(detail map[string]any) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		value, isText := detail[key].(string)
		if !isText {
			encoded, _ := json.Marshal(detail[key]) // it was decoded from JSON
			value = string(encoded)
		}
		if value != "" {
			parts = append(parts, key+"="+value)
		}
	}
	return strings.Join(parts, " ")
}
