package fleettest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rotunda-pki/rotunda/api"
	"github.com/rotunda-pki/rotunda/archive"
	"github.com/rotunda-pki/rotunda/control"
	"github.com/rotunda-pki/rotunda/internal/fault"
	"github.com/rotunda-pki/rotunda/keys"
	"github.com/rotunda-pki/rotunda/pki"
	"github.com/rotunda-pki/rotunda/server"
	"github.com/rotunda-pki/rotunda/store"
)

// retainerOf names, in the environment of a copy of this program, the state in
// which it is to carry out retention once.
const retainerOf = "ROTUNDA_FLEETTEST_RETAINER"

// runRetainer makes one pass by a clock that is aheadBy seconds ahead.
func runRetainer(state string) error {
	ahead, err := strconv.Atoi(os.Getenv(aheadBy))
	if err != nil {
		return err
	}
	config, err := server.LoadConfig(state)
	if err != nil {
		return err
	}
	db, c, err := openRetaining(context.Background(), state, config, time.Duration(ahead)*time.Second)
	if err != nil {
		return err
	}
	_, err = c.Retain(context.Background())
	if closed := db.Close(); err == nil {
		err = closed
	}
	return err
}

func openRetaining(ctx context.Context, state string, config server.Config, ahead time.Duration) (*store.DB, *control.Control, error) {
	now := func() time.Time { return time.Now().Add(ahead) }
	place := store.Locate(config.Store)
	place.Now = now
	db, err := store.Open(ctx, place)
	if err != nil {
		return nil, nil, err
	}
	kek, err := keys.OpenKEK(keys.Source{File: config.KEK.File})
	if err != nil {
		return nil, nil, err
	}
	c, err := control.Open(ctx, control.Options{
		DB: db, KEK: kek, PublicURL: config.PublicURL, Now: now, Log: slog.New(slog.DiscardHandler),
		Retention: control.Retention{Certificates: 24 * time.Hour}, Archive: archiveOf(state),
	})
	return db, c, err
}

func archiveOf(state string) archive.Dir { return archive.Dir(filepath.Join(state, "archive")) }

// A process that moves records to archives is killed as soon as a file lies there,
// so mostly before the transaction that takes its records out, and again: each
// certificate is at exactly one place at each moment, the next pass takes over
// the file that was left or removes it, and in the end nothing is left to do.
func TestKilledRetentionLosesAndDoublesNothing(t *testing.T) {
	p := NewPlane(t)
	const certificates = 1100
	var serials []pki.Serial
	for range certificates {
		serials = append(serials, p.operatorCertificate("ann"))
	}
	p.Stop()
	content, err := yaml.Marshal(p.Config)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.Dir, "rotunda.yaml"), content, 0o600))
	ahead, stray := 400*24*time.Hour, 0
	for range 4 {
		p.retainUntilKilled(ahead)
		ahead += 2 * time.Minute // the lease of who was killed has lapsed
		if p.onceEach(serials, ahead) {
			stray++
		}
	}
	if stray == 0 {
		t.Error("no file was ever left without its transaction: nothing was tried")
	}
	db, c, err := openRetaining(t.Context(), p.Dir, p.Config, ahead)
	p.must(err)
	_, err = c.Retain(t.Context())
	p.must(err)
	again, err := c.Retain(t.Context())
	p.must(err)
	p.must(db.Close())
	if again.Certificates+len(again.Archives)+again.Adopted+again.Strays != 0 {
		t.Errorf("a pass after the last one found something to do: %+v", again)
	}
	if p.onceEach(serials, ahead) {
		t.Error("a file without a manifest is left")
	}
	t.Logf("of 4 kills %d left a file without its transaction", stray)
}

// operatorCertificate issues one and returns its serial.
func (p *Plane) operatorCertificate(name string) pki.Serial {
	p.t.Helper()
	key, err := pki.ECDSAP256.Generate()
	p.must(err)
	csr, err := pki.NewCSR(key)
	p.must(err)
	issued, err := p.IssueOperator(p.t.Context(), onSocket, &api.IssueOperatorRequest{Name: name, Csr: csr})
	p.must(err)
	chain, err := pki.ParseChainDER(issued.Chain)
	p.must(err)
	serial, err := pki.SerialOf(chain.Leaf)
	p.must(err)
	return serial
}

// retainUntilKilled kills the process once one more file lies in the archive.
func (p *Plane) retainUntilKilled(ahead time.Duration) {
	p.t.Helper()
	before, err := archiveOf(p.Dir).Names()
	p.must(err)
	self, err := os.Executable()
	p.must(err)
	process := exec.Command(self)
	process.Env = append(os.Environ(), retainerOf+"="+p.Dir, fmt.Sprintf("%s=%d", aheadBy, int(ahead.Seconds())))
	process.Stderr = p.t.Output()
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.must(process.Start())
	for deadline := time.Now().Add(Patience); ; {
		now, err := archiveOf(p.Dir).Names()
		p.must(err)
		if len(now) > len(before) {
			break
		}
		if time.Now().After(deadline) {
			p.t.Fatal("no archive was written")
		}
	}
	p.must(process.Process.Kill())
	_ = process.Wait() // killed
}

// onceEach checks that each certificate is a row or a line of an archive that
// the store has a manifest of, and not both. It says whether a file lies there
// without one.
func (p *Plane) onceEach(serials []pki.Serial, ahead time.Duration) (stray bool) {
	p.t.Helper()
	db, _, err := openRetaining(p.t.Context(), p.Dir, p.Config, ahead)
	p.must(err)
	defer db.Close()
	p.must(db.Read(p.t.Context(), func(tx *store.Tx) error {
		archives, err := tx.Archives(p.t.Context())
		p.must(err)
		lines, known := map[string]int{}, map[string]bool{}
		for _, one := range archives {
			known[one.File] = true
			_, records, err := archiveOf(p.Dir).Stray(one.File)
			p.must(err)
			for _, record := range records {
				lines[record.Serial]++
			}
		}
		for _, serial := range serials {
			_, err := tx.Certificate(p.t.Context(), serial)
			if row := err == nil; fault.CodeOf(err) != fault.NotFound && !row || row == (lines[serial.String()] == 1) || lines[serial.String()] > 1 {
				p.t.Fatalf("certificate %s: row %v, %d lines, %v", serial, row, lines[serial.String()], err)
			}
		}
		names, err := archiveOf(p.Dir).Names()
		for _, name := range names {
			stray = stray || !known[name]
		}
		return err
	}))
	return stray
}
