package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/audit"
	"github.com/rotunda-pki/rotunda/internal/fault"
)

func newAuditExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the audit log to a file that proves itself",
		Long: `Verifies the log as rotunda audit verify does, and writes it as lines of JSON: a
header with the newest checkpoint, the other checkpoints that the server keeps, all
with the cosignatures of witnesses, and each entry with its exact bytes, its leaf hash and its inclusion proof to that
checkpoint. Whoever has the log's key checks the file, or a line of it, without a
server: rotunda audit verify --export.

A FILE that ends in .zst is compressed. "-" is stdout.`,
		Example: `  rotunda audit export audit.jsonl.zst
  rotunda audit export - | jq -c 'select(.content.outcome == "refused") | .content'`,
		Args: cobra.ExactArgs(1),
	}
	conn := connectionFlags(cmd.Flags())
	key := logKeyFlag(cmd)
	compress := cmd.Flags().Bool("zstd", false, "compress, whatever FILE's name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return conn.with(cmd, func(ctx context.Context, s *server, u *ui) error {
			verifier, err := pinnedKey(*key, s.credentials)
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
			return writeExport(args[0], u.out, *compress || strings.HasSuffix(args[0], ".zst"), func(w io.Writer) error {
				return log.export(ctx, verifier.text, w)
			})
		})
	}
	return cmd
}

// writeExport writes the file whole, or not at all.
func writeExport(path string, stdout io.Writer, compress bool, write func(io.Writer) error) (err error) {
	out := stdout
	if path != "-" {
		file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
		if err != nil {
			return fault.Wrap(fault.Invalid, err, "write %s", path).WithRemedy("name a file in a directory that you may write to")
		}
		defer os.Remove(file.Name()) //nolint:errcheck // renamed by then, or of no use
		defer file.Close()           //nolint:errcheck // closed by then, or of no use
		if err := compressed(file, compress, write); err != nil {
			return err
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return os.Rename(file.Name(), path)
	}
	return compressed(out, compress, write)
}

func compressed(out io.Writer, compress bool, write func(io.Writer) error) error {
	buffered := bufio.NewWriterSize(out, 1<<20)
	if !compress {
		return errors.Join(write(buffered), buffered.Flush())
	}
	encoder, err := zstd.NewWriter(buffered)
	if err != nil {
		return err
	}
	return errors.Join(write(encoder), encoder.Close(), buffered.Flush())
}

// export writes the log that was fetched, whose entries are fetched once more.
func (l *fetchedLog) export(ctx context.Context, key string, w io.Writer) error {
	others := l.notes[:0:0]
	for i, signed := range l.notes {
		if l.sizes[i] != l.checkpoint.Size {
			others = append(others, signed)
		}
	}
	lines := json.NewEncoder(w)
	if err := lines.Encode(audit.ExportHeader{Format: audit.ExportFormat, LogKey: key, Checkpoint: string(l.signed), More: len(others)}); err != nil {
		return err
	}
	for _, signed := range others {
		if err := lines.Encode(audit.ExportCheckpoint{Checkpoint: string(signed)}); err != nil {
			return err
		}
	}
	l.done.Store(0)
	defer l.ui.progressOf(func() string { return entriesBar("exporting", l.done.Load(), l.checkpoint.Size) })()
	prover := audit.NewProver(l.tree)
	var line []byte
	return l.pages(ctx, func(page []*api.AuditEntry) error {
		for _, entry := range page {
			leaf := audit.LeafHash(entry.Content)
			if entry.Index != l.done.Load() || leaf != l.tree.Leaf(entry.Index) {
				return tampered(&audit.BadEntry{Index: l.done.Load(), End: l.done.Load() + 1, Reason: "it is another than a moment ago"})
			}
			line = audit.AppendExported(line[:0], audit.Exported{Index: entry.Index, Leaf: leaf, Proof: prover.Prove(entry.Index), Content: entry.Content})
			if _, err := w.Write(line); err != nil {
				return fmt.Errorf("write the export: %w", err)
			}
			l.done.Add(1)
		}
		return nil
	})
}

// offline verifies an exported file.
func (v *verifying) offline(u *ui) error {
	verifier, err := pinnedKey(v.key, v.conn.directory())
	if err != nil {
		return err
	}
	seen, quorum, err := v.checkpoints(verifier)
	if err != nil {
		return err
	}
	file, err := os.Open(v.export)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "open --export")
	}
	defer file.Close() //nolint:errcheck // it was only read
	in, closing, err := plainExport(file)
	if err != nil {
		return err
	}
	defer closing()
	var done, of atomic.Uint64
	end := u.progressOf(func() string { return entriesBar("verifying", done.Load(), of.Load()) })
	export, err := audit.VerifyExport(in, verifier, seen, func(n, all uint64) { done.Store(n); of.Store(all) })
	end()
	return v.show(u, newVerdict(export.Checkpoint, export.Checkpoints, export.Last), quorum, export.Notes, err)
}

// plainExport is what a file holds, compressed or not.
func plainExport(file io.Reader) (io.Reader, func(), error) {
	in := bufio.NewReaderSize(file, 1<<20)
	if magic, err := in.Peek(4); err != nil || !bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return in, func() {}, nil // also what is shorter: no export
	}
	decoder, err := zstd.NewReader(in)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Invalid, err, "--export")
	}
	return decoder, decoder.Close, nil
}
