package main

import (
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

	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

const (
	logKeyFile     = "log.pub"          // the pinned key, in the credentials directory
	checkpointFile = "audit-checkpoint" // the newest one verified from here
)

func newAuditVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove that the audit log is whole and was not rewritten",
		Long: `Reads every entry and trusts none: it computes the Merkle tree anew from the exact
bytes of each, and holds it to every checkpoint that there is: the newest, all
that the server keeps, those of --checkpoint, and the one that was verified from
here before. Their signatures are checked with the log key pinned in log.pub or
--log-key. The newest checkpoint is kept beside the credentials, or in --memory,
for the next time.

With --witness, one of all these checkpoints must be cosigned by --required of these
witnesses (C2SP tlog-cosignature); that of the greatest size is named. Servers keep
with a checkpoint what the witnesses of their rotunda.yaml cosigned; another is
asked with rotunda audit prove --from.

With --export it reads a file that rotunda audit export wrote, and asks no server.

The first bad index is named: of an entry that was changed, removed, exchanged or
cut off. The exit code is 1 then.`,
		Example: `  rotunda audit verify
  rotunda audit verify --log-key log.pub --memory /var/lib/auditor
  rotunda audit verify --export audit.jsonl.zst --log-key log.pub --checkpoint seen.note
  rotunda audit verify --socket /run/rotunda/admin.sock --log-key "$KEY" --memory . -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("it takes no argument: an exported file is verified with --export %s", args[0])
			}
			return nil
		},
	}
	v := &verifying{conn: connectionFlags(cmd.Flags()), output: outputFlag(cmd)}
	cmd.Flags().StringVar(&v.key, "log-key", "", logKeyUsage)
	cmd.Flags().StringVar(&v.memory, "memory", "", "`directory` that keeps the newest checkpoint (default: that of the credentials)")
	cmd.Flags().StringVar(&v.export, "export", "", "verify this exported `file`, and ask no server")
	cmd.Flags().StringSliceVar(&v.seen, "checkpoint", nil, "hold the log to the checkpoint in this `file` too, such as an agent's")
	cmd.Flags().StringSliceVar(&v.witnesses, "witness", nil, "a witness's public `key`, or the file that holds it")
	cmd.Flags().IntVar(&v.required, "required", 0, "how `many` witnesses must have cosigned (default: all)")
	_ = cmd.MarkFlagFilename("export")
	_ = cmd.MarkFlagFilename("checkpoint")
	_ = cmd.MarkFlagDirname("memory")
	cmd.RunE = v.run
	return cmd
}

// verifying is what audit verify was asked for.
type verifying struct {
	conn                *connection
	output              *format
	key, memory, export string
	seen, witnesses     []string
	required            int
}

func (v *verifying) run(cmd *cobra.Command, _ []string) error {
	if v.export != "" {
		return v.offline(newUI(cmd))
	}
	return v.conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
		verifier, err := pinnedKey(v.key, s.credentials)
		if err != nil {
			return err
		}
		seen, quorum, err := v.checkpoints(verifier)
		if err != nil {
			return err
		}
		witness, err := openMemory(u, orElse(v.memory, s.credentials), verifier)
		if err != nil {
			return err
		}
		earlier, err := checkpointOf(witness, verifier)
		if err != nil {
			return err
		}
		log := &fetchedLog{server: s, ui: u, verifier: verifier}
		if earlier.Size > 0 {
			seen = append(seen, earlier)
		}
		err = log.fetch(ctx, seen)
		if err == nil && witness != nil {
			if err := witness.Advance(log.signed, log.prove); err != nil {
				return tampered(fmt.Errorf("the log does not go with the one that was verified before: %w", err))
			}
		}
		return v.show(u, log.verdict(earlier.Size), quorum, append(log.notes, log.signed), err)
	})
}

// show shows what was found of a log, once enough witnesses vouch for one of its
// checkpoints, where that is asked.
func (v *verifying) show(u *ui, found verdict, quorum *quorum, notes [][]byte, err error) error {
	for _, signed := range notes {
		if err := quorum.add(signed); err != nil {
			return err
		}
	}
	if _, bad := errors.AsType[*audit.BadEntry](err); err == nil || bad {
		var few error
		if found.Cosigned, few = quorum.verdict(); few != nil && err == nil {
			return few
		}
	}
	return u.showVerdict(*v.output, found, err)
}

// verdict is what was found of a log.
type verdict struct {
	Whole       bool      `json:"whole"`
	Origin      string    `json:"origin"`
	Size        uint64    `json:"size"`
	Root        string    `json:"root"`
	Checkpoints int       `json:"checkpoints"`
	Cosigned    *cosigned `json:"cosigned,omitempty"`
	Earlier     uint64    `json:"earlier,omitempty"`
	NewestEntry string    `json:"newestEntry,omitempty"`
	FirstBad    *uint64   `json:"firstBadIndex,omitempty"`
	LastMaybe   *uint64   `json:"lastPossibleIndex,omitempty"` // where the first bad one is not certain
	Reason      string    `json:"reason,omitempty"`
}

func newVerdict(cp audit.Checkpoint, checkpoints int, last []byte) verdict {
	v := verdict{Origin: cp.Origin, Size: cp.Size, Root: hex.EncodeToString(cp.Root[:]), Checkpoints: checkpoints}
	if entry, err := audit.Decode(last); err == nil {
		v.NewestEntry = entry.Time.Format(time.RFC3339) + ", " + entry.Verb
	}
	return v
}

// showVerdict shows what was found. A log that is not whole is an error.
func (u *ui) showVerdict(output format, v verdict, err error) error {
	entry, bad := errors.AsType[*audit.BadEntry](err)
	if err != nil && !bad {
		return err
	}
	if bad {
		v.FirstBad, v.Reason = &entry.Index, entry.Reason
		if last := entry.End - 1; last > entry.Index {
			v.LastMaybe = &last
		}
		if output == formatTable {
			return tampered(err)
		}
	}
	v.Whole = !bad
	if err := u.showValue(output, v, func() {
		u.say("The audit log is whole.")
		u.sheet(v.sheet())
	}); err != nil || v.Whole {
		return err
	}
	return errReported
}

func (v verdict) sheet() []field {
	fields := []field{
		{"origin", v.Origin}, {"size", number(v.Size)}, {"root", v.Root},
		{"checkpoints", fmt.Sprintf("%d, each signed and of this log", v.Checkpoints)},
	}
	if c := v.Cosigned; c != nil {
		fields = append(fields, field{"cosigned", fmt.Sprintf("the first %d entries, by %s", c.Size, strings.Join(c.By, ", "))})
	}
	if v.NewestEntry != "" {
		fields = append(fields, field{"newest entry", v.NewestEntry})
	}
	if v.Earlier > 0 {
		fields = append(fields, field{"earlier", fmt.Sprintf("begins with the %d that were verified before", v.Earlier)})
	}
	return fields
}

func orElse(text, fallback string) string {
	if text != "" {
		return text
	}
	return fallback
}

const logKeyUsage = "the log's public `key`, or the file that holds it (default: log.pub beside the credentials)"

func logKeyFlag(cmd *cobra.Command) *string { return cmd.Flags().String("log-key", "", logKeyUsage) }

// pinned is a log's key, and how it is written.
type pinned struct {
	note.Verifier
	text string
}

// pinnedKey reads the key from the flag, which holds it or names its file, or
// from the credentials. What the server says its key is proves nothing.
func pinnedKey(flag, credentials string) (*pinned, error) {
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
	text = strings.TrimSpace(text)
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the log key is malformed").
			WithRemedy("it is one line like DOMAIN/audit+1a2b3c4d+AbCd…")
	}
	return &pinned{verifier, text}, nil
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

// checkpointOf is the one that was verified before; of size 0 when none was.
func checkpointOf(witness *audit.Witness, verifier note.Verifier) (audit.Checkpoint, error) {
	if witness == nil || witness.Newest() == nil {
		return audit.Checkpoint{}, nil
	}
	return audit.OpenCheckpoint(witness.Newest(), verifier.Name(), verifier)
}

func tampered(err error) error {
	return fault.Wrap(fault.Conflict, err, "the audit log is not what was signed").
		WithRemedy("keep the server's store as it is, and compare with what agents have witnessed")
}

// cosigned is how far witnesses vouch for a log.
type cosigned struct {
	Size uint64   `json:"size"`
	By   []string `json:"by"`
}

// quorum looks among checkpoints for the greatest that enough witnesses
// cosigned.
type quorum struct {
	log       note.Verifier
	witnesses []audit.Cosigner
	required  int
	best      *cosigned
}

func (v *verifying) quorum(log note.Verifier) (*quorum, error) {
	witnesses, err := readWitnesses(v.witnesses)
	if err != nil {
		return nil, err
	}
	required := v.required
	if required == 0 {
		required = len(witnesses)
	}
	if required < 0 || required > len(witnesses) {
		return nil, usagef("--required %d of %d witnesses", required, len(witnesses))
	}
	return &quorum{log: log, witnesses: witnesses, required: required}, nil
}

func (q *quorum) add(signed []byte) error {
	if q.required == 0 {
		return nil
	}
	checkpoint, err := audit.OpenCheckpoint(signed, q.log.Name(), q.log)
	if err != nil {
		return err
	}
	names, err := audit.Cosigners(signed, q.log, q.witnesses)
	if err == nil && len(names) >= q.required && (q.best == nil || checkpoint.Size > q.best.Size) {
		q.best = &cosigned{checkpoint.Size, names}
	}
	return err
}

// verdict is what was found; nil where nothing was asked.
func (q *quorum) verdict() (*cosigned, error) {
	if q.required > 0 && q.best == nil {
		return nil, fault.New(fault.Conflict, "no checkpoint is cosigned by %d of the %d witnesses", q.required, len(q.witnesses)).
			WithRemedy("see rotunda audit witnesses; one that the server does not ask is sent what rotunda audit prove --from prints, and its answer put below the checkpoint, for --checkpoint")
	}
	return q.best, nil
}

// checkpoints reads the checkpoints that somebody saw, such as an agent.
func (v *verifying) checkpoints(log note.Verifier) ([]audit.Checkpoint, *quorum, error) {
	quorum, err := v.quorum(log)
	if err != nil {
		return nil, nil, err
	}
	var seen []audit.Checkpoint
	for _, path := range v.seen {
		signed, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Invalid, err, "read --checkpoint")
		}
		checkpoint, err := audit.OpenCheckpoint(signed, log.Name(), log)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Invalid, err, "--checkpoint %s", path)
		}
		seen = append(seen, checkpoint)
		if err := quorum.add(signed); err != nil {
			return nil, nil, err
		}
	}
	return seen, quorum, nil
}

func readWitnesses(keys []string) ([]audit.Cosigner, error) {
	texts := make([]string, len(keys))
	for i, key := range keys {
		var err error
		if texts[i], err = keyOrFile("--witness", key); err != nil {
			return nil, err
		}
	}
	return audit.NewCosigners(texts...)
}

// entriesBar is how far a pass over the log has come, on one line.
func entriesBar(doing string, done, of uint64) string {
	if of == 0 {
		return doing
	}
	const width = 24
	full := int(min(done*width/of, width))
	return fmt.Sprintf("%s [%s%s] %s of %s entries", doing, strings.Repeat("=", full), strings.Repeat(" ", width-full), number(done), number(of))
}
